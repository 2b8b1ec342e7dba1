//! Names that are meant, perhaps, by one that is not there.

/// How many names are suggested.
const NEAREST_MAX: usize = 3;
/// Names that are less alike are not suggested.
const NEAREST_LIKENESS: f64 = 0.6;
/// How many names are listed where none is alike.
const LISTED_MAX: usize = 10;

/// A hint with the names that are most like one that is not there.
pub fn nearest(noun: &str, name: &str, names: &[impl AsRef<str>]) -> String {
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let mut alike: Vec<(f64, &str)> = names.iter().map(AsRef::as_ref).map(|other| (likeness(other), other)).collect();
    alike.retain(|(likeness, _)| *likeness >= NEAREST_LIKENESS);
    alike.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    if names.is_empty() {
        return format!("there is no {noun} at all");
    }
    if !alike.is_empty() {
        let quoted: Vec<String> = alike.iter().take(NEAREST_MAX).map(|(_, other)| format!("{other:?}")).collect();
        return format!("the nearest: {}", quoted.join(", "));
    }
    let listed: Vec<&str> = names.iter().map(AsRef::as_ref).take(LISTED_MAX).collect();
    let more = if names.len() > LISTED_MAX { ", …" } else { "" };
    format!("there are: {}{more}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_suggested_that_are_near() {
        let names = ["sensor_00001", "sensor_00002", "brush"];
        assert_eq!(nearest("tag", "sensr_00001", &names), "the nearest: \"sensor_00001\", \"sensor_00002\"");
        assert_eq!(nearest("tag", "xyz", &names), "there are: sensor_00001, sensor_00002, brush");
        assert_eq!(nearest("tag", "xyz", &[""; 0]), "there is no tag at all");
    }
}
