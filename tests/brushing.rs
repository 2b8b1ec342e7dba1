//! `brushing` as a user has it: folders and jobs in, points and tables out, and streams that break.

use crate::processes::hosts;
use crate::support::packed::gzip;
use crate::support::program::{Place, Started};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

const S0: &str = "{\"time\":1700000000,\"tick\":0,\"battery\":0.9,\"tick_interval\":0.5}\n";

/// Lines of line protocol in any order.
pub fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn tables_and_points_are_the_same_bytes_on_any_workers_and_processes() {
    let place = Place::new();
    place.run("generate brushing --out in --toothbrushes 4 --datasets 6 --minutes 0.5 --mess 0.1").succeeds();
    let said = place.run("run brushing datasets=in --out alone -w 1").succeeds().stderr;
    assert!(said.contains(", from 24 datasets ("), "{said}");
    let tables = |folder: &str| -> BTreeMap<String, Vec<u8>> {
        place.files(folder).into_iter().filter(|(name, _)| name.ends_with(".csv")).collect()
    };
    assert_eq!(tables("alone").len(), 4);
    let alone = place.read("alone/points.lp");
    assert!(alone.lines().count() > 5_000);
    for workers in [2, 3] {
        place.run(&format!("run brushing datasets=in --out out-{workers} -w {workers}")).succeeds();
        assert_eq!(tables(&format!("out-{workers}")), tables("alone"));
        assert!(place.read(&format!("out-{workers}/points.lp")) == alone, "{workers} workers");
    }
    hosts(&place);
    let words = |process: usize| format!("run brushing datasets=in --out both -w 1 -n 2 -p {process} --hosts hosts");
    let processes: Vec<Started> = [0, 1].map(|process| place.start(&words(process))).into();
    for process in processes {
        process.finish().succeeds();
    }
    assert_eq!(tables("both"), tables("alone"));
    assert!(place.read("both/points.lp") == alone, "two processes");
    // Any order of deliveries.
    place.run("run brushing datasets=in/brush-0002 --then datasets=in/brush-0000 --then datasets=in/brush-0003 --then datasets=in/brush-0001 --out split").succeeds();
    // The skipped lines are those of their inputs: they are named otherwise.
    let mut split = tables("split");
    assert_eq!(
        split.remove("rejected.csv").map(|rows| rows.split(|byte| *byte == b'\n').count()),
        Some(place.read("alone/rejected.csv").lines().count() + 1)
    );
    split.insert("rejected.csv".into(), place.read("alone/rejected.csv").into());
    assert_eq!(split, tables("alone"));
    assert!(place.read("split/points.lp") == alone, "any order");
}

#[test]
fn jobs_are_named_in_a_file_and_what_is_wrong_with_them_is_said() {
    let place = Place::new();
    place.write("jobs/a.csv", "0,1,0.5\n1,1,0.75\n");
    place.write("jobs/s.jsonlines", S0);
    place.write("jobs/none.jsonlines", "nothing good\n");
    let long: String = (0..50_000).map(|tick| format!("{tick},{},0.{}\n", tick % 32, tick * 7 % 1_000)).collect();
    let packed = gzip(&long);
    place.write("jobs/whole.csv.gz", &packed);
    place.write("jobs/broken.csv.gz", &packed[..packed.len() / 2]);
    let job = |id: &str, brushing: &str, settings: &str| {
        format!("{{\"job_id\":\"{id}\",\"toothbrush_id\":\"t\",\"brushing\":\"{brushing}\",\"settings\":\"{settings}\"}}\n")
    };
    let jobs = [
        job("broken", "broken.csv.gz", "s.jsonlines"),
        job("good", "a.csv", "s.jsonlines"),
        "{\"job_id\":\"x\"}\n".into(),
        job("hopeless", "a.csv", "none.jsonlines"),
        job("missing", "gone.csv", "s.jsonlines"),
        job("packed", "whole.csv.gz", "s.jsonlines"),
        job("elsewhere", "ftp://h/a.csv", "s.jsonlines"),
    ];
    place.write("jobs/jobs.jsonl", jobs.concat());
    let said = place.run("run brushing datasets=jobs/jobs.jsonl --out out").succeeds().stderr;
    // A job, a line, and three datasets that could not be read.
    assert!(said.contains("batch 1: 3 records, 0 late, 5 rejected, from 6 datasets ("), "{said}");
    assert!(
        said.contains("  not read: 4 of 6 datasets, \"t/broken\" the first: could not read \"jobs/broken.csv.gz\" after byte"),
        "{said}"
    );
    assert!(said.contains("wrote out/points.lp"), "{said}");
    let rows = place.read("out/brushing_jobs.csv");
    let row = |id: &str| rows.lines().find(|row| row.starts_with(&format!("t,{id},"))).unwrap_or_else(|| panic!("{rows}")).to_string();
    assert_eq!(row("good"), "t,good,done,2023-11-14T22:13:20Z,2023-11-14T22:13:21Z,0,2,1,0,");
    let error = "no line of settings.jsonlines is good: the line is no JSON object (1 of 1 lines, line 1 the first)";
    assert_eq!(row("hopeless"), format!("t,hopeless,unsalvageable,,,,0,0,1,\"{error}\""));
    assert!(row("packed").contains(",0,50000,1,0,"));
    assert!(row("missing").contains("could not open \"\"jobs/gone.csv\"\": No such file"), "{rows}");
    assert!(row("elsewhere").contains("URLs of this kind are not read"), "{rows}");
    let broken = row("broken");
    assert!(
        broken.starts_with("t,broken,failed,,,,") && broken.contains("could not read \"\"jobs/broken.csv.gz\"\" after byte"),
        "{broken}"
    );
    // What was written of it is counted, and written once.
    let points = place.read("out/points.lp");
    let mine: Vec<&str> = points.lines().filter(|line| line.starts_with("brushing,toothbrush_id=t,dataset_id=broken ")).collect();
    assert!(!mine.is_empty() && broken.contains(&format!(",{},1,0,", mine.len())), "{broken}");
    assert_eq!(mine.len(), sorted(&mine.join("\n")).windows(2).filter(|pair| pair[0] != pair[1]).count() + 1);
    let rejected = place.read("out/rejected.csv");
    let rejected: Vec<&str> = rejected.lines().skip(1).collect();
    assert_eq!(
        [rejected[0], rejected[3]],
        [
            "datasets,jobs/jobs.jsonl,3,toothbrush_id is missing,\"{\"\"job_id\"\":\"\"x\"\"}\"",
            "datasets,jobs/jobs.jsonl/t/hopeless/settings.jsonlines,1,the line is no JSON object,nothing good",
        ]
    );
    for (row, dataset) in [(1, "broken"), (2, "elsewhere"), (4, "missing")] {
        assert!(rejected[row].starts_with(&format!("datasets,jobs/jobs.jsonl/t/{dataset},1,\"could not ")), "{rejected:?}");
    }
    assert_eq!(rejected.len(), 5);
    assert_eq!(place.read("out/brushing_teeth.csv").lines().nth(2).map(|row| row.starts_with("t,1,1565,")), Some(true));
}

/// The key of a dataset is not what it was found by: folders between, the ending of what packed a file, a path that is the dataset itself.
#[test]
fn a_skipped_line_is_named_by_the_path_of_its_file() {
    let place = Place::new();
    place.write("in/house/b/d/brushing.csv", "0,3,0.5\nx\n");
    place.write("in/house/b/d/settings.jsonlines", S0);
    place.write("in/house/b/e/brushing.csv.gz", gzip("0,3,0.5\nx\n"));
    place.write("in/house/b/e/settings.jsonlines.gz", gzip("nothing good\n"));
    let sources = |datasets: &str| -> Vec<String> {
        place.run(&format!("run brushing datasets={datasets} --out out")).succeeds();
        let rows = place.read("out/rejected.csv");
        rows.lines().skip(1).filter_map(|row| row.split(',').nth(1)).map(String::from).collect()
    };
    let both = ["in/house/b/d/brushing.csv", "in/house/b/e/settings.jsonlines.gz"];
    for datasets in ["in", "in/house", "in/house/b"] {
        assert_eq!(sources(datasets), both, "{datasets}");
    }
    assert_eq!(sources("in/house/b/d"), both[..1]);
    assert!(place.read("out/brushing_jobs.csv").contains("\nb,d,done,"), "the dataset is the same");
}

/// Percentages of 10, 20, 30, and a clock that went back by a digit.
#[test]
fn skipped_lines_are_named_and_count_for_max_rejected() {
    let place = Place::new();
    place.write("in/b/percent/brushing.csv", format!("tick,tooth,percent_clean\n{}", "0,3,10\n".repeat(120)));
    place.write("in/b/percent/settings.jsonlines", S0);
    place.write("in/b/clock/brushing.csv", "0,3,0.5\n40,3,0.5\n");
    place.write("in/b/clock/settings.jsonlines", format!("{S0}{{\"time\":170000008,\"tick\":16,\"battery\":0.8}}\n"));
    let run = "run brushing datasets=in";
    let said = place.run(&format!("{run} --out out --max-rejected 121")).succeeds().stderr;
    assert!(said.contains("batch 1: 2 records, 0 late, 121 rejected, from 2 datasets ("), "{said}");
    let rows = place.read("out/rejected.csv");
    assert_eq!(rows.lines().count(), 1 + 1 + 100);
    assert_eq!(
        rows.lines().skip(1).take(2).collect::<Vec<_>>(),
        [
            "datasets,in/b/clock/settings.jsonlines,2,time is before the last one,\"{\"\"time\"\":170000008,\"\"tick\"\":16,\"\"battery\"\":0.8}\"",
            "datasets,in/b/percent/brushing.csv,2,percent_clean is no number from 0 to 1,\"0,3,10\"",
        ]
    );
    let error = "no line of brushing.csv is good: percent_clean is no number from 0 to 1 (120 of 120 lines, line 2 the first)";
    assert_eq!(
        place.read("out/brushing_jobs.csv").lines().skip(1).collect::<Vec<_>>(),
        [
            "b,clock,done,2023-11-14T22:13:20Z,2023-11-14T22:13:40.500000Z,19.5,2,1,1,".to_string(),
            format!("b,percent,unsalvageable,,,,0,1,120,\"{error}\""),
        ]
    );
    // Those that are not kept count too.
    place.run(&format!("{run}/b/percent --max-rejected 119")).fails().names(&["--max-rejected 119", "brushing.csv:2: percent_clean is no"]);
}

#[test]
fn a_dataset_that_comes_again_replaces_what_it_was_and_can_be_taken_away() {
    let place = Place::new();
    for (folder, brushing) in [("one/t/d", "0,1,0.5\n1,1,0.5\n"), ("two/t/d", "0,1,0.5\n2,1,0.5\n"), ("one/t/e", "0,1,1\n")] {
        place.write(&format!("{folder}/brushing.csv"), brushing);
        place.write(&format!("{folder}/settings.jsonlines"), S0);
    }
    place.run("run brushing datasets=one --then datasets=two --then datasets-=one/t/e --out out --changes changes.jsonl").succeeds();
    assert_eq!(
        place.read("out/brushing_jobs.csv").lines().skip(1).collect::<Vec<_>>(),
        ["t,d,done,2023-11-14T22:13:20Z,2023-11-14T22:13:21.500000Z,0.5,2,1,0,"]
    );
    assert_eq!(place.read("out/brushing_daily.csv").lines().nth(1), Some("t,2023-11-14,1,0.025,0.5"));
    assert_eq!(place.read("out/brushing_teeth.csv").lines().nth(1), Some("t,1,2,0.5"));
    let points = place.read("out/points.lp");
    let head = "brushing,toothbrush_id=t,dataset_id=d";
    // Of each series what was first, and then what took it back.
    let (other, force) = ("brushing,toothbrush_id=t,dataset_id=e", "battery=0.9,tick_interval=0.5");
    let settings = |dataset: &str| format!("settings,toothbrush_id=t,dataset_id={dataset}");
    let expected = [
        format!("{head} tick=0i,tooth=1i,percent_clean=0.5,{force} 1700000000000000000"),
        format!("{head} tick=1i,tooth=1i,percent_clean=0.5,{force} 1700000000500000000"),
        format!("{head} tick=2i,tooth=1i,percent_clean=0.5,{force},retracted=false 1700000001000000000"),
        format!("{head} retracted=true 1700000000500000000"),
        format!("{other} tick=0i,tooth=1i,percent_clean=1,{force} 1700000000000000000"),
        format!("{other} retracted=true 1700000000000000000"),
        format!("{} tick=0i,{force} 1700000000000000000", settings("d")),
        format!("{} tick=0i,{force} 1700000000000000000", settings("e")),
        format!("{} retracted=true 1700000000000000000", settings("e")),
    ];
    assert_eq!(points.lines().collect::<Vec<_>>(), expected);
    assert!(
        place
            .read("changes.jsonl")
            .lines()
            .any(|line| line.starts_with("{\"epoch\":3,\"table\":\"brushing_jobs\"") && line.ends_with("\"diff\":-1}"))
    );
    // In the same place, the old points can't be read any more.
    let first = "datasets=one/t/d";
    let said = place.run(&format!("run brushing {first} --then {first} --out again")).succeeds().stderr;
    assert!(!said.contains("may remain") && said.contains("batch 2: 1 record, 0 late, 0 rejected, from 1 dataset ("), "{said}");
    assert_eq!(place.read("again/points.lp").lines().count(), 3, "the same again changes nothing");
}

#[test]
fn points_go_where_they_are_told_or_the_run_fails() {
    let place = Place::new();
    place.write("t/d/brushing.csv", "0,1,0.5\n");
    place.write("t/d/settings.jsonlines", S0);
    place.run("run brushing datasets=t --points file:deep/p.lp --tables brushing_daily").succeeds();
    assert_eq!(place.read("deep/p.lp").lines().count(), 2);
    place.run("run brushing datasets=t --points file:deep/p.lp --out out").succeeds();
    assert_eq!(place.read("deep/p.lp").lines().count(), 2, "the file is rebuilt");
    assert!(!place.has("out/points.lp"));
    place.run("run brushing datasets=t --points file:/dev/null").succeeds();
    place.run("run brushing datasets=t").succeeds();
    let failure = place.run("run brushing datasets=t --points file:/dev/full --out full").fails();
    failure.names(&["could not write points to \"/dev/full\"", "no space is left on the disk"]);
    assert!(!place.has("full/brushing_jobs.csv"));
    place.run("run brushing datasets=t --points file:t").fails().names(&["could not open \"t\" for points"]);
    place.run("run brushing datasets=t --points elsewhere").fails_as_wrong_usage().names(&["--points \"elsewhere\" is no destination"]);
    place.run("run brushing datasets=t --points file:p --teeth 0").fails_as_wrong_usage().names(&["--teeth \"0\""]);
    place.run("run brushing datasets=t --max-gap 1x").fails_as_wrong_usage().names(&["--max-gap \"1x\""]);
    place.run("run brushing datasets=none").fails().names(&["none"]);
    place.write("empty/README", "");
    place.run("run brushing datasets=empty").fails().names(&["no dataset below \"empty\"", "brushing.csv and settings.jsonlines"]);
}

#[test]
fn a_run_that_fails_leaves_the_points_of_the_one_before() {
    let place = Place::new();
    place.write("t/d/brushing.csv", "0,1,0.5\n");
    place.write("t/d/settings.jsonlines", S0);
    place.run("run brushing datasets=t --then datasets=none --out out").fails().names(&["none"]);
    assert!(!place.has("out") || place.names("out").is_empty());
    place.run("run brushing datasets=t --out out").succeeds();
    let before = place.files("out");
    assert!(before.contains_key("points.lp") && !before.contains_key("points.lp.partial"));
    place.write("jobs.jsonl", "nothing\n");
    place.run("run brushing datasets=t --then datasets=none --out out").fails().names(&["none"]);
    place.run("run brushing datasets=t datasets=jobs.jsonl --out out --max-rejected 0").fails().names(&["--max-rejected 0"]);
    std::fs::create_dir(place.path("changes")).unwrap();
    place.run("run brushing datasets=t --out out --changes changes").fails().names(&["\"changes\""]);
    assert_eq!(place.files("out"), before);
    // Tables come first.
    std::fs::create_dir_all(place.path("other/brushing_jobs.csv")).unwrap();
    place.run("run brushing datasets=t --out other").fails().names(&["other/brushing_jobs.csv"]);
    assert_eq!(place.names("other"), ["brushing_jobs.csv"]);
    // A run that was killed has left this; one that is under way has locked it.
    place.write("out/points.lp.partial", "half a po");
    place.run("run brushing datasets=t --out out").succeeds();
    assert_eq!(place.files("out"), before);
    place.write("out/points.lp.partial", "");
    let other = std::fs::File::open(place.path("out/points.lp.partial")).unwrap();
    other.lock().unwrap();
    place.run("run brushing datasets=t --out out").fails().names(&["out/points.lp\"", "another run is writing it"]);
    drop(other);
    place.run("run brushing datasets=t --out out").succeeds();
    assert_eq!(place.files("out"), before);
}

/// Whether a process has a file of this name open, by what Linux says of it.
fn has_open(id: u32, name: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|path| path.ends_with(name)))
}

/// Starts a run of two datasets, and holds it: the settings of the first one come from a pipe, and it has begun to read its `held.csv`. The
/// second one's `later.csv` has not been opened yet. The run goes on when the pipe is dropped.
fn held(place: &Place) -> (Started, File) {
    let lines: String = (0..60_000).map(|tick| format!("{tick},1,0.5\n")).collect();
    place.write("held.csv", &lines);
    place.write("later.csv", &lines);
    place.write("settings.jsonlines", S0);
    let job = |id: &str, settings: &str| {
        format!("{{\"job_id\":\"{id}\",\"toothbrush_id\":\"t\",\"brushing\":\"{id}.csv\",\"settings\":\"{settings}\"}}\n")
    };
    place.write("jobs.jsonl", job("held", "pipe") + &job("later", "settings.jsonlines"));
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    // To open one for both does not wait for another process.
    let mut pipe = File::options().read(true).write(true).open(place.path("pipe")).unwrap();
    pipe.write_all(S0.as_bytes()).unwrap();
    let mut run = place.start("run brushing datasets=jobs.jsonl --out out -w 1");
    let id = run.id();
    run.until("it reads", || has_open(id, "held.csv"));
    (run, pipe)
}

#[test]
fn a_file_of_a_dataset_that_changes_fails_the_run() {
    let place = Place::new();
    let (run, pipe) = held(&place);
    drop(pipe);
    run.finish().succeeds();
    assert_eq!(place.read("out/brushing_jobs.csv").matches(",0,60000,1,0,").count(), 2);
    let bytes = fs::metadata(place.path("held.csv")).unwrap().len();
    let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(30_000).unwrap();
    let append = |path: &Path| File::options().append(true).open(path).unwrap().write_all(b"60000,1,0.5\n").unwrap();
    let replace = |path: &Path| {
        fs::copy(path, path.with_extension("new")).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    };
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let changes: [(&str, &str, &dyn Fn(&Path), String); 6] = [
        ("held.csv", "could not read \"held.csv\" after byte ", &cut, ", and is 30000 bytes of ".into()),
        ("held.csv", "could not read \"held.csv\" after byte ", &append, format!(", and is {} bytes of ", bytes + 12)),
        ("later.csv", "could not open \"later.csv\": ", &cut, ", and is 30000 bytes of ".into()),
        ("later.csv", "could not open \"later.csv\": ", &append, format!(", and is {} bytes of ", bytes + 12)),
        ("later.csv", "could not open \"later.csv\": ", &replace, format!(", and is {bytes} bytes of ")),
        ("later.csv", "could not open \"later.csv\": ", &remove, ", and is missing".into()),
    ];
    for (name, tried, change, found) in changes {
        let place = Place::new();
        let (run, pipe) = held(&place);
        change(&place.path(name));
        drop(pipe);
        let was = format!("it changed while the run was reading: it was {bytes} bytes of ");
        let failure = run.finish().fails().names(&[tried, &was, &found]);
        assert!(failure.hint.is_some_and(|hint| hint.contains("give a copy of the dataset")), "{name}");
        assert!(!place.has("out") || place.names("out").is_empty());
    }
}

/// Of files that are named in jobs, and of what is elsewhere, other failures are those of their datasets, and tried again.
#[test]
fn a_file_that_is_broken_and_stays_as_it_is_fails_its_dataset_alone() {
    let place = Place::new();
    let packed = gzip(&"0,1,0.5\n".repeat(10_000));
    dataset(&place, "in/b/good", "0,1,0.5\n", S0);
    place.write("in/b/broken/brushing.csv.gz", &packed[..packed.len() / 2]);
    place.write("in/b/broken/settings.jsonlines", S0);
    place.write("in/b/none/settings.jsonlines", S0);
    place.run("run brushing datasets=in --out out").succeeds();
    let rows = place.read("out/brushing_jobs.csv");
    let states: Vec<&str> = rows.lines().skip(1).filter_map(|row| row.split(',').nth(2)).collect();
    assert_eq!(states, ["failed", "done", "failed"], "{rows}");
}

#[test]
fn charts_are_drawn() {
    let place = Place::new();
    place.run("generate brushing --out in --toothbrushes 2 --datasets 4 --minutes 0.2").succeeds();
    place.run("run brushing datasets=in --charts charts").succeeds();
    assert_eq!(place.names("charts"), ["brushing_loss.png", "brushing_loss.svg", "brushing_minutes.png", "brushing_minutes.svg"]);
}

/// Writes a dataset.
fn dataset(place: &Place, folder: &str, brushing: impl AsRef<[u8]>, settings: &str) {
    place.write(&format!("{folder}/brushing.csv"), brushing);
    place.write(&format!("{folder}/settings.jsonlines"), settings);
}

/// The first line lost a digit.
#[test]
fn times_before_not_before_are_of_a_clock_that_was_never_set() {
    let place = Place::new();
    let line = |time: &str, tick: u32| format!("{{\"time\":{time},\"tick\":{tick},\"battery\":0.9,\"tick_interval\":1}}\n");
    let settings = line("170000000", 0) + &line("1700000010", 10) + &line("1700000011", 11);
    dataset(&place, "in/b/d", "0,3,0.5\n10,3,0.5\n", &settings);
    place.run("run brushing datasets=in --out out").succeeds();
    assert_eq!(place.read("out/brushing_daily.csv").lines().nth(1), Some("b,2023-11-14,1,0.2,9"));
    let rejected = place.read("out/rejected.csv");
    assert!(rejected.contains("settings.jsonlines,1,\"time is before --not-before: a clock"), "{rejected}");
    place.run("run brushing datasets=in --out out --not-before 1970-01-01").succeeds();
    assert_eq!(place.read("out/brushing_daily.csv").lines().nth(1).map(|row| row.starts_with("b,1975-05-22,1,")), Some(true));
    // Ticks before all settings are timed by the first, backwards.
    dataset(&place, "early/b/d", "0,3,0.5\n20,3,0.5\n", &line("946684810", 20));
    place.run("run brushing datasets=early --out early-out").succeeds();
    assert!(place.read("early-out/rejected.csv").contains("brushing.csv,1,the time of the tick is out of range,"));
    dataset(&place, "twelve/b/d", "0,3,0.5\n", &line("12", 0));
    place.run("run brushing datasets=twelve").fails().names(&["could not read any of the 1 datasets of \"twelve\"", "--not-before"]);
}

#[test]
fn datasets_of_which_nothing_can_be_read_are_counted_and_fail_a_run_that_has_no_others() {
    let place = Place::new();
    dataset(&place, "good/b/d", "0,3,0.5\n1,3,0.5\n", S0);
    place.write("bad/b/d/brushing.csv", "0,3,0.5\n");
    dataset(&place, "mixed/b/e", "0,3,0.5\n", S0);
    place.write("mixed/b/d/brushing.csv", "0,3,0.5\n");
    place.run("run brushing datasets=good --out sqlite:t.db").succeeds();
    // Alone, it fails the run, and what was there remains.
    let why = "could not open \"bad/b/d/settings.jsonlines\": No such file";
    let failed = place.run("run brushing datasets=bad --out sqlite:t.db --tables brushing_daily").fails();
    let failed = failed.names(&["could not read any of the 1 datasets of \"bad\"", why]);
    assert!(failed.hint.is_some_and(|hint| hint.contains("--max-rejected")));
    place.run("run brushing datasets=good --out kept").succeeds();
    let kept = place.files("kept");
    place.run("run brushing datasets=bad --out kept").fails();
    assert_eq!(place.files("kept"), kept);
    place.run("run brushing datasets=good --then datasets=bad --out out").fails().names(&[why]);
    place.run("run brushing datasets=bad --max-rejected 1 --out out").succeeds();
    dataset(&place, "hopeless/b/d", "0,3,0.5\n", "");
    place.run("run brushing datasets=hopeless").fails().names(&["could not read any of the 1 datasets", "settings.jsonlines has no line"]);
    place.run("run brushing datasets=mixed datasets=hopeless --max-rejected 0").fails().names(&["--max-rejected 0"]);
    // Beside others, it is said.
    place.run("run brushing datasets=mixed --max-rejected 0").fails().names(&["--max-rejected 0", "mixed/b/d", "could not open"]);
    let said = place.run("run brushing datasets=good --then datasets=mixed --tables brushing_daily --out late").succeeds().stderr;
    assert!(said.contains("batch 2: 1 record, 0 late, 1 rejected, from 2 datasets ("), "{said}");
    let note = "not read: 1 of 2 datasets, \"b/d\" the first: could not open \"mixed/b/d/settings.jsonlines\": No such file";
    assert!(said.contains(note) && said.contains("; 1 of them had been read before: the last delivery counts"), "{said}");
    assert!(place.read("late/rejected.csv").contains("datasets,mixed/b/d,1,\"could not open \"\"mixed/b/d/settings.jsonlines\"\""));
    // The same as it was is not read again, and can be read no better.
    place.run("run brushing datasets=hopeless datasets=good --then datasets=hopeless").fails().names(&["has no line"]);
    place.run("run brushing datasets=good --then datasets-=good --out away").succeeds();
}

/// Errors name what was given, and not what a state has of it.
#[test]
fn a_state_names_streams_as_they_were_given() {
    let place = Place::new();
    dataset(&place, "good/b/d", "0,3,0.5\n1,3,0.5\n", S0);
    place.run("run brushing datasets=good --state st --out out").succeeds();
    place.write("bad/b/d/brushing.csv", "0,3,0.5\n");
    let why = "could not open \"bad/b/d/settings.jsonlines\": No such file";
    let failed = place.run("run brushing datasets=bad --state st --out out").fails();
    failed.names(&["could not read any of the 1 datasets of \"bad\"", why]);
    place.run("run brushing --state st --out out").succeeds();
    assert!(place.read("out/brushing_jobs.csv").lines().nth(1).is_some_and(|row| row.starts_with("b,d,done,")), "it was not taken");
    // Of a batch with others it is, and remains so.
    dataset(&place, "bad/b/e", "0,3,0.5\n", S0);
    place.write("bad/b/f/brushing.csv.gz", "0,3,0.5\n");
    place.write("bad/b/f/settings.jsonlines", S0);
    place.run("run brushing datasets=bad --state st --out out").succeeds();
    for _ in 0..2 {
        let jobs = place.read("out/brushing_jobs.csv");
        assert!(jobs.contains("b,d,failed,") && jobs.contains("could not open \"\"bad/b/d/settings.jsonlines\"\": No such file"), "{jobs}");
        assert!(jobs.contains("b,f,failed,") && jobs.contains("could not read \"\"bad/b/f/brushing.csv.gz\"\" after byte"), "{jobs}");
        place.run("run brushing --state st --out out").succeeds();
    }
    place.run("verify --state st").succeeds();
}

#[test]
fn streams_are_read_as_inputs_are() {
    let place = Place::new();
    let row = |brushing: Vec<u8>, settings: Vec<u8>| {
        place.write("in/b/d/brushing.csv", brushing);
        place.write("in/b/d/settings.jsonlines", settings);
        place.run("run brushing datasets=in --out out --max-rejected 100").succeeds();
        place.read("out/brushing_jobs.csv").lines().nth(1).unwrap_or_default().to_string()
    };
    let utf16 = |text: &str| -> Vec<u8> { std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect() };
    let text = "tick,tooth,percent_clean\n0,3,0.5\n1,3,0.25\n";
    let good = "b,d,done,2023-11-14T22:13:20Z,2023-11-14T22:13:21Z,0,2,1,0,";
    let of = |text: &str| text.as_bytes().to_vec();
    assert_eq!(row(of(text), of(S0)), good);
    assert_eq!(row(utf16(text), utf16(S0)), good, "UTF-16 with a mark");
    assert_eq!(row(of(&format!("\u{feff}{text}")), of(S0)), good);
    for (delimiter, point) in [(";", "."), (";", ","), ("|", "."), ("\t", ".")] {
        let text = text.replace(',', delimiter).replace("0.", &format!("0{point}"));
        assert_eq!(row(of(&text), of(S0)), good, "{text}");
        let (_, lines) = text.split_once('\n').unwrap();
        assert_eq!(row(of(lines), of(S0)), good, "without a header: {lines}");
    }
    let lacks = row(of(&text.replace("percent_clean", "percent")), of(S0));
    let error = "no line of brushing.csv is good: the header does not name percent_clean (perhaps \"\"percent\"\" is meant)";
    assert!(lacks.starts_with("b,d,unsalvageable,,,,0,1,2,") && lacks.contains(error), "{lacks}");
    // What a file holds is seen in its first bytes, too.
    let unmarked = |text: &str| utf16(text)[2..].to_vec();
    let held = row(gzip(text), of(S0));
    assert!(held.starts_with("b,d,failed,") && held.contains("brushing.csv\"\" after byte") && held.contains(": it holds gzip"), "{held}");
    let held = row(unmarked(text), of(S0));
    assert!(held.contains(": it holds UTF-16 text without a byte order mark (--encoding"), "{held}");
    place.write("unmarked/b/d/brushing.csv", unmarked(text));
    place.write("unmarked/b/d/settings.jsonlines", unmarked(S0));
    for state in ["", " --state st"] {
        place.run(&format!("run brushing datasets=unmarked --encoding utf-16le --out unmarked-out{state}")).succeeds();
        assert_eq!(place.read("unmarked-out/brushing_jobs.csv").lines().nth(1), Some(good), "{state}");
    }
    place.write("jobs/ticks", gzip(text));
    place.write("jobs/s.jsonlines", S0);
    place.write("jobs/jobs.jsonl", "{\"job_id\":\"d\",\"toothbrush_id\":\"b\",\"brushing\":\"ticks\",\"settings\":\"s.jsonlines\"}\n");
    for state in ["", " --state jobs-st"] {
        place.run(&format!("run brushing datasets=jobs/jobs.jsonl --out jobs-out{state}")).succeeds();
        assert_eq!(place.read("jobs-out/brushing_jobs.csv").lines().nth(1), Some(good), "{state}");
    }
}

#[test]
fn check_says_which_datasets_can_be_read() {
    let place = Place::new();
    dataset(&place, "in/b/good", "0,3,0.5\n1,3,x\n2,3,0.5\n", S0);
    dataset(&place, "in/b/percent", "0,3,50\n1,3,60\n", S0);
    dataset(&place, "in/b/none", "0,3,0.5\n", "");
    place.write("in/b/half/brushing.csv", "0,3,0.5\n");
    dataset(&place, "in/b/long", "0,3,0.5\n".repeat(400_000), S0);
    let said = place.run("check brushing datasets=in").succeeds().stdout;
    assert_eq!(
        said.lines().take(4).collect::<Vec<_>>(),
        [
            "datasets in: 5 datasets",
            "  5 by their beginnings: 2 can be read, 3 can't",
            &format!("  of those that can be read, {} lines would be skipped", lines_between(&said)),
            "  refused 1, \"b/half\" the first: could not open \"in/b/half/settings.jsonlines\": No such file or directory (os error 2)",
        ],
        "{said}"
    );
    assert!(said.contains("refused 1, \"b/none\" the first: settings.jsonlines has no line"), "{said}");
    assert!(said.contains("\"b/percent\" the first: no line of brushing.csv is good: percent_clean is no number from 0 to 1"), "{said}");
    for number in 0..30 {
        dataset(&place, &format!("many/b/{number:02}"), "0,3,0.5\n", S0);
    }
    let said = place.run("check brushing datasets=many").succeeds().stdout;
    assert!(said.contains("many: 30 datasets\n  the first 20 by their beginnings: 20 can be read, 0 can't\n"), "{said}");
    let said = place.run("check brushing datasets=in/b/good").succeeds().stdout;
    assert!(said.starts_with("datasets in/b/good: 1 dataset\n") && said.contains("can be read, 1 line would be skipped\n"), "{said}");
    place.write("jobs.jsonl", "{\"job_id\":\"x\"}\n");
    for (path, why) in [("jobs.jsonl", "first in line 1: toothbrush_id is missing"), ("in/b/none", "settings.jsonlines has no line")] {
        let ran = place.run(&format!("check brushing datasets={path}"));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stdout.contains(why) && ran.stderr.contains("nothing could be read of 1 files"), "{} {}", ran.stdout, ran.stderr);
    }
}

/// How many lines a check says would be skipped: of the good one 1, of the long one those of its beginning.
fn lines_between(said: &str) -> &str {
    let line = said.lines().find(|line| line.ends_with("lines would be skipped")).unwrap_or_default();
    let count = line.split_whitespace().rev().nth(4).unwrap_or_default();
    assert!((100_000..400_000).contains(&count.replace(',', "").parse().unwrap_or(0)), "{said}");
    count
}

/// Skipped lines of a dataset that was replaced or taken back are of deliveries that are no more: nothing is wrong with them.
#[test]
fn a_state_may_have_skipped_lines_of_datasets_that_were_replaced() {
    let place = Place::new();
    dataset(&place, "in/b/d", "0,3,0.5\n1,3,x\n2,3,0.5\n", S0);
    place.run("run brushing datasets=in --state st").succeeds();
    dataset(&place, "in/b/d", "0,3,0.5\n1,3,y\n2,3,0.5\n3,3,0.5\n", S0);
    place.run("run brushing datasets=in --state st").succeeds();
    let verified = place.run("verify --state st").succeeds().stdout;
    assert!(verified.contains("nothing differs"), "{verified}");
    place.run("run brushing datasets-=in --state st").succeeds();
    place.run("verify --state st").succeeds();
    place.run("compact --state st").succeeds();
    place.run("verify --state st").succeeds();
    place.run("run brushing --state st").succeeds();
    let verified = place.run("verify --state st").succeeds().stdout;
    assert!(verified.contains("rejected: 0 rows, as they should be\n"), "{verified}");
}
