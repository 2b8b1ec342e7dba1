//! `launch` on one host: the law, and who ends when. Processes that are killed at random are in `blows.rs`.

use crate::support::known::{ACTIVE, EVENTS, Known, ONLINE, SERVERS, USAGE, rows, same, shuffled, table};
use crate::support::program::{Failure, Place, Ran, Started, Unread};
use crate::support::service::{Asker, Service, free_port};
use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long anything may take to come or to go.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The processes that work in a place, but for those that launch, in the order of their starts.
pub fn processes(place: &Place) -> Vec<u32> {
    let dir = fs::canonicalize(place.path(".")).unwrap();
    let ids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |id: &u32| {
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let word = command.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd| cwd == dir) && (word == b"serve" || word == b"run")
    };
    let mut ids: Vec<u32> = ids.filter(is_ours).collect();
    ids.sort_unstable();
    ids
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + WAIT_MAX;
    while !is_so() {
        assert!(Instant::now() < until, "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a process, which may be gone.
pub fn signal(id: u32, name: &str) {
    Command::new("kill").args([&format!("-{name}"), &id.to_string()]).output().unwrap();
}

#[test]
fn a_run_of_two_processes_gives_the_bytes_of_one() {
    let place = Place::new();
    ONLINE.write_csv(&place, "all");
    let words = format!("{} events=all/events.csv servers=all/servers.csv --out out", ONLINE.run());
    let ran = place.run(&format!("launch -n 2 -w 1 -- {words}")).succeeds();
    same(&place, "out", &ONLINE);
    assert!(
        ran.stderr.contains("[0] batch 1: ") && !ran.stderr.contains("[1]") && !ran.stderr.contains("connected with"),
        "{}",
        ran.stderr
    );
    let json = place.run(&format!("launch -n 3 --log-format json -- {words} -w 1")).succeeds();
    for line in json.stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["process"], 0, "{line}");
    }
    // Tables that are printed have the number of their process.
    let ran = place.run(&format!("launch -n 1 -- {} -w 1 -q", words.replace("--out out", "--tables online_summary"))).succeeds();
    assert!(ran.stdout.lines().count() > 3 && ran.stdout.lines().all(|line| line.starts_with("[0]")), "{}", ran.stdout);
}

#[test]
fn the_exit_code_of_a_run_is_that_of_its_first_failure() {
    let place = Place::new();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    let Failure { error, .. } = last(place.run("launch -n 2 -w 1 -- run online events=none.csv --out out"), 1);
    assert!(error.contains("process 0 (127.") && error.contains("ended with exit code 1: ") && error.contains("none.csv"), "{error}");
    assert!(!place.has("out"));
    let Failure { error, .. } = last(place.run("launch -n 2 -w 1 -- run online events=events.csv --as-of now"), 2);
    assert!(error.contains("ended with exit code 2: --as-of now is another time on each process"), "{error}");
}

/// How it failed: the last lines, which are of `launch` itself.
#[track_caller]
pub fn last(ran: Ran, code: i32) -> Failure {
    assert_eq!(ran.code, Some(code), "{}", ran.stderr);
    let own: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ") || line.starts_with("hint: ")).collect();
    let error = own.first().unwrap_or_else(|| panic!("it fails without a word: {}", ran.stderr)).trim_start_matches("error: ").to_string();
    Failure { error, hint: own.get(1).map(|hint| hint.trim_start_matches("hint: ").to_string()) }
}

#[test]
fn what_can_not_be_launched_is_refused_before_anything_starts() {
    let place = Place::new();
    place.write("hosts", "127.0.0.1:1\n");
    for (words, named) in [
        ("-n 2 -- status", "launch starts run and serve, and not \"status\""),
        ("-n 2 -- run online events=- --input-format csv", "standard input can't be read by processes that are launched"),
        ("-n 2 -- run online events=a.csv --then 'events=-'", "standard input can't be read"),
        ("-n 2 -- run online events=/dev/stdin --input-format csv", "standard input can't be read"),
        ("-n 2 -- run online events-=/proc/self/fd/0 --input-format csv", "standard input can't be read"),
        ("-n 2 -- serve online --state state -n 2", "--processes is what launch says to each process"),
        ("-n 2 -- serve online --state state --hosts hosts", "--hosts is what launch says"),
        ("-n 2 -w 1 -- serve online --state state -w 1", "--workers is given twice"),
        ("-n 2 --hosts hosts -- serve online --state state", "1 addresses for 2 processes"),
        ("-n 2 -- run online events=a --tls-cert c --tls-key k --tls-ca a", "--tls-ca needs --hosts"),
        ("-n 2 -- serve online --state s --tls-cert c --tls-key k --tls-ca a", "--tls-ca needs --hosts"),
        ("--hosts none -- serve online --state state", "could not read --hosts \"none\""),
    ] {
        place.run(&format!("launch {words}")).fails_as_wrong_usage().names(&[named]);
    }
    for words in ["-- serve online", "-n 2", "-n 0 -- serve online --state state", "-n 2 --ssh -- serve online --state s"] {
        place.run(&format!("launch {words}")).fails_in_the_parser();
    }
    place.run("launch -n 2 -- serve nothing").fails_in_the_parser();
    assert_eq!(place.names("."), ["hosts"]);
    // A service by hand has the same limits.
    place.run("serve --demo -n 2 -p 0").fails_as_wrong_usage().names(&["--demo of several processes needs a folder"]);
}

/// Sends a share of the records of each dataflow.
fn feed(service: &Service, known: &Known, part: usize, parts: usize) {
    let lines: Vec<String> = shuffled(&known.lines).into_iter().skip(part).step_by(parts).collect();
    let path = format!("/v1/{}/events", known.dataflow());
    for lines in lines.chunks(150) {
        if known.servers.is_empty() {
            service.post(&path, &[("content-type", "application/x-ndjson")], rows(lines)).ok();
        } else {
            service.csv(&path, table(&EVENTS, lines)).ok();
        }
    }
    if part == 0 && !known.servers.is_empty() {
        service.csv(&format!("/v1/{}/servers", known.dataflow()), table(&SERVERS, &known.servers)).ok();
    }
}

/// Those that a service has here.
pub const KNOWN: [&std::sync::LazyLock<Known>; 3] = [&ONLINE, &USAGE, &ACTIVE];

/// The settings of all known dataflows, for one service.
pub fn served() -> String {
    let names: Vec<&str> = KNOWN.iter().map(|known| known.dataflow()).collect();
    let set: Vec<String> = KNOWN.iter().map(|known| known.set()).collect();
    format!("{} {}", names.join(" "), set.join(" "))
}

#[test]
fn a_service_goes_on_with_any_number_of_processes_and_workers() {
    let place = Place::new();
    let words = format!("{} --listen 127.0.0.1:0", served());
    let starts = ["-n 2 -w 1", "-n 1 -w 3", "-n 3 -w 2"];
    for (part, launch) in starts.iter().enumerate() {
        let service = Service::launched(&place, launch, &words);
        let status = service.get("/v1/status").ok().json();
        let [count, workers] = [3, 8].map(|at| u64::from(launch.as_bytes()[at] - b'0'));
        assert_eq!((&status["processes"], &status["workers"]), (&count.into(), &workers.into()));
        KNOWN.iter().for_each(|known| feed(&service, known, part, starts.len()));
        if part + 1 == starts.len() {
            KNOWN.iter().for_each(|known| service.same(known));
            what_passes_is_counted(&service.get("/metrics").ok().text, count);
            // A body that is kept as a file, and read by all: what is there already.
            let lines = table(&EVENTS, &ONLINE.lines);
            assert!(lines.len() > 100_000);
            service.csv("/v1/online/events", lines).ok();
            KNOWN.iter().for_each(|known| service.same(known));
        }
        let ids = processes(&place);
        assert_eq!(ids.len() as u64, count);
        for id in &ids {
            let [command, environment] = ["cmdline", "environ"].map(|name| fs::read_to_string(format!("/proc/{id}/{name}")).unwrap());
            let has_digits = |text: &str| text.split(|character: char| !character.is_ascii_hexdigit()).any(|word| word.len() >= 64);
            assert!(!has_digits(&command) && environment.contains("RETALLY_LAUNCHED=stdin"), "{command} {environment}");
            assert!(!environment.split('\0').any(|variable| variable.starts_with("RETALLY_") && has_digits(variable)), "{environment}");
        }
        service.end();
        assert_eq!(processes(&place), [0; 0]);
    }
    // And alone, without launch: the tables are those that were left, and a plain run finds nothing to mend.
    let service = Service::start(&place, &format!("{words} -w 2"));
    KNOWN.iter().for_each(|known| service.same(known));
    service.end();
    place.run("verify --state state -w 1").succeeds();
}

/// Of a service that has read its batches together with other processes.
fn what_passes_is_counted(metrics: &str, processes: u64) {
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse::<f64>().unwrap()
    };
    assert_eq!(value("retally_processes"), processes as f64);
    for name in ["sent_bytes_total", "received_bytes_total", "messages_total", "progress_messages_total"] {
        assert!(value(&format!("retally_mesh_{name}")) > 100.0, "{name}: {metrics}");
    }
    for process in 1..processes {
        let silent = value(&format!("retally_mesh_silent_seconds{{process=\"{process}\"}}"));
        assert!((0.0..3.0).contains(&silent), "{silent}");
    }
}

/// Waits until all processes are others than those, and the service takes batches.
pub fn again(place: &Place, service: &Service, before: &[u32], count: usize) -> Vec<u32> {
    let mut now = Vec::new();
    until("the next generation", || {
        now = processes(place);
        now.len() == count && now.iter().all(|id| !before.contains(id))
    });
    service.until_ready();
    now
}

#[test]
fn too_many_restarts_are_given_up_with_the_last_error() {
    let place = Place::new();
    let words = format!("online --listen 127.0.0.1:{}", free_port());
    let service = Service::launched(&place, "-n 2 -w 1 --max-restarts 2", &words);
    let mut ids = processes(&place);
    for _ in 0..2 {
        signal(ids[1], "KILL");
        ids = again(&place, &service, &ids, 2);
    }
    signal(ids[1], "KILL");
    let Failure { error, hint } = last(service.started.finish(), 137);
    assert!(error.starts_with("gave up after 2 restarts: process 1 (127.") && error.ends_with("was ended by SIGKILL"), "{error}");
    assert!(hint.is_some_and(|hint| hint.contains("--max-restarts")));
    assert_eq!(processes(&place), [0; 0]);
}

/// It starts all again when one is lost, and ends them when it is asked to, though what it says waits for ever.
#[test]
fn launch_supervises_where_nobody_reads_what_it_says() {
    let place = Place::new();
    let words = format!("launch -n 2 -w 1 -- serve online --state state --listen 127.0.0.1:{}", free_port());
    let unread = Unread::new();
    let mut command = place.command(&words);
    command.stderr(unread.end());
    let started = Started::new(command, &words);
    let asker = Asker::new(started.line().strip_prefix("[0] listening on ").unwrap().to_string());
    asker.until_ready();
    let service = Service { started, asker };
    unread.fill();
    let before = processes(&place);
    signal(before[1], "KILL");
    again(&place, &service, &before, 2);
    service.started.signal("TERM");
    assert_eq!(service.started.finish().code, Some(0));
    assert_eq!(processes(&place), [0; 0]);
}

/// What fails before all have met is not tried again, nor a state that somebody else has.
#[test]
fn a_service_that_can_not_start_is_not_started_again() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    let ran = place.run("launch -n 2 -w 1 -- serve online --state state --listen 127.0.0.1:0");
    assert!(!ran.stderr.contains("start again in"), "{}", ran.stderr);
    let Failure { error, .. } = last(ran, 1);
    assert!(error.contains("ended with exit code 1: ") && error.contains("state"), "{error}");
    service.end();
    place.write("state/format", "retally 999\n");
    let Failure { error, .. } = last(place.run("launch -n 2 -w 1 -- serve online --state state --listen 127.0.0.1:0"), 4);
    assert!(error.contains("ended with exit code 4: "), "{error}");
}

/// What ssh, a shell or the system says of it is a part of the last error, which collectors of logs get as an object.
#[test]
fn the_last_error_says_what_the_process_said_last() {
    let place = Place::new();
    place.write("hosts", "127.0.0.1:2101\n");
    for (ssh, code, said) in [
        ("sh -c \"echo one >&2; echo no way there >&2; exit 255\"", 255, "ended with exit code 255: no way there"),
        ("sh -c \"echo error: none >&2; echo hint: look >&2; exit 1\"", 1, "ended with exit code 1: none"),
        ("sh -c \"exit 1\"", 1, "ended with exit code 1"),
    ] {
        let ran = place.run(&format!("launch --hosts hosts '--ssh={ssh}' -- run online events=none.csv"));
        let Failure { error, .. } = last(ran, code);
        assert!(error.starts_with("process 0 (127.0.0.1:2101) ended") && error.ends_with(said), "{error}");
    }
    let ran = place.run("launch -n 2 -w 1 --log-format json -- run online events=none.csv");
    let line: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    let message = line["message"].as_str().unwrap();
    assert!(line["level"] == "error" && line["process"].is_null() && message.contains("ended with exit code 1: "), "{line}");
    let ran = place.run("launch -n 2 --log-format json -- status");
    let line: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert!(ran.code == Some(2) && line["hint"].is_string() && line["level"] == "error", "{line}");
}

/// Suspends all processes of one that launches: they can't end by themselves.
fn suspended(place: &Place) -> Service {
    let service = Service::launched(place, "-n 2 -w 1 --stop-timeout 50s", "online --listen 127.0.0.1:0 --heartbeat 20s");
    processes(place).into_iter().for_each(|id| signal(id, "STOP"));
    service
}

#[test]
fn a_second_signal_ends_all_at_once() {
    let place = Place::new();
    let service = suspended(&place);
    let began = Instant::now();
    service.started.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(processes(&place).len(), 2, "they are awaited");
    service.started.signal("INT");
    let Failure { error, .. } = last(service.started.finish(), 137);
    assert!(error.starts_with("interrupted by SIGTERM: process 0 was ended by SIGKILL"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(processes(&place), [0; 0]);
}

#[test]
fn those_that_do_not_end_in_time_are_killed() {
    let place = Place::new();
    let service = Service::launched(&place, "-n 2 -w 1 --stop-timeout 1s", "online --listen 127.0.0.1:0 --heartbeat 20s");
    processes(&place).into_iter().for_each(|id| signal(id, "STOP"));
    service.started.signal("TERM");
    last(service.started.finish(), 137);
    assert_eq!(processes(&place), [0; 0]);
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing() {
    let place = Place::new();
    place.run("generate online --out in --devices 2000 --days 1000 --seed 1").succeeds();
    let before = place.names(".");
    let mut launch = place.start("launch -n 2 -w 1 -- run online events=in/events.csv --out out");
    let id = launch.id();
    launch.until("both processes", || {
        processes(&place).iter().filter(|process| crate::cluster::has_thread(**process, "timely:recv")).count() == 2
    });
    signal(id, "INT");
    let Failure { error, .. } = last(launch.finish(), 130);
    assert_eq!(error, "interrupted by SIGINT");
    assert_eq!(place.names("."), before);
    assert_eq!(processes(&place), [0; 0]);
}

/// Nobody is left of a `launch` that can't say anything any more.
#[test]
fn when_launch_is_killed_all_end_in_order() {
    let place = Place::new();
    let service = Service::launched(&place, "-n 3 -w 1", "online --listen 127.0.0.1:0");
    service.csv("/v1/online/events", table(&EVENTS, &ONLINE.lines[..50])).ok();
    service.kill();
    until("the end of all processes", || processes(&place).is_empty());
    // It has ended in order, and the state is free.
    let service = Service::start(&place, "online -w 1");
    assert_eq!(service.get("/v1/online/batches").ok().json()["batches"].as_array().unwrap().len(), 1);
    service.end();
}

/// As where the link between two hosts is cut: its input stays open, and nothing comes.
#[test]
fn a_process_whose_launch_is_silent_ends_by_itself() {
    let place = Place::new();
    let mut command = place.command("serve online --state state --listen 127.0.0.1:0");
    let (reader, mut launch) = std::io::pipe().unwrap();
    command.stdin(reader).env("RETALLY_LAUNCHED", "stdin");
    let mut process = Started::new(command, "serve online");
    let told = serde_json::json!({
        "process": 0, "addresses": ["127.0.0.1:1"], "workers": 1, "generation": 7, "stop_timeout_ms": 1000, "silent_max_ms": 2000,
        "secret": "0123456789abcdef",
    });
    writeln!(launch, "{told}").unwrap();
    let asker = Asker::new(process.line().strip_prefix("listening on ").unwrap().to_string());
    asker.until_ready();
    let began = Instant::now();
    process.until("many signs of life", || {
        writeln!(launch).unwrap();
        began.elapsed() > Duration::from_secs(4)
    });
    let Failure { error, hint } = last(process.finish(), 5);
    assert_eq!(error, "lost `retally launch`: it gave no sign of life for 2000 ms");
    assert!(hint.is_some());
    // The state is free.
    Service::start(&place, "online -w 1").end();
}

/// Processes that are started one by one, as systemd and Kubernetes do.
#[test]
fn processes_that_are_started_by_hand_are_one_service() {
    let place = Place::new();
    let addresses = crate::processes::hosts(&place);
    let port = free_port();
    let words = |process: usize| {
        format!("serve online {} --state state --listen 127.0.0.1:{port} -w 1 --hosts hosts -n 2 -p {process}", ONLINE.set())
    };
    let second = place.start(&words(1));
    let first = place.start(&words(0));
    let asker = Asker::new(first.line().strip_prefix("listening on ").unwrap().to_string());
    asker.until_ready();
    asker.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    asker.csv("/v1/online/events", table(&EVENTS, &ONLINE.lines)).ok();
    asker.same(&ONLINE);
    // One that is asked to end alone waits for the first.
    second.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    asker.csv("/v1/online/events", table(&EVENTS, &ONLINE.lines[..10])).ok();
    first.signal("TERM");
    first.finish().succeeds();
    let said = second.finish().succeeds().stderr;
    assert!(said.contains("ending when process 0 does"), "{said}");
    // One that waits for the first ends at once.
    let second = place.start(&words(1));
    std::thread::sleep(Duration::from_millis(500));
    second.signal("TERM");
    second.finish().succeeds();
    // The first waits for the second, and names it; meanwhile, what is there can be read.
    let began = Instant::now();
    let first = place.start(&format!("{} --join-timeout 4s", words(0)));
    let asker = Asker::new(first.line().strip_prefix("listening on ").unwrap().to_string());
    asker.same(&ONLINE);
    assert_eq!(asker.get("/readyz").status, 503);
    let Failure { error, .. } = last(first.finish(), 1);
    assert!(error.contains("waited 4 s in vain for process 1") && error.contains(&addresses[1]), "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "and ends then: {:?}", began.elapsed());
}

/// Two hosts, of which each has a folder of its own under the path of the state.
#[test]
fn processes_that_see_another_state_do_not_meet() {
    let place = Place::new();
    place.write("events.csv", "2024-03-01T08:00:00Z,1,7,3,true\n");
    for words in ["serve online --state state --listen 127.0.0.1:0", "run online events=../events.csv --state state"] {
        crate::processes::hosts(&place);
        let start = |process: usize, folder: &str| {
            fs::create_dir_all(place.path(folder)).unwrap();
            let words = format!("{words} -w 1 -n 2 -p {process} --hosts ../hosts");
            let mut command = place.command(&words);
            command.current_dir(place.path(folder));
            Started::new(command, &words)
        };
        let (second, first) = (start(1, "there"), start(0, "here"));
        for (ran, why) in [
            (first.finish(), "\"state\" is another one, or can't be read"),
            (second.finish(), "\"state\" is another folder here, or none: it has no file \"meeting\""),
        ] {
            let Failure { error, hint } = last(ran, 1);
            assert!(error.starts_with("process 1 does not see the state of process 0: on \"127.") && error.ends_with(why), "{error}");
            assert!(hint.is_some_and(|hint| hint.contains("under the same path")));
        }
        assert!(!place.has("there/state"));
    }
}

/// Where every process writes points itself, a service of several has them all, in one file.
#[test]
fn points_of_several_processes_go_to_a_file() {
    let lines: Vec<String> = (0..300)
        .map(|number| {
            let (quarter, sensor) = (number / 3, number % 3);
            let (day, hour, minute) = (1 + quarter / 96, quarter / 4 % 24, quarter % 4 * 15);
            format!("2024-03-{day:02}T{hour:02}:{minute:02}:00Z,67e55044-10b1-426f-9247-bb680e5fe0c{sensor},1.{number}")
        })
        .collect();
    let data = format!("timestamp,sensor_uuid,sensor_value\n{}", rows(&lines));
    let words = "sensors --points file:points.lp --listen 127.0.0.1:0";
    let served = |launch: Option<&str>| {
        let place = Place::new();
        let service = match launch {
            Some(launch) => Service::launched(&place, launch, words),
            None => Service::start(&place, &format!("{words} -w 1")),
        };
        service.csv("/v1/sensors/data", &data).ok();
        let tables = service.get("/v1/sensors/tables/sensor_summary?format=csv").ok().text;
        service.end();
        let mut points: Vec<String> = place.read("points.lp").lines().filter(|line| !line.starts_with('#')).map(String::from).collect();
        points.sort();
        (tables, points)
    };
    let (tables, points) = served(None);
    assert_eq!((tables.lines().count(), points.len()), (4, lines.len()));
    assert_eq!(served(Some("-n 2 -w 2")), (tables, points));
}
