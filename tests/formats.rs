//! What comes out, and what the command line shows of itself.

use crate::program::{Folder, text};
use std::collections::BTreeMap;

fn generated() -> Folder {
    let folder = Folder::new();
    folder.ok(&["generate", "online", "--out", "in", "--devices", "50", "--days", "60", "--late", "3"]);
    folder
}

const RUN: [&str; 4] = ["run", "online", "events=in/events.csv", "servers=in/servers.csv"];

#[test]
fn changes_add_up_to_the_tables() {
    let folder = generated();
    let then =
        ["--then", "events=in/late/events.csv", "--out", "out", "--changes", "changes.ndjson", "--tables", "online_daily,online_issues"];
    let output = folder.ok(&[&RUN[..], &then].concat());
    let said = text(&output.stderr);
    assert!(said.contains("batch 2: 3 records, 3 late, 0 rejected, from 1 file"), "{said}");
    let mut rows: BTreeMap<String, i64> = BTreeMap::new();
    let mut epochs = Vec::new();
    for line in folder.read("changes.ndjson").lines() {
        let change: serde_json::Value = serde_json::from_str(line).unwrap();
        epochs.push(change["epoch"].as_u64().unwrap());
        if change["table"] == "online_daily" {
            let row = &change["row"];
            let row = format!("{},{},{}", row["day"].as_str().unwrap(), row["fleet_size"].as_str().unwrap(), row["devices"]);
            *rows.entry(row).or_default() += change["diff"].as_i64().unwrap();
        }
    }
    assert!(epochs.is_sorted() && epochs.contains(&2));
    rows.retain(|_, count| *count != 0);
    assert!(rows.values().all(|count| *count == 1));
    let table = folder.read("out/online_daily.csv");
    let mut written: Vec<&str> = table.lines().skip(1).collect();
    written.sort_unstable();
    assert!(rows.keys().eq(written.iter()));
    assert!(folder.has("out/online_issues.csv") && folder.has("out/rejected.csv") && !folder.has("out/online_summary.csv"));
}

#[test]
fn formats_charts_and_the_terminal() {
    let folder = generated();
    folder.ok(&[&RUN[..], &["--out", "json", "--format", "json", "-q"]].concat());
    folder.ok(&[&RUN[..], &["--out", "csv", "-q", "--charts", "charts"]].concat());
    folder.ok(&[&RUN[..], &["--out", "parquet", "--format", "parquet", "-q"]].concat());
    let json = folder.read("json/online_daily.json");
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let csv = folder.read("csv/online_daily.csv");
    let expected = format!("{},{},{}", first["day"].as_str().unwrap(), first["fleet_size"].as_str().unwrap(), first["devices"]);
    assert_eq!(csv.lines().nth(1), Some(expected.as_str()));
    assert_eq!(json.lines().count() + 1, csv.lines().count());
    assert!(std::fs::read(folder.path().join("parquet/online_intervals.parquet")).unwrap().starts_with(b"PAR1"));
    for chart in ["online_daily", "online_rolling_28d", "online_projection"] {
        assert!(folder.read(&format!("charts/{chart}.svg")).contains("<svg"));
        assert!(std::fs::read(folder.path().join(format!("charts/{chart}.png"))).unwrap().starts_with(b"\x89PNG"));
    }
    let shown = text(&folder.ok(&[&RUN[..], &["-q", "--tables", "online_issues"]].concat()).stdout);
    assert!(shown.starts_with("online_issues: "), "{shown}");
}

#[test]
fn as_of_and_time_zones() {
    let folder = Folder::new();
    folder.write("events.csv", "2026-03-29 00:30:00,1,7,1,true\n2026-03-30 12:00:00,1,7,1,false\n2026-04-02 00:00:00,2,7,1,true\n");
    let hours = |arguments: &[&str]| {
        let run = ["run", "online", "events=events.csv", "--tables", "online_summary", "--out", "out", "-q"];
        folder.ok(&[&run[..], arguments].concat());
        folder.read("out/online_summary.csv")
    };
    let head = "day,devices,users,online_hours,new_devices\n";
    assert_eq!(hours(&[]), format!("{head}2026-03-29,1,1,23.5,1\n2026-03-30,1,1,12,0\n2026-04-02,1,1,0,1\n"));
    assert_eq!(hours(&["--as-of", "2026-03-30 06:00:00"]), format!("{head}2026-03-29,1,1,23.5,1\n2026-03-30,1,1,6,0\n"));
    // The clocks of Berlin go forward that night: the day has 23 hours.
    assert_eq!(hours(&["--timezone", "Europe/Berlin"]), format!("{head}2026-03-29,1,1,22.5,1\n2026-03-30,1,1,12,0\n2026-04-02,1,1,0,1\n"));
}

#[test]
fn a_pipe_that_is_closed_is_no_failure() {
    let folder = generated();
    let program = env!("CARGO_BIN_EXE_retally");
    let script = format!("set -o pipefail; '{program}' run online events=in/events.csv 2>&1 | head -n 1");
    let output = std::process::Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn help_comes_from_the_definitions() {
    let folder = Folder::new();
    let help = text(&folder.ok(&["run", "online", "--help"]).stdout);
    for part in ["events=", "--fleet-sizes", "1-2,3-9,10-99,100-999", "online_rolling_28d", "device_id", "--max-rejected", "-w, --workers"]
    {
        assert!(help.contains(part) || part == "events=", "{part} is missing from {help}");
    }
    assert!(text(&folder.ok(&["run", "active", "--help"]).stdout).contains("active_user_table"));
    assert!(text(&folder.ok(&["completions", "bash"]).stdout).contains("online"));
    assert!(text(&folder.ok(&["man"]).stdout).contains(".TH"));
    let demo = text(&folder.ok(&["demo", "--out", "demo"]).stdout);
    assert!(demo.contains("5 events come late") && demo.contains("online_daily.png"), "{demo}");
    assert!(folder.has("demo/charts/online_daily.png"));
}
