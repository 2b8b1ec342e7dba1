//! Names of files from names of keys, which are any text.
//!
//! A name that is made of letters, digits, `-`, `_` and `.` alone is the file's; in any other, what is not becomes `_`, and the key's id
//! follows. No name starts with a dot, and no two are the same, on disks either that take `A` and `a` for one letter.

use std::collections::BTreeSet;

/// Longer names are cut: file systems have a limit, and other names have to be put behind.
const LENGTH_MAX: usize = 80;

/// The names of files for (name, id), in order, none of them among `taken`.
pub(super) fn file_names<'k>(keys: impl Iterator<Item = (&'k str, &'k str)>, taken: &[&str]) -> Vec<String> {
    let mut used: BTreeSet<String> = taken.iter().map(|name| name.to_lowercase()).collect();
    let mut choose = |(name, id): (&str, &str)| {
        let (safe_name, safe_id) = (safe(name), safe(id));
        let both = if safe_name.is_empty() { safe_id.clone() } else { format!("{safe_name}-{safe_id}") };
        let plain = (safe_name == name && !name.is_empty()).then_some(safe_name);
        let numbered = (2..).map(|number| format!("{both}-{number}"));
        let mut candidates = plain.into_iter().chain([both.clone()]).chain(numbered);
        candidates.find(|candidate| used.insert(candidate.to_lowercase())).unwrap_or_default()
    };
    keys.map(&mut choose).collect()
}

fn safe(name: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let text: String = name.chars().take(LENGTH_MAX).map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    match text.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(keys: &[(&str, &str)]) -> Vec<String> {
        let files = file_names(keys.iter().copied(), &["daily"]);
        for file in &files {
            assert!(!file.is_empty() && !file.starts_with('.') && !file.contains(['/', '\\', '\0']) && file.len() <= 200, "{file:?}");
        }
        files
    }

    #[test]
    fn plain_names_are_names_of_files() {
        assert_eq!(files(&[("sensor_00001", "u1"), ("Küche", "u2"), ("T-2.a", "u3")]), ["sensor_00001", "K_che-u2", "T-2.a"]);
    }

    #[test]
    fn names_that_lead_elsewhere_do_not() {
        let found =
            files(&[("../../etc/passwd", "1"), ("..", "2"), ("a/b", "3"), (".hidden", "4"), ("a\\b\0", "5"), ("C:", "6"), ("", "7")]);
        assert_eq!(found, ["_._.._etc_passwd-1", "_.-2", "a_b-3", "_hidden-4", "a_b_-5", "C_-6", "7"]);
    }

    #[test]
    fn no_two_are_the_same() {
        let keys =
            [("a/b", "1"), ("a_b", "2"), ("a b", "3"), ("A_B", "4"), ("a_b-1", "5"), ("daily", "6"), ("", "x"), ("x", "7"), ("a_b", "2")];
        let found = files(&keys);
        assert_eq!(found, ["a_b-1", "a_b", "a_b-3", "A_B-4", "a_b-1-5", "daily-6", "x", "x-7", "a_b-2"]);
        assert_eq!(found.iter().map(|name| name.to_lowercase()).collect::<BTreeSet<_>>().len(), keys.len());
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (one, other) = ("ä".repeat(500) + "1", "ä".repeat(500) + "2");
        assert_eq!(files(&[(&one, "1"), (&other, "2")]), ["_".repeat(80) + "-1", "_".repeat(80) + "-2"]);
        assert_eq!(files(&[(&"n".repeat(500), "1")])[0], "n".repeat(80) + "-1");
    }
}
