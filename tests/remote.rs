//! `launch --ssh`, with a real server.

use crate::launch::{last, processes, signal, until};
use crate::support::known::{EVENTS, ONLINE, SERVERS, same, table};
use crate::support::program::{Failure, Place};
use crate::support::service::{Asker, free_port};
use crate::support::ssh_server::SshServer;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// A server on the host of both processes.
fn server(place: &Place) -> SshServer {
    let addresses = crate::processes::hosts(place);
    SshServer::start(place, addresses[0].rsplit_once(':').unwrap().0)
}

#[test]
fn a_run_on_other_hosts_gives_the_bytes_of_one_process() {
    let place = Place::new();
    let server = server(&place);
    ONLINE.write_csv(&place, "all of it");
    let words = format!("{} 'events=all of it/events.csv' 'servers=all of it/servers.csv' --out out", ONLINE.run());
    let ran = place.run(&format!("launch --hosts hosts '--ssh={}' -w 1 -- {words}", server.client)).succeeds();
    same(&place, "out", &ONLINE);
    assert!(ran.stderr.contains("[0] batch 1: "), "{}", ran.stderr);
    // What fails there fails here.
    let failed = place.run(&format!("launch --hosts hosts '--ssh={}' -w 1 -- run online events=none.csv", server.client));
    let Failure { error, .. } = last(failed, 1);
    assert!(error.contains("ended with exit code 1: ") && error.contains("none.csv"), "{error}");
    // Nobody is asked for a password.
    let began = Instant::now();
    std::fs::write(place.path("ssh/authorized"), "").unwrap();
    let Failure { error, .. } = last(place.run(&format!("launch --hosts hosts '--ssh={}' -w 1 -- {words}", server.client)), 255);
    assert!(error.contains("ended with exit code 255: ") && error.contains("Permission denied"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_service_on_other_hosts_starts_again_when_a_process_is_lost() {
    let place = Place::new();
    let server = server(&place);
    let words = format!("serve online {} --state state --listen 127.0.0.1:{} --heartbeat 300ms", ONLINE.set(), free_port());
    let launch = place.start(&format!("launch --hosts hosts '--ssh={}' -w 1 -- {words}", server.client));
    let asker = Asker::new(launch.line().strip_prefix("[0] listening on ").unwrap().to_string());
    asker.until_ready();
    asker.csv("/v1/online/servers", table(&SERVERS, &ONLINE.servers)).ok();
    let (half, rest) = ONLINE.lines.split_at(ONLINE.lines.len() / 2);
    asker.csv("/v1/online/events", table(&EVENTS, half)).ok();
    for which in [1, 0] {
        let before = processes(&place);
        assert_eq!(before.len(), 2);
        signal(before[which], "KILL");
        until("the next generation", || {
            let now = processes(&place);
            now.len() == 2 && now.iter().all(|id| !before.contains(id))
        });
        asker.until_ready();
    }
    asker.csv("/v1/online/events", table(&EVENTS, rest)).ok();
    asker.same(&ONLINE);
    launch.signal("TERM");
    launch.finish().succeeds();
    assert_eq!(processes(&place), [0; 0], "none is left on the other hosts");
}

/// The second host takes the connection, and nothing comes of it.
#[test]
fn a_host_that_does_not_come_up_is_named_after_the_join_timeout() {
    let place = Place::new();
    let addresses = crate::processes::hosts(&place);
    // As ssh does: the last word is what the other host's shell gets, the one before it the host.
    place.write("ssh-to-one", "#!/bin/sh\nshift $(($# - 2))\n[ \"$1\" = second ] && exec cat >/dev/null\nexec sh -c \"$2\"\n");
    std::fs::set_permissions(place.path("ssh-to-one"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let second = addresses[1].rsplit_once(':').unwrap().1;
    place.write("hosts", format!("{}\nsecond:{second}\n", addresses[0]));
    let began = Instant::now();
    let words = "serve online --state state --listen 127.0.0.1:0 --join-timeout 2s";
    let ran = place.run(&format!("launch --hosts hosts --ssh={} -w 1 -- {words}", place.path("ssh-to-one").display()));
    assert!(!ran.stderr.contains("start again in"), "{}", ran.stderr);
    let mut ran = ran;
    assert!(ran.stdout.starts_with("[0] listening on "), "{}", ran.stdout);
    ran.stdout.clear();
    let Failure { error, .. } = last(ran, 1);
    assert!(error.contains(&format!("ended with exit code 1: waited 2 s in vain for process 1 (second:{second})")), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}
