//! The page of a service in a real browser: each view, its charts and tables, feeding, logging in, and what happens when the service is
//! away.

use crate::support::browser::Browser;
use crate::support::known::{EVENTS, table};
use crate::support::program::Place;
use crate::support::receiver::Receiver;
use crate::support::service::{Service, free_port};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Devices of two users on ten days, and one line that can't be read.
fn events() -> String {
    let mut lines = Vec::new();
    for day in 1..=10 {
        for device in 1..=(day % 4 + 1) {
            lines.push(format!("2026-03-{day:02} 08:00:00,{device},{},1,true", device % 2));
            lines.push(format!("2026-03-{day:02} 18:00:00,{device},{},1,false", device % 2));
        }
    }
    lines.push("<img src=x onerror=window.hacked=1>,1,1,1,true".into());
    table(&EVENTS, &lines)
}

/// Two more devices on the third day, which was over.
fn late() -> String {
    let lines = [("08:00:00", true), ("19:00:00", false)]
        .into_iter()
        .flat_map(|(time, on)| [21, 22].map(|device| format!("2026-03-03 {time},{device},{},1,{on}", device % 2)));
    table(&EVENTS, &lines.collect::<Vec<_>>())
}

/// A service with records, and a browser.
fn start(place: &Place, words: &str) -> (Service, Browser) {
    let service = Service::start(place, &format!("online active sensors -w 1 --set online.fleet-sizes=1,2-9 {words}"));
    service.csv("/v1/online/events?name=first.csv", events()).ok();
    (service, Browser::start())
}

/// What `start` serves, of the same state.
fn again(place: &Place, port: u16) -> Service {
    Service::start(place, &format!("online active sensors -w 1 --set online.fleet-sizes=1,2-9 --listen 127.0.0.1:{port}"))
}

/// That nobody answered is all that was complained of.
#[track_caller]
fn only_misses(browser: &mut Browser) {
    for complaint in browser.forgive() {
        assert!(complaint.contains("net::ERR") && !complaint.contains("Uncaught"), "{complaint}");
    }
}

/// Where a view is.
fn at(service: &Service, view: &str) -> String {
    format!("{}/#/{view}", service.address)
}

const CHART: &str = ".chart-card .chart";
const DRAWN: &str = "document.querySelector('.chart-card path.area')";

/// The place of a day in the first chart.
fn of_day(browser: &mut Browser, days: f64) -> (f64, f64) {
    // The plot lies within its margins; the days go from the 1st to the 10th.
    let [left, top, width, height] = browser.rectangle(CHART);
    (left + 52.0 + (width - 66.0) * days / 9.0, top + height - 40.0)
}

#[test]
fn each_view_opens_without_a_complaint() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    let values = |hour: u32| if hour == 40 { 99.0 } else { f64::from(hour % 24) };
    let lines: Vec<String> = (0..240)
        .map(|hour| format!("2026-03-{:02}T{:02}:00:00Z,67e55044-10b1-426f-9247-bb680e5fe0c8,{}", hour / 24 + 1, hour % 24, values(hour)))
        .collect();
    service.csv("/v1/sensors/data", format!("timestamp,sensor_uuid,sensor_value\n{}\n", lines.join("\n")));
    for (view, until) in [
        ("overview", "document.querySelectorAll('.overview-card').length === 3 && document.querySelector('.overview-card path.area')"),
        ("dataflow/online", "document.querySelectorAll('.chart-card').length === 3 && document.querySelector('.rows td')"),
        ("dataflow/active", "document.querySelector('.tab[aria-current]') && document.querySelector('.chart-card')"),
        ("sensors", "document.querySelector('.search input') && document.querySelector('.sensors .card h2')"),
        ("rejected/online", "document.querySelector('.reason code')"),
        ("feed/online", "document.querySelector('.drop') && document.querySelector('#input option')"),
        ("batches/online", "document.querySelector('.rows .chip')"),
    ] {
        browser.open(&at(&service, view), until);
        browser.picture(&format!("view-{}", view.replace('/', "-")));
        browser.is_content();
    }
    let facts = |browser: &mut Browser| browser.text(".overview-card .facts").replace('\n', " ");
    browser.open(&at(&service, "overview"), "document.querySelector('.overview-card .last-batch b')");
    browser.until("document.querySelector('.overview-card .facts dd')");
    assert_eq!(facts(&mut browser), "records 50 late 0 rejected 1 as of 2026-03-10");
    // The list of views leads to each.
    browser.click(".nav a[href*='batches']");
    browser.until_text("h1", "Batches");
    browser.is_content();
    service.end();
}

#[test]
fn charts_show_exact_values_zoom_and_say_what_moved() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    browser.open(&at(&service, "dataflow/online"), DRAWN);
    let day = of_day(&mut browser, 2.0);
    browser.mouse("mouseMoved", day);
    browser.until_text(".tip", "2026-03-03");
    let values = service.get("/v1/online/tables/online_daily?day=2026-03-03").ok().json();
    let tip = browser.text(".tip");
    for row in values.as_array().unwrap() {
        assert!(tip.contains(row["fleet_size"].as_str().unwrap()) && tip.contains(&row["devices"].to_string()), "{tip} lacks {row}");
    }
    // Dragging zooms, and the address has it.
    let (from, to) = (of_day(&mut browser, 1.0), of_day(&mut browser, 5.0));
    browser.drag(from, to);
    browser.until("location.hash.includes('zoom.online_daily=2026-03-0')");
    browser.until_text(".switch", "Reset zoom");
    browser.picture("chart-zoomed");
    browser.click(".switch.on");
    browser.until("!location.hash.includes('zoom')");
    // An entry of the legend goes, and comes back.
    browser.click(".entry");
    browser.until("location.hash.includes('off.online_daily') && document.querySelector('.entry[aria-pressed=false]')");
    browser.click(".entry");
    browser.until("!location.hash.includes('off')");
    for (switch, said) in [("Stacked", "flat.online_daily=1"), ("Log", "log.online_daily=1")] {
        browser.value(&format!("[...document.querySelectorAll('.switch')].find((one) => one.textContent === {switch:?}).click()"));
        browser.until(&format!("location.hash.includes({said:?})"));
    }
    // What a day had first, beside what late events made of it.
    service.csv("/v1/online/events?name=late.csv", late()).ok();
    browser.open(&at(&service, "dataflow/online?first.online_daily=1"), "document.querySelector('path.dashed')");
    browser.until_text(".chart-card p", "1 day has moved");
    let day = of_day(&mut browser, 2.0);
    browser.mouse("mouseMoved", day);
    browser.until_text(".tip", "was ");
    browser.picture("chart-first-values");
    browser.is_content();
    service.end();
}

#[test]
fn late_data_is_seen_arriving_and_why_tells_of_it() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    browser.open(&at(&service, "dataflow/online?table=online_daily&f.day=2026-03-03"), "document.querySelector('tr[data-key] td')");
    browser.until_text(".state", "Live");
    let value = |service: &Service| service.get("/v1/online/tables/online_daily?day=2026-03-03").ok().json()[0]["devices"].clone();
    let old = value(&service);
    service.csv("/v1/online/events?name=late.csv", late()).ok();
    let new = value(&service);
    assert_ne!(old, new);
    browser.until("document.querySelector('td.flash s.old')");
    assert_eq!(browser.text("td.flash").split_whitespace().collect::<Vec<_>>(), [old.to_string(), new.to_string()]);
    browser.picture("late-row");
    browser.click("tr[data-key] td");
    browser.until("document.querySelector('.why .history li')");
    let why = browser.text(".why");
    for said in ["Batch 2", "late records", "late.csv", "Batch 1", "first.csv", &old.to_string(), &new.to_string()] {
        assert!(why.contains(said), "{why:?} lacks {said:?}");
    }
    browser.picture("why");
    browser.key("Escape");
    browser.until("!document.querySelector('.why') && !location.hash.includes('why')");
    // A point of a chart leads there too; and so does its address.
    let day = of_day(&mut browser, 2.0);
    ["mouseMoved", "mousePressed", "mouseReleased"].iter().for_each(|kind| browser.mouse(kind, day));
    browser.until("document.querySelector('.why .history li') && document.querySelector('.why .key').textContent.includes('2026-03-03')");
    let link = browser.value("location.href");
    browser.open("about:blank", "true");
    browser.open(link.as_str().unwrap(), "document.querySelector('.why .history li')");
    browser.is_content();
    service.end();
}

#[test]
fn what_arrives_leaves_the_focus_and_the_scroll_where_they_are() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    browser.size(1000, 500);
    browser.open(&at(&service, "dataflow/online?table=online_daily&f.day=2026-03-03"), "document.querySelector('tr[data-key] td')");
    browser.until_text(".state", "Live");
    browser.until(DRAWN);
    browser.value("document.querySelector('tr[data-key]').focus()");
    browser.value("scrollTo({ top: 0, behavior: 'instant' })");
    service.csv("/v1/online/events?name=late.csv", late()).ok();
    browser.until("document.querySelector('td.flash s.old')");
    browser.until("document.activeElement.matches('tr[data-key]')");
    assert_eq!(browser.value("scrollY"), 0, "the row is far below, and the reader looks at the charts");
    // A panel that was opened from there closes without a jump, too.
    browser.key("Enter");
    browser.until("document.querySelector('.why .history li')");
    browser.key("Escape");
    browser.until("!document.querySelector('.why') && document.activeElement.matches('tr[data-key]')");
    assert_eq!(browser.value("scrollY"), 0);
    service.end();
}

#[test]
fn a_file_is_dropped_looked_at_and_fed() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    place.write("dropped.csv", late() + "rubbish,1,1,1,true\n");
    browser.open(&at(&service, "feed/online"), "document.querySelector('#input option')");
    browser.drop_file(".drop", &place.path("dropped.csv"));
    browser.until("document.querySelector('.checked .reasons li')");
    let said = browser.text(".checked");
    for wanted in ["CSV, 5 columns", "4 can be read", "1 are refused", "device_id", "from line 6 on"] {
        assert!(said.contains(wanted), "{said:?} lacks {wanted:?}");
    }
    assert_eq!(service.get("/v1/status").ok().json()["dataflows"]["online"]["epoch"], 1, "nothing is kept of a look");
    browser.click("button.primary");
    browser.until_text(".fed h2", "Batch 2");
    let said = browser.text(".fed");
    assert!(said.contains("4 records accepted") && said.contains("1 rejected") && said.contains("online_daily"), "{said}");
    browser.picture("fed");
    // Once more is once.
    browser.click("button.primary");
    browser.until_text(".fed h2", "fed before");
    browser.is_content();
    service.end();
}

#[test]
fn by_keyboard_alone() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    browser.open(&at(&service, "overview"), "document.querySelector('.overview-card path.area')");
    let focused = "document.activeElement";
    browser.key("Tab");
    browser.until(&format!("{focused}.className === 'skip'"));
    let until = |browser: &mut Browser, is_there: &str| {
        let mut pressed = 0;
        while browser.value(is_there) != true {
            browser.key("Tab");
            pressed += 1;
            assert!(pressed < 60, "the focus does not come to {is_there}");
        }
        assert_ne!(browser.value(&format!("getComputedStyle({focused}).outlineStyle")), "none", "the focus is seen");
    };
    until(&mut browser, &format!("{focused}.textContent === 'online' && {focused}.matches('.nav a')"));
    browser.key("Enter");
    browser.until(DRAWN);
    until(&mut browser, &format!("{focused}.matches('.chart-card .chart')"));
    browser.key("ArrowLeft");
    browser.key("ArrowLeft");
    browser.until_text(".tip", "2026-03-09");
    browser.key("Enter");
    browser.until("document.querySelector('.why .history li')");
    browser.until(&format!("document.querySelector('.why').contains({focused})"));
    browser.key("Escape");
    browser.until(&format!("!document.querySelector('.why') && {focused}.matches('.chart')"));
    until(&mut browser, &format!("{focused}.matches('tr[data-key]')"));
    browser.key("ArrowDown");
    browser.key("Enter");
    browser.until("document.querySelector('.why .history li')");
    browser.key("Escape");
    browser.until(&format!("{focused}.matches('tr[data-key]')"));
    browser.is_content();
    service.end();
}

#[test]
fn on_a_phone_and_in_the_dark() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    browser.size(360, 740);
    browser.scheme("dark");
    let views = ["overview", "dataflow/online", "sensors", "rejected/online", "feed/online", "batches/online"];
    for view in views {
        browser.open(&at(&service, view), "document.querySelector('h1') && document.querySelector('.card')");
        browser.until("document.documentElement.scrollWidth <= innerWidth");
        browser.picture(&format!("phone-{}", view.replace('/', "-")));
    }
    let is_dark = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every((part) => part < 64)";
    browser.until(is_dark);
    // The switch goes over to the other one, and the address has it.
    browser.click(".tools button");
    browser.until(&format!("location.hash.includes('theme=light') && !({is_dark})"));
    browser.scheme("light");
    browser.click(".tools button");
    browser.until(&format!("location.hash.includes('theme=dark') && {is_dark}"));
    browser.is_content();
    service.end();
}

#[test]
fn who_may_read_does_not_feed() {
    let place = Place::new();
    place.write("tokens", "looks read 0123456789abcdef\nfeeds write fedcba9876543210\n");
    let service = Service::start(&place, "online -w 1 --tokens tokens");
    let mut browser = Browser::start();
    let login = |browser: &mut Browser, token: &str| {
        browser.until("document.activeElement.id === 'token'");
        browser.write(token);
        browser.key("Enter");
    };
    browser.open(&at(&service, "feed/online"), "document.querySelector('.login')");
    browser.is_content();
    login(&mut browser, "wrong wrong wrong");
    browser.until_text(".login .notice", "there is no such token");
    browser.picture("login");
    // The browser itself tells of the answer.
    assert_eq!(browser.forgive().len(), 1);
    browser.value("document.querySelector('#token').value = ''");
    login(&mut browser, "0123456789abcdef");
    browser.until("document.querySelector('.drop')");
    browser.until_text("button.primary:disabled", "needs a write token");
    assert_eq!(browser.value("document.cookie"), "", "no script can read it");
    let post = "fetch('/v1/online/events', { method: 'POST', body: 'x', headers: { 'content-type': 'text/csv' } })";
    assert_eq!(browser.value(&format!("{post}.then((answer) => answer.status)")), 403);
    assert_eq!(browser.forgive().len(), 1);
    browser.until_text(".state", "Live");
    browser.value("[...document.querySelectorAll('.tools button')].find((one) => one.textContent === 'Log out').click()");
    login(&mut browser, "fedcba9876543210");
    browser.until("document.querySelector('.drop')");
    place.write("dropped.csv", late());
    browser.drop_file(".drop", &place.path("dropped.csv"));
    browser.until("document.querySelector('button.primary:not(:disabled)')");
    browser.click("button.primary");
    browser.until_text(".fed h2", "Batch 1");
    browser.is_content();
    service.end();
}

#[test]
fn sessions_are_of_browsers_that_say_which_page_asks() {
    let place = Place::new();
    place.write("tokens", "feeds write fedcba9876543210\n");
    let service = Service::start(&place, "online -w 1 --tokens tokens");
    let json = ("content-type", "application/json");
    service.post("/v1/login", &[json], r#"{"token":"fedcba9876543211"}"#).refused(401, "token");
    service.post("/v1/login", &[json, ("sec-fetch-site", "cross-site")], r#"{"token":"fedcba9876543210"}"#).refused(403, "other_origin");
    service.post("/v1/login", &[json], "rubbish").refused(400, "bad_body");
    let answer = service.post("/v1/login", &[json], r#"{"token":"fedcba9876543210"}"#).ok();
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_string();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
    let cookie = ("cookie", cookie.split(';').next().unwrap());
    let (csv, ours) = (("content-type", "text/csv"), ("sec-fetch-site", "same-origin"));
    service.try_get("/v1/status", &[cookie]).unwrap().ok();
    service.post("/v1/online/events", &[csv, cookie], late()).refused(403, "other_origin");
    service.post("/v1/online/events", &[csv, cookie, ("sec-fetch-site", "cross-site")], late()).refused(403, "other_origin");
    service.post("/v1/online/events", &[csv, cookie, ours], late()).ok();
    service.post("/v1/logout", &[cookie, ours], "").ok();
    service.try_get("/v1/status", &[cookie]).unwrap().refused(401, "token");
    // Without tokens, too, a page of another origin changes nothing.
    service.end();
    let service = Service::start(&place, "online -w 1");
    service.post("/v1/online/events", &[csv, ("origin", "http://evil.example")], late()).refused(403, "other_origin");
    service.post("/v1/login", &[json], "{}").refused(400, "no_tokens");
    service.end();
}

#[test]
fn a_cut_stream_is_shown_and_taken_up_again() {
    let place = Place::new();
    let port = free_port();
    let (service, mut browser) = start(&place, &format!("--listen 127.0.0.1:{port}"));
    browser.open(&at(&service, "batches/online"), "document.querySelector('.rows .chip')");
    browser.until_text(".state", "Live");
    service.kill();
    browser.until("!document.querySelector('.banner').hidden");
    browser.until_text(".banner", "Cut off since");
    browser.until_text(".state", "Cut off");
    browser.picture("cut");
    let service = again(&place, port);
    service.csv("/v1/online/events?name=afterwards", late()).ok();
    browser.until_text(".state", "Live");
    browser.until("document.querySelector('.banner').hidden");
    browser.until_text(".rows td", "afterwards");
    only_misses(&mut browser);
    service.end();
}

/// How soon a change is on the page, on a machine that has much to do.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn a_change_is_on_the_page_soon() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    browser.open(&at(&service, "batches/online"), "document.querySelector('.rows .chip')");
    browser.until_text(".state", "Live");
    service.csv("/v1/online/events?name=late.csv", late()).ok();
    let answered = Instant::now();
    browser.until_text(".rows td", "late.csv");
    assert!(answered.elapsed() < SOON, "{:?}", answered.elapsed());
    browser.is_content();
    service.end();
}

#[test]
fn fifty_pages_of_a_browser_share_one_stream() {
    let place = Place::new();
    let port = free_port();
    let (service, first) = start(&place, &format!("--listen 127.0.0.1:{port}"));
    let mut pages: Vec<Browser> = (1..50).map(|_| first.tab()).collect();
    pages.push(first);
    for page in &mut pages {
        page.open(&at(&service, "batches/online"), "document.querySelector('.rows .chip')");
        page.until_text(".state", "Live");
    }
    assert_eq!(service.get("/v1/status").ok().json()["streams"], 1);
    service.csv("/v1/online/events?name=late.csv", late()).ok();
    for page in &mut pages {
        page.until_text(".rows td", "late.csv");
        assert_eq!(page.text(".state"), "Live");
        page.until("document.querySelector('.banner').hidden");
        page.is_content();
    }
    // All know when it is cut, and go on.
    service.kill();
    pages.iter_mut().for_each(|page| page.until_text(".state", "Cut off"));
    let service = again(&place, port);
    service.csv("/v1/online/events?name=afterwards", late()).ok();
    for page in &mut pages {
        page.until_text(".state", "Live");
        page.until_text(".rows td", "afterwards");
        only_misses(page);
    }
    service.end();
}

#[test]
fn a_service_that_dies_under_a_dataflow_leaves_no_error() {
    let place = Place::new();
    let port = free_port();
    let (mut service, mut browser) = start(&place, &format!("--listen 127.0.0.1:{port}"));
    browser.open(&at(&service, "dataflow/online?table=online_daily"), "document.querySelector('tr[data-key] td')");
    browser.until_text(".state", "Live");
    for round in 0..3 {
        // While the page asks for what is new.
        service.csv("/v1/online/events", events()).ok();
        service.kill();
        browser.until_text(".state", "Cut off");
        // What is clicked meanwhile waits, too.
        browser.value("document.querySelectorAll('.tab')[1].click()");
        browser.value("document.querySelectorAll('.tab')[0].click()");
        service = again(&place, port);
        browser.until_text(".state", "Live");
        service.csv(&format!("/v1/online/events?name=round-{round}"), late()).ok();
        browser.until("document.querySelector('tr[data-key] td') && !document.querySelector('.notice')");
        browser.until(DRAWN);
        only_misses(&mut browser);
    }
    service.end();
}

#[test]
fn a_sink_that_catches_up_is_seen_without_a_new_batch() {
    let place = Place::new();
    let receiver = Receiver::start();
    receiver.say_always(500);
    let out = format!("webhook:{}#online.online_daily", receiver.url("/hook"));
    let (service, mut browser) = start(&place, &format!("--out '{out}'"));
    browser.open(&at(&service, "overview"), "document.querySelector('.lag .badge.warn')");
    browser.until_text(".overview-card p", "is 1 batch behind");
    receiver.say_always(200);
    browser.until("document.querySelector('.lag .badge.ok') && !document.querySelector('.lag .badge.warn')");
    assert_eq!(service.get("/v1/status").ok().json()["dataflows"]["online"]["epoch"], 1);
    browser.is_content();
    service.end();
}

#[test]
fn all_reasons_of_refused_records_are_seen_and_replayed() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    let times = (0..10_050).map(|number| format!("rubbish {number},1,1,1,true"));
    let devices = (0..5).map(|number| format!("2026-03-03 08:00:00,device {number},1,1,true"));
    let lines: Vec<String> = times.chain(devices).collect();
    service.csv("/v1/online/events?name=bad.csv", table(&EVENTS, &lines)).ok();
    browser.open(&at(&service, "rejected/online"), "document.querySelectorAll('.reason').length === 2");
    let all = browser.text(".view");
    // One more is of the first file.
    for said in ["10,056 records, 2 reasons", "10,051 records of events", "5 records of events", "device_id \"…\"", "and 2 more"] {
        assert!(all.contains(said), "{all:?} lacks {said:?}");
    }
    browser.picture("rejected-reasons");
    browser.click(".reason:last-child button");
    browser.until_text(".reason:last-child", "Replayed.");
    browser.until_text(".reason:last-child", "replayed: 5");
    browser.is_content();
    service.end();
}

#[test]
fn a_sensor_among_many_is_found_and_shown() {
    let place = Place::new();
    let (service, mut browser) = start(&place, "");
    let id = |number: u32| format!("67e55044-10b1-426f-9247-{number:012x}");
    let named: Vec<String> = (0..5_100).map(|number| format!("room_{number:04},{}", id(number))).collect();
    service.csv("/v1/sensors/mapping", format!("sensor_name,sensor_uuid\n{}\n", named.join("\n"))).ok();
    let one = (0..5_100).map(|number| format!("2026-03-01T00:00:00Z,{},1", id(number)));
    // And one whose values go up and down, for ten days.
    let hours = (1..240).map(|hour| format!("2026-03-{:02}T{:02}:00:00Z,{},{}", hour / 24 + 1, hour % 24, id(5_099), hour % 24));
    let lines: Vec<String> = one.chain(hours).collect();
    service.csv("/v1/sensors/data", format!("timestamp,sensor_uuid,sensor_value\n{}\n", lines.join("\n"))).ok();
    browser.open(&at(&service, "sensors"), "document.querySelectorAll('.found a').length === 12");
    browser.until_text(".found", "5,100 sensors");
    browser.value("document.querySelector('.search input').focus()");
    for (typed, found) in [(id(5_098), "room_5098"), ("room_509".into(), "room_5097"), ("room_5099".into(), "room_5099")] {
        browser.value("document.querySelector('.search input').value = ''");
        browser.write(&typed);
        browser.until_text(".found a", found);
    }
    browser.key("Enter");
    browser.until_text(".sensors h2", "room_5099");
    browser.until("document.querySelector('.sensors path.line.s0')");
    assert!(browser.text(".sensors .facts").replace('\n', " ").starts_with("measurements 240"));
    browser.picture("sensor");
    // A range is asked for by itself, and drawn.
    browser.value("location.hash += '&zoom.sensor=2026-03-03T00:00:00..2026-03-05T00:00:00'");
    browser.until_text(".switch", "Reset zoom");
    browser.until(
        "performance.getEntriesByType('resource').some(({ name }) => name.includes('/points/measurements') && name.includes('from='))",
    );
    browser.until("document.querySelector('.sensors path.line.s0')");
    browser.is_content();
    service.end();
}

/// A page of it at a time, wherever it is looked into, and never more of it over the wire.
#[test]
fn a_table_of_a_million_rows_is_never_loaded_whole() {
    const ROWS: u32 = 1_000_000;
    let place = Place::new();
    let service = Service::start(&place, "online -w 2 --tables online.online_intervals");
    let line = |device: u32| format!("2026-03-{:02} {:02}:00:00,{device},{},1,true", device % 28 + 1, device % 24, device % 1_000);
    let lines: Vec<String> = (0..ROWS).map(line).collect();
    service.csv("/v1/online/events", table(&EVENTS, &lines)).ok();
    let mut browser = Browser::start();
    let view = |more: &str| at(&service, &format!("dataflow/online?table=online_intervals{more}"));
    // Where it is, what of it stands there, and the device in the first row.
    for (more, foot, device) in [
        ("&sort=device_id", "1–25 of 1,000,000", "0"),
        ("&sort=device_id&page=20000", "499,976–500,000 of 1,000,000", "499975"),
        ("&sort=-device_id", "1–25 of 1,000,000", "999999"),
        ("&sort=device_id&page=40000", "999,976–1,000,000 of 1,000,000", "999975"),
        ("&f.device_id=777777", "1–1", "777777"),
        ("&sort=device_id&f.user_id=999&page=40", "976–1,000", "975999"),
    ] {
        browser.open(&view(more), "true");
        browser.until_text(".table-foot", foot);
        browser.until(&format!("document.querySelector('tr[data-key]').dataset.key.includes('{device}')"));
        assert!(browser.value("document.querySelectorAll('tr[data-key]').length").as_u64() <= Some(25), "{more}");
    }
    let bytes = "performance.getEntriesByType('resource').reduce((sum, { transferSize }) => sum + transferSize, 0)";
    let bytes = browser.value(bytes).as_u64().unwrap();
    assert!(bytes < 1_500_000, "{bytes} bytes came for six pages");
    browser.is_content();
    service.end();
}

#[test]
fn charts_are_given_as_numbers() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1 --set online.fleet-sizes=1,2-9");
    service.csv("/v1/online/events", events()).ok();
    let asked = || service.get("/v1/online/charts/online_daily.json?first=true").ok();
    let numbers = asked();
    let tag = numbers.headers["etag"].to_str().unwrap().to_string();
    assert_eq!(service.try_get("/v1/online/charts/online_daily.json", &[("if-none-match", &tag)]).unwrap().status, 304);
    let of = |numbers: &Value| {
        let mut rows = Vec::new();
        for series in numbers["layers"][0]["series"].as_array().unwrap() {
            let name = &numbers["names"][series["place"].as_u64().unwrap() as usize];
            let values = series["days"].as_array().unwrap().iter().zip(series["values"].as_array().unwrap());
            rows.extend(values.map(|(day, value)| (day.to_string(), name.to_string(), value.as_f64().unwrap() as u64)));
        }
        rows.sort();
        rows
    };
    let rows = || {
        let rows = service.get("/v1/online/tables/online_daily").ok().json();
        let row = |row: &Value| (row["day"].to_string(), row["fleet_size"].to_string(), row["devices"].as_u64().unwrap());
        let mut rows: Vec<_> = rows.as_array().unwrap().iter().map(row).collect();
        rows.sort();
        rows
    };
    let first = rows();
    assert_eq!((of(&numbers.json()), of(&numbers.json()["first"])), (first.clone(), first.clone()));
    service.csv("/v1/online/events", late()).ok();
    let numbers = asked().json();
    assert_eq!((of(&numbers), of(&numbers["first"])), (rows(), first.clone()));
    assert_ne!(rows(), first);
    service.get("/v1/online/charts/online_daily.txt").refused(404, "unknown_chart");
    service.end();
}

#[test]
fn names_are_never_markup() {
    let place = Place::new();
    let service = Service::start(&place, "online usage -w 1");
    let markup = "<img src=x onerror=window.hacked=1>";
    service.csv("/v1/online/events?name=%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E", events()).ok();
    let of = |log: &str, rest: &str| format!("{{\"time\":\"2026-03-01T08:00:00Z\",\"logId\":\"{log}\",{rest}}}");
    let (school, device) = ("a0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001");
    let session = "\"sessionId\":\"50000000-0000-4000-8000-000000000001\"";
    let lines = [
        of(school, r#""type":"SetLogType","logType":"School""#),
        of(school, &format!("\"type\":\"SetName\",\"name\":\"{markup}\"")),
        of(device, r#""type":"SetLogType","logType":"Device""#),
        of(device, &format!("\"type\":\"AssignToSchool\",\"schoolId\":\"{school}\"")),
        of(device, &format!("\"type\":\"StartSession\",{session}")).replace("08:00", "09:00"),
        of(device, &format!("\"type\":\"EndSession\",{session}")).replace("08:00", "10:00"),
    ];
    service.post("/v1/usage/events", &[("content-type", "application/x-ndjson")], lines.join("\n")).ok();
    let mut browser = Browser::start();
    for (view, shown) in [
        ("batches/online", ".rows td"),
        ("rejected/online", ".reason code"),
        ("dataflow/usage?table=usage_schools", ".rows td"),
        ("dataflow/usage", ".chart-card text"),
        ("dataflow/online?table=online_daily&f.day=%3Cimg%20src%3Dx%20onerror%3Dwindow.hacked%3D1%3E", ".chip"),
    ] {
        browser.open("about:blank", "true");
        browser.open(&at(&service, view), "document.querySelector('h1')");
        browser.until_text(shown, if shown == ".chart-card text" { "<img" } else { markup });
        assert_eq!(browser.value("[window.hacked ?? null, document.querySelectorAll('img[src=x]').length]"), json!([null, 0]), "{view}");
    }
    let page = service.get("/").ok();
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    service.end();
}

/// What an expression gives, in which `of` is a file of the page.
fn gives(browser: &mut Browser, file: &str, call: &str) -> Value {
    browser.value(&format!("import('/page/{file}').then((of) => {call})"))
}

#[test]
fn our_own_drawing_is_right() {
    let place = Place::new();
    let service = Service::start(&place, "online -w 1");
    let mut browser = Browser::start();
    browser.open(&at(&service, "overview"), "document.querySelector('h1')");
    let day = 86_400_000i64;
    for (file, call, expect) in [
        ("scale.js", "of.ticks(0, 103, 5)".into(), json!([0, 25, 50, 75, 100])),
        ("scale.js", "of.ticks(-0.3, 0.3, 3)".into(), json!([-0.2, 0, 0.2])),
        ("scale.js", "of.ticks(0, 2, 5, true)".into(), json!([0, 1, 2])),
        ("scale.js", "of.ticks(7, 7, 5)".into(), json!([7])),
        ("scale.js", "of.logTicks(1, 100)".into(), json!([1, 2, 5, 10, 20, 50, 100])),
        ("scale.js", "of.logTicks(1, 100000)".into(), json!([1, 10, 100, 1000, 10000, 100_000])),
        ("scale.js", format!("of.timeTicks(0, {}, 5)", 21 * day), json!({"marks": [4 * day, 11 * day, 18 * day], "unit": "day"})),
        ("scale.js", format!("of.timeTicks(0, {}, 4)", 100 * day), json!({"marks": [0, 31 * day, 59 * day, 90 * day], "unit": "month"})),
        ("scale.js", "of.timeLabel(Date.UTC(2026, 0, 1), 'month')".into(), json!("Jan 2026")),
        ("scale.js", "[of.scale([0, 10], [100, 200])(5), of.scale([0, 10], [100, 200]).invert(150)]".into(), json!([150, 5])),
        ("scale.js", "[of.scale([1, 100], [0, 2], true)(10), of.scale([1, 100], [0, 2], true).invert(1)]".into(), json!([1, 10])),
        (
            "scale.js",
            "[of.nearest([], 1), of.nearest([1, 5, 9], 3), of.nearest([1, 5, 9], 8), of.nearest([1], 7)]".into(),
            json!([-1, 0, 2, 0]),
        ),
        (
            "format.js",
            "[of.exact(1234567.125), of.exact(0.1), of.count(1234567), of.tick(1500000)]".into(),
            json!(["1,234,567.125", "0.1", "1.2M", "1.5M"]),
        ),
        ("format.js", "[of.moment(0, true), of.instant('1970-01-02'), of.duration(90000)]".into(), json!(["1970-01-01", day, "1 minute"])),
        ("names.js", "[of.distance('kitten', 'sitting'), of.distance('a', 'bcde', 2)]".into(), json!([3, 3])),
        ("feed.js", "of.kindOf('a.CSV.gz')".into(), json!({"content-type": "text/csv", "content-encoding": "gzip"})),
        ("api.js", "of.parse('[18446744073709551615, 1, 1.5]')".into(), json!(["18446744073709551615", 1, 1.5])),
    ] {
        assert_eq!(gives(&mut browser, file, &call), expect, "{call}");
    }
    // Areas stand on one another, and a day without a row counts as zero; a series that is off is not there.
    let numbers = json!({
        "categories": [], "names": ["a", "b"], "counts": true, "y_label": "", "title": "", "today": null,
        "layers": [{"kind": "area", "table": "t", "x": "day", "by": "s", "columns": ["n"], "series": [
            {"place": 0, "days": ["1970-01-01", "1970-01-03"], "values": [1, 3]}, {"place": 1, "days": ["1970-01-02"], "values": [5]},
        ]}],
    });
    let shapes = |off: &str, stacked: bool| {
        format!(
            "of.shapes(of.figure({numbers}), {{ off: new Set({off}), stacked: {stacked} }}).map(({{ kind, low, y }}) => [kind, low ?? null, y])"
        )
    };
    assert_eq!(
        gives(&mut browser, "figure.js", &shapes("[]", true)),
        json!([["area", [0, 0, 0], [1, 0, 3]], ["area", [1, 0, 3], [1, 5, 3]]])
    );
    assert_eq!(gives(&mut browser, "figure.js", &shapes("['a']", true)), json!([["area", [0], [5]]]));
    assert_eq!(gives(&mut browser, "figure.js", &shapes("[]", false)), json!([["line", null, [1, 3]], ["line", null, [5]]]));
    browser.is_content();
    service.end();
}

#[test]
fn a_demonstration_keeps_arriving_and_goes_on_after_a_restart() {
    let fed = |service: &Service, at_least: u64| {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let batches = service.get("/v1/online/batches?limit=1000").ok().json()["batches"].as_array().unwrap().clone();
            if batches.len() as u64 >= at_least {
                let facts = |batch: &Value| (batch["accepted"].as_u64(), batch["late"].as_u64(), batch["changed"].to_string());
                return batches.iter().rev().map(facts).collect::<Vec<_>>();
            }
            assert!(Instant::now() < until, "the demonstration does not go on");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let (place, other) = (Place::new(), Place::new());
    let service = Service::start(&place, "online -w 1 --demo=7");
    let first = fed(&service, 8);
    assert!(first.iter().any(|(_, late, _)| late.unwrap() > 0), "{first:?}");
    service.end();
    // It goes on where it was: the same batches as without a restart.
    let service = Service::start(&place, "online -w 2 --demo=7");
    let longer = fed(&service, 14);
    service.end();
    let whole = Service::start(&other, "online -w 1 --demo=7");
    let same = fed(&whole, 14);
    whole.end();
    assert_eq!(longer[..14], same[..14]);
    // Without a state of its own, nothing is left.
    let started = other.start("serve --demo --listen 127.0.0.1:0 -w 1");
    assert!(started.line().starts_with("listening on http://127.0.0.1:"));
    started.signal("TERM");
    let ran = started.finish().succeeds();
    assert!(ran.stderr.contains("in a browser"), "{}", ran.stderr);
    assert_eq!(other.names("."), ["state"]);
}
