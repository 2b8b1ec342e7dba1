//! What is wrong with databases is said in a line, without secrets, and nothing is half written.

use crate::databases::{ACTIVE, Database, ONLINE, active, online};
use crate::support::postgres_server::{PASSWORD, PASSWORD_IN_URL, Server};
use crate::support::program::{Failure, Place, Started};
use crate::support::sqlite_file::SqliteFile;

/// Tables of others are named, with the column that tells, and nothing at all is written.
fn tables_of_others_are_refused(database: &dyn Database, integer: &str, date: &str) {
    let place = active();
    let fails = |table: &str, columns: &str, why: &str| {
        database.execute(&format!("CREATE TABLE {table} {columns}"));
        let before = database.all();
        let Failure { hint, .. } =
            place.run(&format!("{ACTIVE} --out '{}' --changes changes", database.out())).fails().names(&[&format!("{table:?}"), why]);
        assert!(hint.is_some_and(|hint| hint.contains("rename or drop")));
        assert!(database.all() == before && !place.has("changes"));
        database.execute(&format!("DROP TABLE {table}"));
    };
    let table = "active_user_table";
    fails(table, &format!("(day {date} PRIMARY KEY, active_user_count {integer})"), "no column \"date\"");
    fails(table, &format!("(date {date} PRIMARY KEY, active_user_count VARCHAR)"), "column \"active_user_count\" is ");
    fails(table, &format!("(date {date} PRIMARY KEY, active_user_count {integer}, note {integer})"), "a column \"note\"");
    fails(table, &format!("(date {date}, active_user_count {integer})"), "no primary key or unique index (date)");
    fails("rejected", "(input TEXT, source TEXT)", "no column \"line\"");
    fails("retally_progress", "(dataflow TEXT PRIMARY KEY)", "no column \"epoch\"");
    // Of the tables that are not asked for, none is looked at.
    database.execute(&format!("CREATE TABLE {table} (x {integer})"));
    place.run(&format!("{ACTIVE} --out '{}' --tables active_issues", database.out())).succeeds();
    assert_eq!(database.table(table), Vec::<Vec<String>>::new());
}

#[test]
fn sqlite_tables_of_others_are_refused() {
    let place = Place::new();
    tables_of_others_are_refused(&SqliteFile::new(&place, "tables.sqlite"), "INTEGER", "TEXT");
}

/// A run that fails for its input leaves a database as it was, or none where none was.
fn a_failing_run_writes_nothing(database: &dyn Database, place: &Place) {
    let out = database.out();
    place.run(&format!("{ONLINE} --then events=none.csv --out '{out}'")).fails().names(&["none.csv"]);
    place.run(&format!("{ONLINE} --then events=in/bad.csv --max-rejected 5 --out '{out}'")).fails().names(&["--max-rejected"]);
}

#[test]
fn sqlite_files_that_can_not_be_written() {
    let place = online();
    let fails = |out: &str| place.run(&format!("{ONLINE} --out {out} --changes changes")).fails();
    let hint = |failure: Failure, part: &str| assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains(part)), "{failure:?}");
    hint(fails("sqlite:none/x.sqlite").names(&["\"sqlite:none/x.sqlite\"", "no folder \"none\""]), "create the folder");
    hint(fails("sqlite:in").names(&["\"sqlite:in\"", "can't be opened"]), "look at the path");
    // Nobody may create a file there, not even root.
    hint(fails("sqlite:/proc/x.sqlite").names(&["\"sqlite:/proc/x.sqlite\""]), "who may write");
    place.write("other", "this is no database, but a text that is long enough to be looked at");
    hint(fails("sqlite:other").names(&["\"sqlite:other\"", "not a database"]), "another file");
    let database = SqliteFile::new(&place, "tables.sqlite");
    a_failing_run_writes_nothing(&database, &place);
    assert!(!place.has("tables.sqlite"));
    place.run(&format!("{ACTIVE} --out sqlite:tables.sqlite").replace("events.jsonl", "none.jsonl")).fails();
    assert_eq!(place.names("."), ["in", "other"]);

    place.run(&format!("{ONLINE} --out sqlite:tables.sqlite")).succeeds();
    let before = database.all();
    let today = format!("{ONLINE} events=in/late --out sqlite:tables.sqlite --changes changes");
    // Another writer: waited for, and then given up.
    let connection = database.connect();
    connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM online_daily").unwrap();
    hint(place.run(&today).fails().names(&["\"sqlite:tables.sqlite\"", "another process has been using it for 5 s"]), "run again");
    connection.execute_batch("ROLLBACK").unwrap();
    // A reader does not keep us from writing, but from committing.
    connection.execute_batch("BEGIN; SELECT * FROM online_daily").unwrap();
    place.run(&today).fails().names(&["another process"]);
    connection.execute_batch("ROLLBACK").unwrap();
    drop(connection);
    // A file that its format says may only be read: byte 18 is the version that a writer must know.
    let mut bytes = std::fs::read(place.path("tables.sqlite")).unwrap();
    bytes[18] = 9;
    place.write("tables.sqlite", &bytes);
    hint(place.run(&today).fails().names(&["it may only be read"]), "who may write");
    bytes[18] = 1;
    place.write("tables.sqlite", &bytes);
    a_failing_run_writes_nothing(&database, &place);
    assert!(database.all() == before && !place.has("changes"));
    place.run(&today).succeeds();
    assert!(database.all() != before);
}

/// The disk is full when the file may not grow any more.
#[test]
fn sqlite_on_a_full_disk() {
    let place = online();
    place.run("generate online --out in/more --devices 3000 --days 40 --mess 0.1 --seed 8").succeeds();
    let words = format!("{ONLINE} events=in/more/events.csv --out sqlite:tables.sqlite --quiet");
    // What is left to write ends at a limit on the size of files.
    let limited = || place.start_within("ulimit -f 1000", &words).finish();
    limited().fails().names(&["\"sqlite:tables.sqlite\""]);
    assert_eq!(place.names("."), ["in"], "nothing is left of a database that was new");
    place.run(&format!("{ONLINE} --out sqlite:tables.sqlite")).succeeds();
    let database = SqliteFile::new(&place, "tables.sqlite");
    let before = database.all();
    limited().fails().names(&["\"sqlite:tables.sqlite\""]);
    assert!(database.all() == before);
    assert_eq!(place.names("."), ["in", "tables.sqlite"]);
}

#[test]
fn postgres_what_is_refused() {
    let server = Server::start();
    tables_of_others_are_refused(&server, "BIGINT", "DATE");
    let place = online();
    let hint = |failure: Failure, part: &str| assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains(part)), "{failure:?}");
    a_failing_run_writes_nothing(&server, &place);
    assert!(!server.tables().contains(&"online_daily".to_string()));

    let fails = |url: &str| {
        let ran = place.run(&format!("{ONLINE} --out '{url}' --changes changes"));
        for secret in [PASSWORD, PASSWORD_IN_URL, "wr0ng"] {
            assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{}", ran.stderr);
        }
        ran.fails()
    };
    hint(
        fails(&server.url("keeper:wr0ng", "tables")).names(&["\"postgres://keeper@127.0.0.1:", "password authentication failed"]),
        "PGPASSWORD",
    );
    hint(fails(&server.url("keeper", "tables")).names(&["password"]), "");
    hint(
        fails(&server.url(&format!("keeper:{PASSWORD_IN_URL}"), "none")).names(&["database \"none\" does not exist"]),
        "create the database",
    );
    hint(fails("postgres://me:wr0ng@nowhere.invalid/tables").names(&["postgres://me@nowhere.invalid:5432/tables"]), "can be reached");
    hint(fails("postgres://me:wr0ng@127.0.0.1:1/tables").names(&["onnection refused"]), "can be reached");
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'wr0ng'");
    hint(fails(&server.url("guest:wr0ng", "tables")).names(&["permission denied"]), "right to create");
    let read_only = format!("{}?options=-c%20default_transaction_read_only%3Don", server.out());
    hint(fails(&read_only).names(&["read-only transaction"]), "takes writes");
    assert!(!place.has("changes"));
    // Where the password is not in the URL, it is in the environment.
    let mut command = place.command(&format!("{ONLINE} --out '{}'", server.url("keeper", "tables")));
    command.env("PGPASSWORD", PASSWORD);
    Started::new(command, "with PGPASSWORD").finish().succeeds();

    // Another writer is waited for, and then given up; a reader is no hindrance.
    let before = server.all();
    let mut client = server.client("tables");
    let mut reader = server.client("tables");
    let mut reading = reader.transaction().unwrap();
    reading.batch_execute("SELECT * FROM online_daily").unwrap();
    let mut writing = client.transaction().unwrap();
    writing.batch_execute("UPDATE online_daily SET devices = 0").unwrap();
    let today = |url: &str| format!("{ONLINE} events=in/late --out '{url}' --changes changes");
    let soon = format!("{}?options=-c%20lock_timeout%3D200ms", server.out());
    hint(place.run(&today(&soon)).fails().names(&["lock timeout"]), "another process is writing");
    drop(writing);
    // Another run is named.
    let mut writing = client.transaction().unwrap();
    writing
        .batch_execute(&format!("SET application_name = 'retally 7 on x'; SELECT pg_advisory_xact_lock({})", 0x0072_6574_616c_6c79_u64))
        .unwrap();
    hint(
        place.run(&today(&soon)).fails().names(&["\"retally 7 on x\" (from 127.0.0.1, since 2", "is writing there"]),
        "nothing was written",
    );
    drop(writing);
    assert!(server.all() == before && !place.has("changes"));
    place.run(&today(&server.out())).succeeds();
    assert!(server.all() != before);
}

/// The server goes in the middle of a transaction: nothing of it is there when it is back, and then the run succeeds.
#[test]
fn postgres_that_goes_away() {
    let mut server = Server::start();
    let place = online();
    place.run(&format!("{ONLINE} --out '{}'", server.out())).succeeds();
    let before = server.all();
    let today = format!("{ONLINE} events=in/late --out '{}' --changes changes", server.out());
    let wait = |server: &Server| {
        // The last table but one is locked by another: the tables before it have been written.
        let mut blocker = server.client("tables");
        blocker.batch_execute("BEGIN; LOCK TABLE online_issues IN SHARE MODE").unwrap();
        let run = place.start(&today);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'retally %' AND wait_event_type = 'Lock'";
        loop {
            if let [row] = server.rows(query).as_slice() {
                return (blocker, run, row[0].clone());
            }
            assert!(std::time::Instant::now() < until, "the run never writes");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    // An administrator ends the connection.
    let (blocker, run, pid) = wait(&server);
    server.rows(&format!("SELECT pg_terminate_backend({pid})"));
    let Failure { hint, .. } = run.finish().fails().names(&["\"postgres://keeper@127.0.0.1:", "connection"]);
    assert!(hint.is_some_and(|hint| hint.contains("nothing was written")));
    drop(blocker);
    assert!(server.all() == before && !place.has("changes"));
    // A signal: the server notices that nobody waits for it, though it still waits for the lock.
    let (blocker, run, pid) = wait(&server);
    run.signal("TERM");
    let Failure { hint, .. } = run.finish().ends_by_signal(143).names(&["interrupted by SIGTERM"]);
    assert!(hint.is_some_and(|hint| hint.contains("no table was written")));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !server.rows(&format!("SELECT 1 FROM pg_stat_activity WHERE pid = {pid}")).is_empty() {
        assert!(std::time::Instant::now() < until, "the server still works for a run that has ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    drop(blocker);
    assert!(server.all() == before && !place.has("changes"));
    // The server dies.
    let (blocker, run, _) = wait(&server);
    server.kill();
    let Failure { hint, .. } = run.finish().fails().names(&["\"postgres://keeper@127.0.0.1:"]);
    assert!(hint.is_some_and(|hint| hint.contains("nothing was written")));
    drop(blocker);
    place.run(&today).fails().names(&["onnection refused"]);
    assert!(server.run(), "the server comes back");
    assert!(server.all() == before && !place.has("changes"));
    place.run(&today).succeeds();
    assert!(server.all() != before);
}

/// A statement that waits for others or works is not given up, however silent the server is meanwhile; a server that stands still is.
#[test]
fn postgres_that_is_silent() {
    let server = Server::start();
    let place = online();
    let words = format!("{ONLINE} --out '{}' --network-timeout 3s", server.out());
    place.run(&words).succeeds();
    let today = format!("{words} events=in/late");
    let before = server.all();
    let mut blocker = server.client("tables");
    let waits = |longer: &str| {
        format!(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'retally %' AND wait_event_type = 'Lock' \
             AND now() - query_start > '{longer}'"
        )
    };
    blocker.batch_execute("BEGIN; LOCK TABLE online_issues IN SHARE MODE").unwrap();
    let mut run = place.start(&today);
    run.until("its silence", || server.rows(&waits("4s")).len() == 1);
    blocker.batch_execute("ROLLBACK").unwrap();
    run.finish().succeeds();
    assert!(server.all() != before);

    // A run that was stopped itself finds the answer when it goes on.
    blocker.batch_execute("BEGIN; LOCK TABLE online_issues IN SHARE MODE").unwrap();
    let mut run = place.start(&words);
    run.until("its wait", || server.rows(&waits("0s")).len() == 1);
    run.signal("STOP");
    blocker.batch_execute("ROLLBACK").unwrap();
    let answered = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'retally %' AND state = 'idle in transaction' \
                    AND now() - state_change > '4s'";
    run.until("its answer", || server.rows(answered).len() == 1);
    run.signal("CONT");
    run.finish().succeeds();
    let after = server.all();

    // All of the server that this run hears of stands still.
    blocker.batch_execute("BEGIN; LOCK TABLE online_issues IN SHARE MODE").unwrap();
    let mut run = place.start(&words);
    let mut pids = Vec::new();
    run.until("its wait", || {
        pids = server.rows(&waits("0s"));
        pids.len() == 1
    });
    let signal = |name: &str| {
        for pid in [&pids[0][0], &server.id().to_string()] {
            assert!(std::process::Command::new("kill").args([name, pid]).status().unwrap().success());
        }
    };
    signal("-STOP");
    let Failure { hint, .. } = run.finish().fails().names(&["\"postgres://keeper@127.0.0.1:", "the server has given no answer for 3s"]);
    assert!(hint.is_some_and(|hint| hint.contains("nothing was written") && hint.contains("--network-timeout")));
    // One that does not let us in.
    place.run(&words).fails().names(&["the server did not let us in within 3s"]);
    signal("-CONT");
    drop(blocker);
    assert!(server.all() == after);
    place.run(&words).succeeds();
    place.run(&format!("{words}x")).fails_in_the_parser();
}
