//! A word before memory runs out.
//!
//! The system kills a process that needs more than there is, on the machine or in its control group, as containers and units of systemd
//! have them. It gives the process no time to say why, so who looks for the reason finds nothing in its log. Therefore it is said when
//! little is left, once, and again where it got better and worse in between.
//!
//! # Limits
//! How near a limit on addresses is (`ulimit -v`) can't be seen: the allocator takes addresses in advance. So it is said at the start.

use indicatif::HumanBytes;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// When so many hundredths are in use, little is left.
const SCARCE: u64 = 92;
/// When no more than so many are in use, enough is left.
const ENOUGH: u64 = 80;

/// Memory that is in use, of what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Room {
    used: u64,
    all: u64,
    /// Who has no more.
    of: &'static str,
}

impl Room {
    /// How many hundredths are in use.
    fn hundredths(&self) -> u64 {
        self.used.saturating_mul(100) / self.all.max(1)
    }

    fn warning(&self) -> String {
        format!(
            "memory is running out: {} of the {} of {} are in use, and the system kills a process that needs more; \
             give it more, or have it build fewer tables (--tables)",
            HumanBytes(self.used),
            HumanBytes(self.all),
            self.of,
        )
    }
}

/// Says when little memory is left, as long as this process lives.
pub fn watch(told: impl Fn(&str) + Send + 'static) {
    if let Ok((addresses, _)) = getrlimit(Resource::RLIMIT_AS)
        && addresses != RLIM_INFINITY
    {
        told(&format!(
            "this process may take {} of addresses (ulimit -v) and is aborted when it takes more, which is long before it has used as much \
             memory; limit its memory with a control group: systemd-run --user -p MemoryMax=4G",
            HumanBytes(addresses)
        ));
    }
    let look = move || {
        let mut is_scarce = false;
        loop {
            let scarce = fullest(Path::new("/proc"), Path::new("/sys/fs/cgroup"));
            if let Some(room) = turned_scarce(&mut is_scarce, scarce) {
                told(&room.warning());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    };
    // Where it can't be watched, that is all that is lost.
    std::thread::Builder::new().name("memory".into()).spawn(look).ok();
}

/// The room, where it has just become scarce.
fn turned_scarce(is_scarce: &mut bool, room: Option<Room>) -> Option<Room> {
    let room = room?;
    let was_scarce = *is_scarce;
    *is_scarce = room.hundredths() >= if was_scarce { ENOUGH + 1 } else { SCARCE };
    (*is_scarce && !was_scarce).then_some(room)
}

/// The one of which the largest part is in use: the machine, or a control group of this process.
fn fullest(proc: &Path, groups: &Path) -> Option<Room> {
    let machine = machine(proc);
    let all = machine.as_ref().map_or(u64::MAX, |machine| machine.all);
    let listed = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
    // Without a limit of its own, a group says that it has a very large one, or none.
    let limited = listed.lines().flat_map(|line| rooms(line, groups)).filter(|room| room.all < all);
    limited.chain(machine.clone()).max_by_key(Room::hundredths)
}

fn machine(proc: &Path) -> Option<Room> {
    let text = fs::read_to_string(proc.join("meminfo")).ok()?;
    let bytes = |name: &str| {
        let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        kilobytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let all = bytes("MemTotal")?;
    Some(Room { used: all.saturating_sub(bytes("MemAvailable")?), all, of: "this machine" })
}

/// Where one of the two versions of control groups says what of memory.
struct Files {
    limit: &'static str,
    used: &'static str,
    cached: [&'static str; 2],
}

/// The rooms of a group and of those that it is in; `line` names it: `0::/a/b`, or `4:memory:/a/b`, as older systems have it.
fn rooms(line: &str, groups: &Path) -> Vec<Room> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (base, files) = match controllers {
        "" => (groups.to_path_buf(), Files { limit: "memory.max", used: "memory.current", cached: ["inactive_file", "active_file"] }),
        some if some.split(',').any(|one| one == "memory") => {
            let cached = ["total_inactive_file", "total_active_file"];
            (groups.join("memory"), Files { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cached })
        }
        _ => return Vec::new(),
    };
    let own: PathBuf = base.join(path.trim_start_matches('/'));
    // In a container, its own group may be the first that is seen.
    own.ancestors().take_while(|folder| folder.starts_with(&base)).filter_map(|folder| room(folder, &files)).collect()
}

fn room(folder: &Path, files: &Files) -> Option<Room> {
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let (all, used) = (number(files.limit)?, number(files.used)?);
    // What is kept of files goes when memory is needed.
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = |name: &&str| stat.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(' ')?.parse::<u64>().ok());
    let used = used.saturating_sub(files.cached.iter().filter_map(cached).sum());
    Some(Room { used, all, of: "its control group" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A system with 1,000 kB, of which 400 are available, and files of groups.
    fn system(cgroup: &str, files: &[(&str, &str)]) -> TempDir {
        let system = TempDir::new().unwrap();
        let meminfo = "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    400 kB\n";
        for (name, text) in [("proc/meminfo", meminfo), ("proc/self/cgroup", cgroup)].iter().chain(files) {
            let path = system.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        system
    }

    fn found(cgroup: &str, files: &[(&str, &str)]) -> Option<Room> {
        let system = system(cgroup, files);
        fullest(&system.path().join("proc"), &system.path().join("groups"))
    }

    const MACHINE: Option<Room> = Some(Room { used: 600 << 10, all: 1_000 << 10, of: "this machine" });

    #[test]
    fn the_fullest_of_machine_and_groups_counts() {
        assert_eq!(found("", &[]), MACHINE);
        assert_eq!(found("0::/\n", &[("groups/memory.max", "max\n"), ("groups/memory.current", "5\n")]), MACHINE);
        // A group without a limit, in one with a limit; files that are cached are none of it.
        let files = [
            ("groups/a/memory.max", "100000\n"),
            ("groups/a/memory.current", "95000\n"),
            ("groups/a/memory.stat", "anon 1\ninactive_file 1000\nactive_file 2000\nfile_dirty 9\n"),
            ("groups/a/b/memory.max", "max\n"),
            ("groups/a/b/memory.current", "90000\n"),
        ];
        assert_eq!(found("0::/a/b\n", &files), Some(Room { used: 92_000, all: 100_000, of: "its control group" }));
        let files = [
            ("groups/memory/a/memory.limit_in_bytes", "100000\n"),
            ("groups/memory/a/memory.usage_in_bytes", "95000\n"),
            ("groups/memory/a/memory.stat", "total_inactive_file 5000\ntotal_active_file 0\ninactive_file 7\n"),
            ("groups/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("groups/memory/memory.usage_in_bytes", "9223372036854771711\n"),
        ];
        assert_eq!(
            found("5:cpu:/a\n4:hugetlb,memory:/a\n0::/\n", &files),
            Some(Room { used: 90_000, all: 100_000, of: "its control group" })
        );
        // In a container, whose group is seen under another path than it is named by.
        let files = [("groups/memory.max", "1000\n"), ("groups/memory.current", "999\n")];
        assert_eq!(found("0::/of/the/host\n", &files), Some(Room { used: 999, all: 1_000, of: "its control group" }));
    }

    #[test]
    fn it_is_said_once_until_it_got_better() {
        let mut is_scarce = false;
        let mut told = |used: u64| turned_scarce(&mut is_scarce, Some(Room { used, all: 100, of: "it" })).is_some();
        let told: Vec<bool> = [10, 91, 92, 99, 85, 92, 80, 91, 95].map(&mut told).into();
        assert_eq!(told, [false, false, true, false, false, false, false, false, true]);
        assert_eq!(turned_scarce(&mut true, None), None);
        assert_eq!(
            Room { used: 950 << 20, all: 1 << 30, of: "its control group" }.warning(),
            "memory is running out: 950.00 MiB of the 1.00 GiB of its control group are in use, and the system kills a process that needs \
             more; give it more, or have it build fewer tables (--tables)"
        );
    }
}
