//! The name that somebody may have meant, and the flag that says so.

use retally_core::contract::Input;
use retally_core::record::Field;

/// How alike two names are at least, from 0 to 1.
const LIKENESS_MIN: f64 = 0.7;

/// The name among `names` that is most like `sought`, where one is like it at all.
pub fn nearest<'n>(sought: &str, names: &[&'n str]) -> Option<&'n str> {
    let likeness = |name: &str| {
        let (sought, name) = (sought.to_lowercase(), name.to_lowercase());
        // `value` for `sensor_value`, `userId` for `user_id`.
        let bare = |text: &str| text.chars().filter(|letter| letter.is_alphanumeric()).collect::<String>();
        let (bare_sought, bare_name) = (bare(&sought), bare(&name));
        if bare_sought == bare_name {
            return 1.0;
        }
        let part = bare_name.len() >= 3 && (bare_sought.contains(&bare_name) || bare_name.contains(&bare_sought));
        strsim::jaro_winkler(&sought, &name).max(if part { 0.9 } else { 0.0 })
    };
    let best = names.iter().map(|name| (likeness(name), *name)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).map(|(_, name)| name)
}

/// What to say of a `name` that is not among `known`: which of them it may be, and all.
pub fn there_are(name: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    nearest(name, known).map_or_else(|| format!("there are {all}"), |nearest| format!("perhaps {nearest}; there are {all}"))
}

/// The flag that maps a field to a name, for a shell.
pub fn map_flag(input: &Input, field: &Field, name: &str) -> String {
    map_flag_path(input, field, &[name])
}

/// The flag that maps a field to a path of names, the outermost first. In quotes of its own a name is one key, whatever it holds.
pub fn map_flag_path(input: &Input, field: &Field, path: &[impl AsRef<str>]) -> String {
    let quoted = |name: &str| if name.contains('.') { format!("\"{name}\"") } else { name.into() };
    let name = path.iter().map(|name| quoted(name.as_ref())).collect::<Vec<_>>().join(".");
    // Only a zero byte can't be quoted.
    let name = shlex::try_quote(&name).unwrap_or_default();
    format!("--map {}.{}={name}", input.name, field.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::sample;

    #[test]
    fn flags_can_be_pasted_into_a_shell() {
        let (input, field) = (sample::input(), &Field::new("id", ""));
        let flag = |name| map_flag(&input, field, name).split_once('=').unwrap().1.to_string();
        let names = ["imei", "Device ID", "a.b", "it's", "$x"].map(flag);
        assert_eq!(names, ["imei", "'Device ID'", "'\"a.b\"'", "\"it's\"", "'$x'"]);
        assert!(map_flag_path(&input, field, &["payload", "a.b", "id"]).ends_with("='payload.\"a.b\".id'"));
    }

    #[test]
    fn the_nearest_of_several_or_none() {
        assert_eq!(nearest("destroyed_at", &["id", "created", "deleted_at"]), Some("deleted_at"));
        assert_eq!(nearest("sensor_value", &["value", "unit"]), Some("value"));
        assert_eq!(nearest("device_id", &["user", "deviceId"]), Some("deviceId"));
        assert_eq!(nearest("connected", &["imei", "x"]), None);
        assert_eq!(nearest("connected", &[]), None);
    }
}
