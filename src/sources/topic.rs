//! Fields in topics: `devices/{device_id}/status` says that the second level of a topic is the field `device_id`.
//!
//! A level is a name in braces, `+` for any one level, or a text that must stand there; `#` at the end is for any number of further levels.

/// What the levels of a topic are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    levels: Vec<Level>,
    /// What stands between levels.
    separator: char,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Text(String),
    Field(String),
    Any,
    Rest,
}

impl Pattern {
    /// Reads a pattern, or reports why it is none.
    pub fn parse(text: &str, separator: char) -> Result<Pattern, String> {
        let levels: Vec<Level> = text.split(separator).map(Level::parse).collect::<Result<_, _>>()?;
        let pattern = Pattern { levels, separator };
        let fields: Vec<&str> = pattern.fields().collect();
        if fields.is_empty() {
            return Err("it names no field".into());
        }
        if let Some(twice) = fields.iter().enumerate().find(|(place, name)| fields.iter().take(*place).any(|other| other == *name)) {
            return Err(format!("it names {:?} twice", twice.1));
        }
        match pattern.levels.iter().position(|level| *level == Level::Rest) {
            Some(place) if place + 1 < pattern.levels.len() => Err("what stands for all further levels is not at its end".into()),
            _ => Ok(pattern),
        }
    }

    /// The names of its fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|level| match level {
            Level::Field(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Takes the values of its fields out of a topic, in order. Returns whether the topic is of this pattern.
    pub fn take<'t>(&self, topic: &'t str, values: &mut Vec<&'t str>) -> bool {
        values.clear();
        let mut found = topic.split(self.separator);
        for level in &self.levels {
            if *level == Level::Rest {
                return true;
            }
            let Some(text) = found.next() else { return false };
            match level {
                Level::Text(expected) if expected != text => return false,
                Level::Field(_) => values.push(text),
                _ => {}
            }
        }
        found.next().is_none()
    }
}

impl Level {
    fn parse(text: &str) -> Result<Level, String> {
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let is_name = !name.is_empty() && !name.contains(['{', '}', ',', '"', '\n', '@']);
            return if is_name { Ok(Level::Field(name.into())) } else { Err(format!("{text:?} is no name of a field")) };
        }
        match text {
            "+" | "*" => Ok(Level::Any),
            "#" | ">" => Ok(Level::Rest),
            _ if text.contains(['{', '}']) => Err(format!("{text:?} is a field and something else: a field is a whole level")),
            _ => Ok(Level::Text(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pattern: &str, topic: &str) -> Option<Vec<String>> {
        let mut values = Vec::new();
        let is_of = Pattern::parse(pattern, '/').unwrap().take(topic, &mut values);
        is_of.then(|| values.into_iter().map(String::from).collect())
    }

    #[test]
    fn fields_are_levels() {
        let some = |values: &[&str]| Some(values.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(taken("devices/{id}/status", "devices/7/status"), some(&["7"]));
        assert_eq!(taken("{site}/+/{id}/#", "berlin/x/7/a/b"), some(&["berlin", "7"]));
        assert_eq!(taken("{site}/#", "berlin"), some(&["berlin"]));
        assert_eq!(taken("/{id}", "/"), some(&[""]));
        for other in ["devices/7", "devices/7/status/x", "device/7/status", ""] {
            assert_eq!(taken("devices/{id}/status", other), None, "{other}");
        }
        let mut values = Vec::new();
        assert!(Pattern::parse("fleet.{id}.>", '.').unwrap().take("fleet.7.up", &mut values));
        assert_eq!(values, ["7"]);
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (pattern, why) in [
            ("devices/+", "it names no field"),
            ("{a}/{a}", "it names \"a\" twice"),
            ("#/{a}", "what stands for all further levels is not at its end"),
            ("dev-{a}", "\"dev-{a}\" is a field and something else: a field is a whole level"),
            ("{}", "\"{}\" is no name of a field"),
            ("{@a}", "\"{@a}\" is no name of a field"),
        ] {
            assert_eq!(Pattern::parse(pattern, '/').unwrap_err(), why);
        }
    }
}
