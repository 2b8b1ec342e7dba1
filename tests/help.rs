//! What the program says of itself, word by word. `UPDATE=1` rewrites the snapshots.

use crate::support::program::Place;
use std::fs;

fn check(name: &str, words: &str) {
    let help = Place::new().run(words).succeeds().stdout;
    let path = format!("{}/tests/snapshots/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &help).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    assert!(known == help, "`retally {words}` says, and {path} does not (UPDATE=1 rewrites it):\n{help}");
}

#[test]
fn of_the_program() {
    check("help", "--help");
}

#[test]
fn of_check_sensors() {
    check("check-sensors", "check sensors --help");
}

#[test]
fn of_run_online() {
    check("run-online", "run online --help");
}

#[test]
fn of_run_active() {
    check("run-active", "run active --help");
}

#[test]
fn of_run_brushing() {
    check("run-brushing", "run brushing --help");
}

#[test]
fn of_launch() {
    check("launch", "launch --help");
}

#[test]
fn of_query() {
    check("query", "query --help");
}

#[test]
fn of_run_sensors() {
    check("run-sensors", "run sensors --help");
}

#[test]
fn of_run_usage() {
    check("run-usage", "run usage --help");
}

#[test]
fn of_generate_online() {
    check("generate-online", "generate online --help");
}

#[test]
fn without_a_command_help_is_shown_and_usage_wrong() {
    let ran = Place::new().run("");
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("Usage: retally"), "{}", ran.stderr);
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(Place::new().run("--version").succeeds().stdout, format!("retally {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_the_man_page_know_the_dataflows() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = place.run(&format!("completions {shell}")).succeeds().stdout;
        assert!(["online", "active", "generate"].iter().all(|word| text.contains(word)), "{shell}:\n{text}");
    }
    let page = place.run("man").succeeds().stdout;
    assert!(page.contains(".TH") && page.contains("fleet"), "{page}");
    // Columns and examples stand in lines of their own.
    for part in [
        ".SH TABLES\n.TP\n\\fBonline_daily\\fR\n",
        ".TP 28\n\\fBfleet_size\\fR\nhow many devices the user had online\n",
        ".SH EXAMPLES\n.nf\nretally serve online \\-\\-state state\ncurl ",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains(".SH EXTRA"));
}
