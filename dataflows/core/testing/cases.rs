//! Small histories as text: `cases/*.txt`, batches in, changes out. `UPDATE=1` rewrites the changes.
//!
//! ```text
//! # What the case shows.
//! settings: timezone=Europe/Berlin as-of=2024-03-02T12:00:00Z
//! tables: online_intervals
//!
//! batch
//! + a line that is delivered
//! - a line that is retracted
//! changes
//! - online_intervals a row that went
//! + online_intervals a row that came
//! ```
//!
//! `settings:` names what is not as by default, and `tables:` the tables that are looked at, where that is not all. How
//! lines of a batch are written is up to the dataflow ([`Language`]). Rows are in the order of their table's name and then of
//! their columns, numbers by value.

use super::{Config, Delivery, Tables, run_graph};
use crate::calendar::Calendar;
use crate::contract::{AsOf, Dataflow, Graph, Settings};
use std::collections::BTreeSet;
use std::fs;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

/// What a dataflow adds to the format of cases.
pub trait Language {
    /// The dataflow.
    fn dataflow(&self) -> &dyn Dataflow;

    /// The delivery of a line of a batch, without its sign.
    fn delivery(&self, line: &str, sign: isize) -> Delivery;

    /// Its tables after each batch.
    fn tables(&self, config: Config, settings: &Settings, batches: &[Vec<Delivery>]) -> Vec<Tables> {
        let graph: Arc<dyn Graph> = self.dataflow().graph(settings).unwrap().into();
        run_graph(config, &graph, &self.dataflow().definition().inputs, batches)
    }
}

/// Runs the cases of a folder, each on another kind of workers.
pub fn check_cases(folder: &str, language: &dyn Language) {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    assert!(!paths.is_empty(), "there are no cases in {folder}");
    paths.sort();
    let mut wrong = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        let text = fs::read_to_string(path).unwrap();
        let found = run(&text, Config::choose(number), language);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(path, &found).unwrap();
        } else if text != found {
            wrong.push(format!("{} should be (UPDATE=1 rewrites it)\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The case, with the changes that its batches make.
fn run(text: &str, config: Config, language: &dyn Language) -> String {
    let mut settings = Settings::defaults(&language.dataflow().definition().settings);
    let mut shown: Option<BTreeSet<&str>> = None;
    let mut batches: Vec<Vec<Delivery>> = Vec::new();
    let mut kept = Vec::new();
    let mut in_changes = false;
    for line in text.lines() {
        let signed = line.strip_prefix("+ ").map(|rest| (1, rest)).or(line.strip_prefix("- ").map(|rest| (-1, rest)));
        match signed {
            Some(_) if in_changes => continue,
            Some((sign, rest)) => {
                batches.last_mut().unwrap_or_else(|| panic!("before a batch: {line:?}")).push(language.delivery(rest, sign))
            }
            None => in_changes = line == "changes",
        }
        if line == "batch" {
            batches.push(Vec::new());
        }
        if let Some(pairs) = line.strip_prefix("settings:") {
            settings = pairs.split_whitespace().fold(settings, set);
        }
        if let Some(names) = line.strip_prefix("tables:") {
            shown = Some(names.split_whitespace().collect());
        }
        kept.push(line);
    }
    let mut tables = language.tables(config, &settings, &batches).into_iter();
    let mut before = Tables::new();
    let mut out = String::new();
    for line in kept {
        out += line;
        out += "\n";
        if line == "changes" {
            let mut after = tables.next().unwrap_or_else(|| panic!("there are more lines 'changes' than batches"));
            after.retain(|table, _| shown.as_ref().is_none_or(|shown| shown.contains(table.as_str())));
            changes(&before, &after).iter().for_each(|change| out += &format!("{change}\n"));
            before = after;
        }
    }
    assert_eq!(tables.next(), None, "a batch has no line 'changes'");
    out
}

fn set(settings: Settings, pair: &str) -> Settings {
    let (name, value) = pair.split_once('=').unwrap_or_else(|| panic!("a setting without value: {pair:?}"));
    if name != "as-of" {
        return settings.with(name, value);
    }
    // As on the command line: where the zone is none, a time is of UTC.
    let calendar = settings.calendar().unwrap_or_else(|_| Calendar::utc());
    settings.with_as_of(AsOf::At(calendar.parse(value.as_bytes()).unwrap()))
}

/// The rows that went and came.
fn changes(before: &Tables, after: &Tables) -> Vec<String> {
    let mut changes = Vec::new();
    for (table, rows) in after {
        let old = before.get(table).map_or(&[][..], Vec::as_slice);
        let came = rows.iter().filter(|row| !old.contains(row)).map(|row| ('+', row));
        let went = old.iter().filter(|row| !rows.contains(row)).map(|row| ('-', row));
        let mut both: Vec<_> = came.chain(went).collect();
        both.sort_by(|(_, a), (_, b)| a.iter().map(|cell| natural(cell)).cmp(b.iter().map(|cell| natural(cell))));
        changes.extend(both.into_iter().map(|(sign, row)| format!("{sign} {table} {}", row.join(","))));
    }
    changes
}

/// A text whose digits count as numbers.
fn natural(text: &str) -> Vec<Token> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(|| token(&mut chars)).collect()
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token {
    Number(u128),
    Other(char),
}

fn token(chars: &mut Peekable<Chars<'_>>) -> Option<Token> {
    let first = chars.next()?;
    let Some(digit) = first.to_digit(10) else { return Some(Token::Other(first)) };
    let mut number = u128::from(digit);
    while let Some(digit) = chars.peek().and_then(|next| next.to_digit(10)) {
        number = number.saturating_mul(10).saturating_add(u128::from(digit));
        chars.next();
    }
    Some(Token::Number(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Definition, Files, GenerateError, SettingError};

    #[test]
    fn numbers_sort_by_value() {
        let mut texts = ["1000+", "1-2", "10-99", "3-9", "b", "a12", "a9", "2024-03-10", "2024-03-09", ""];
        texts.sort_by_key(|text| natural(text));
        assert_eq!(texts, ["", "1-2", "3-9", "10-99", "1000+", "2024-03-09", "2024-03-10", "a9", "a12", "b"]);
    }

    /// A dataflow whose one table is the lines of the last batch.
    struct Echo;

    impl Dataflow for Echo {
        fn definition(&self) -> Definition {
            Definition { name: "echo", about: "", inputs: Vec::new(), settings: Vec::new(), generator: Vec::new() }
        }

        fn graph(&self, _settings: &Settings) -> Result<Box<dyn Graph>, SettingError> {
            unreachable!("its tables are made by hand")
        }

        fn generate(&self, _options: &Settings, _files: &mut dyn Files) -> Result<(), GenerateError> {
            Ok(())
        }
    }

    impl Language for Echo {
        fn dataflow(&self) -> &dyn Dataflow {
            self
        }

        fn delivery(&self, line: &str, sign: isize) -> Delivery {
            Delivery { input: 0, sign, line: line.into() }
        }

        fn tables(&self, _config: Config, settings: &Settings, batches: &[Vec<Delivery>]) -> Vec<Tables> {
            let row = |delivery: &Delivery| vec![delivery.line.clone(), delivery.sign.to_string(), settings.text("zone").into()];
            let of = |batch: &Vec<Delivery>| {
                [("said", batch), ("again", batch)].map(|(table, batch)| (table.into(), batch.iter().map(row).collect()))
            };
            batches.iter().map(|batch| Tables::from(of(batch))).collect()
        }
    }

    #[test]
    fn changes_are_stated_and_the_rest_is_kept() {
        let case = "# A case.\nsettings: zone=UTC\ntables: said\n\nbatch\n+ b\n- a\nchanges\n+ nonsense\n\n# On.\nbatch\n+ b\nchanges\n";
        let expected = "# A case.\nsettings: zone=UTC\ntables: said\n\nbatch\n+ b\n- a\nchanges\n+ said a,-1,UTC\n+ said b,1,UTC\n\n# On.\nbatch\n+ b\nchanges\n- said a,-1,UTC\n";
        assert_eq!(run(case, Config::default(), &Echo), expected);
        assert_eq!(run(expected, Config::default(), &Echo), expected);
    }
}
