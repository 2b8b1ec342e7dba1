//! Where the reading of a topic begins that has not been read before.

use retally_core::calendar::Calendar;
use retally_core::time::Moment;

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first message that the broker has.
    #[default]
    Earliest,
    /// With what is sent from now on.
    Latest,
    /// With the first message of this time, or a later one.
    At(Moment),
}

impl Start {
    /// Reads `earliest`, `latest`, or a time, which is UTC where it names no zone; or reports why it is none.
    pub fn parse(text: &str) -> Result<Start, String> {
        match text {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => {
                let wrong = |why: &dyn std::fmt::Display| format!("{text:?} is none of earliest, latest and a time: {why}");
                let day = if text.len() == "2026-01-31".len() { format!("{text}T00:00:00") } else { text.to_string() };
                Calendar::utc().parse(day.as_bytes()).map(Start::At).map_err(|error| wrong(&error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_a_time() {
        assert_eq!((Start::parse("earliest"), Start::parse("latest")), (Ok(Start::Earliest), Ok(Start::Latest)));
        let at = Start::At(Moment(1_772_409_600_000_000));
        for text in ["2026-03-02", "2026-03-02T00:00:00Z", "2026-03-02 01:00:00+01:00"] {
            assert_eq!(Start::parse(text), Ok(at), "{text}");
        }
        assert!(Start::parse("yesterday").unwrap_err().starts_with("\"yesterday\" is none of earliest, latest and a time: "));
    }
}
