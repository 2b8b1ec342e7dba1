//! A machine that loses its power: the disk has what was synced, and nothing else. What the program does with its state is recorded by
//! `strace`, and carried out up to a moment: of a file what it held when it was synced last, under the name that its folder had then.

use crate::support::known::{EVENTS, table};
use crate::support::program::{Place, Started};
use crate::support::service::{Asker, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CALLS: &str = "openat,write,pwrite64,writev,lseek,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,\
                     link,linkat,copy_file_range,sendfile,fallocate,sync_file_range";

/// The program, recorded in the file `trace` of the place.
fn recorded(place: &Place, trace: &str, words: &str) -> Started {
    let program = place.command(words);
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-s", "100000000", "-o", trace, "-e", &format!("trace={CALLS}")]);
    command.arg(program.get_program()).args(program.get_args()).current_dir(program.get_current_dir().unwrap());
    command.env("COLUMNS", "100").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Started::new(command, words)
}

#[derive(Clone, Default)]
struct File {
    /// As programs see it, and as it was synced.
    now: Vec<u8>,
    synced: Vec<u8>,
}

/// Files and folders below a folder, as they are and as the disk has them.
#[derive(Clone, Default)]
struct Disk {
    root: PathBuf,
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    synced_folders: BTreeSet<PathBuf>,
    /// Files that are open: where the next write goes.
    open: BTreeMap<u64, (usize, u64)>,
    /// The epochs that were answered.
    answered: BTreeSet<u64>,
}

impl Disk {
    fn is_below(&self, path: &Path) -> bool {
        path.starts_with(&self.root) && path != self.root
    }

    /// Carries a call out. Returns whether it may have changed what the disk has.
    fn call(&mut self, name: &str, arguments: &str, result: i64) -> bool {
        let texts = texts(arguments);
        let numbers: Vec<u64> = arguments.rsplit(", ").map_while(|number| number.parse().ok()).collect();
        let fd: Option<u64> = arguments.split_once('<').and_then(|(fd, _)| fd.parse().ok());
        let path_of_fd =
            || PathBuf::from(arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path));
        // The program works in the folder.
        let root = self.root.clone();
        let path = |text: &[u8]| root.join(String::from_utf8(text.to_vec()).unwrap());
        match name {
            _ if result < 0 => {}
            "openat" => {
                let path = path(&texts[0]);
                self.open.remove(&result.unsigned_abs());
                if self.is_below(&path) && !self.folders.contains(&path) {
                    let number = match self.names.get(&path) {
                        Some(number) => *number,
                        None => {
                            assert!(arguments.contains("O_CREAT") || path.is_dir(), "{arguments}");
                            self.files.push(File::default());
                            self.names.insert(path, self.files.len() - 1);
                            self.files.len() - 1
                        }
                    };
                    if arguments.contains("O_TRUNC") {
                        self.files[number].now.clear();
                    }
                    let at = if arguments.contains("O_APPEND") { u64::MAX } else { 0 };
                    self.open.insert(result.unsigned_abs(), (number, at));
                }
            }
            "write" | "pwrite64" => {
                let Some((number, at)) = fd.and_then(|fd| self.open.get_mut(&fd)) else { return self.answer(&texts) };
                let file = &mut self.files[*number].now;
                let from = match (name, *at) {
                    ("pwrite64", _) => numbers[0],
                    (_, u64::MAX) => file.len() as u64,
                    (_, at) => at,
                } as usize;
                let text = &texts[0][..result as usize];
                file.resize(file.len().max(from + text.len()), 0);
                file[from..from + text.len()].copy_from_slice(text);
                if name == "write" && *at != u64::MAX {
                    *at += text.len() as u64;
                }
            }
            "writev" => return self.answer(&texts),
            "lseek" => {
                if let Some((_, at)) = fd.and_then(|fd| self.open.get_mut(&fd)).filter(|(_, at)| *at != u64::MAX) {
                    *at = result.unsigned_abs();
                }
            }
            "ftruncate" => {
                if let Some((number, _)) = fd.and_then(|fd| self.open.get(&fd)) {
                    self.files[*number].now.resize(numbers[0] as usize, 0);
                }
            }
            "fsync" | "fdatasync" => {
                let folder = path_of_fd();
                if let Some((number, _)) = fd.and_then(|fd| self.open.get(&fd)) {
                    let file = &mut self.files[*number];
                    file.synced.clone_from(&file.now);
                    return true;
                }
                let is_in = |path: &Path| path.parent() == Some(&folder);
                self.synced_names.retain(|path, _| !is_in(path));
                self.synced_names.extend(self.names.iter().filter(|(path, _)| is_in(path)).map(|(path, number)| (path.clone(), *number)));
                self.synced_folders.retain(|path| !is_in(path));
                self.synced_folders.extend(self.folders.iter().filter(|path| is_in(path)).cloned());
                return true;
            }
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = (path(&texts[0]), path(&texts[1]));
                if let Some(number) = self.names.remove(&from) {
                    self.names.insert(to, number);
                }
            }
            "unlink" | "unlinkat" => drop(self.names.remove(&path(&texts[0]))),
            "mkdir" => {
                let path = path(&texts[0]);
                if self.is_below(&path) {
                    self.folders.insert(path);
                }
            }
            other => assert!(!arguments.contains(self.root.to_str().unwrap()), "{other} is not known here: {arguments}"),
        }
        false
    }

    /// What is written to somebody else: an answer to a batch, perhaps.
    fn answer(&mut self, texts: &[Vec<u8>]) -> bool {
        let epoch = |text: &Vec<u8>| -> Option<u64> {
            let text = String::from_utf8_lossy(text);
            let (_, rest) = text.split_once("{\"epoch\":")?;
            rest.split(',').next()?.parse().ok()
        };
        let answered: Vec<u64> = texts.iter().filter_map(epoch).collect();
        self.answered.extend(&answered);
        !answered.is_empty()
    }

    /// What is found when the power is there again.
    fn restore(&self, place: &Place, to: &str) {
        for folder in &self.synced_folders {
            std::fs::create_dir_all(place.path(to).join(folder.strip_prefix(&self.root).unwrap())).unwrap();
        }
        for (path, number) in &self.synced_names {
            let path = place.path(to).join(path.strip_prefix(&self.root).unwrap());
            // Its folder may not be there.
            if path.parent().unwrap().is_dir() {
                std::fs::write(path, &self.files[*number].synced).unwrap();
            }
        }
    }
}

/// The texts between quotes in the arguments of a call, with what is escaped in them.
fn texts(arguments: &str) -> Vec<Vec<u8>> {
    let (mut texts, mut bytes) = (Vec::new(), arguments.bytes().peekable());
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            continue;
        }
        let mut text = Vec::new();
        loop {
            match bytes.next().unwrap() {
                b'"' => break,
                b'\\' => match bytes.next().unwrap() {
                    b'n' => text.push(b'\n'),
                    b't' => text.push(b'\t'),
                    b'r' => text.push(b'\r'),
                    b'v' => text.push(0x0b),
                    b'f' => text.push(0x0c),
                    digit @ b'0'..=b'7' => {
                        let mut number = u32::from(digit - b'0');
                        for _ in 0..2 {
                            let Some(digit) = bytes.next_if(|byte| (b'0'..=b'7').contains(byte)) else { break };
                            number = number * 8 + u32::from(digit - b'0');
                        }
                        text.push(number as u8);
                    }
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
        texts.push(text);
    }
    texts
}

/// Carries out what was recorded. `each` is called where what the disk has, or what was answered, may have changed.
fn carried_out(disk: &mut Disk, trace: &str, mut each: impl FnMut(&Disk)) {
    disk.open.clear();
    let mut begun: BTreeMap<&str, String> = BTreeMap::new();
    for line in trace.lines() {
        let (process, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        let whole = match (rest.strip_suffix(" <unfinished ...>"), rest.strip_prefix("<... ")) {
            (Some(begin), _) => {
                begun.insert(process, begin.into());
                continue;
            }
            (None, Some(end)) => begun.remove(process).unwrap() + end.split_once(" resumed>").unwrap().1,
            (None, None) => rest.into(),
        };
        // A signal, or the end of a process.
        let Some((call, result)) = whole.rsplit_once(" = ").filter(|(call, _)| call.contains('(')) else { continue };
        let (name, arguments) = call.trim_end().split_once('(').unwrap();
        let digits = result.split(|letter: char| letter != '-' && !letter.is_ascii_digit()).next().unwrap();
        let Ok(result) = digits.parse() else { continue };
        if disk.call(name, arguments.strip_suffix(')').unwrap_or(arguments), result) {
            each(disk);
        }
    }
}

/// A line of a device of its own.
fn line(device: u32) -> String {
    format!("2024-03-01 08:00:00,{device},7,1,true")
}

/// The batches of the session, by epoch: the last ones take back what came before.
fn feed(asker: &Asker) {
    let post = |body: String, wait: &str| drop(asker.csv(&format!("/v1/online/events?wait={wait}"), body).ok());
    for device in 1..=4 {
        post(table(&EVENTS, &[line(device)]), if device % 2 == 0 { "durable" } else { "visible" });
    }
    // Of a size that is kept as a file.
    post(table(&EVENTS, &(0..4_000).map(|number| line(if number < 3_999 { 5 } else { 6 })).collect::<Vec<_>>()), "visible");
    post(table(&EVENTS, &[line(7)]), "visible");
}

/// The devices that are there after so many batches.
fn devices(epochs: u64) -> Vec<u64> {
    (1..=[0, 1, 2, 3, 4, 6, 7][epochs as usize]).collect()
}

#[test]
fn what_was_answered_is_there_after_a_loss_of_power() {
    let place = Place::new();
    let started = recorded(&place, "first", "serve online -w 1 --state state --listen 127.0.0.1:0");
    let address = started.line().strip_prefix("listening on ").unwrap().to_string();
    let asker = Asker::new(address);
    asker.until_ready();
    feed(&asker);
    // It is asked itself, and not who records it.
    let lock: serde_json::Value = serde_json::from_str(&place.read("state/lock")).unwrap();
    let asked = Command::new("kill").arg(lock["pid"].to_string()).status();
    assert!(asked.unwrap().success());
    started.finish();
    recorded(&place, "second", "compact --state state").finish().succeeds();

    let mut disk = Disk { root: std::fs::canonicalize(place.path(".")).unwrap(), ..Disk::default() };
    let mut moments: Vec<Disk> = Vec::new();
    for trace in ["first", "second"] {
        carried_out(&mut disk, &place.read(trace), |disk| moments.push(disk.clone()));
    }
    assert_eq!(disk.answered, (1..=6).collect(), "all answers are seen");
    assert!(moments.len() > 20, "{} moments", moments.len());
    for (number, disk) in moments.into_iter().enumerate() {
        let after = Place::new();
        disk.restore(&after, ".");
        let least = disk.answered.iter().max().copied().unwrap_or(0);
        let service = Service::start(&after, "online -w 1");
        let rows = service.get("/v1/online/tables/online_intervals").ok().json();
        let mut found: Vec<u64> = rows.as_array().unwrap().iter().map(|row| row["device_id"].as_u64().unwrap()).collect();
        found.sort_unstable();
        let epoch = service.get("/v1/status").ok().json()["dataflows"]["online"]["epoch"].as_u64().unwrap();
        assert!(epoch >= least, "moment {number}: {epoch} batches of {least}");
        assert_eq!(found, devices(epoch), "moment {number}");
        service.end();
        after.run("verify --state state").succeeds();
    }
}
