//! Kinds of failure: what whoever meets an error can do about it, whatever the error is about.

use nix::errno::Errno;
use std::io;

/// What to do about a failure of the system, where a limit of it was reached.
pub fn hint(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_raw(error.raw_os_error()?) {
        Errno::EMFILE => "allow the process more open files: ulimit -n 65536 (what it has now: ulimit -n); or take fewer workers: -w N",
        Errno::ENFILE => "the machine has no more open files to give: see /proc/sys/fs/file-nr, and raise fs.file-max with sysctl",
        Errno::EFBIG => "the file is larger than may be: see ulimit -f, and what the file system allows",
        Errno::ENOSPC => "the disk is full: make space there (df -h, df -i), or write elsewhere",
        Errno::EDQUOT => "the quota of the disk is used up: make space there (quota), or write elsewhere",
        Errno::ENOMEM => "there is no more memory: take fewer workers (-w N), or see the limits of the process (ulimit -v)",
        Errno::EROFS => "the file system is read-only: write elsewhere, or mount it for writing",
        _ => return None,
    })
}

/// What to do about a file or folder of this machine that can't be written.
pub fn hint_of_writing(error: &io::Error) -> &'static str {
    hint(error).unwrap_or(match error.kind() {
        io::ErrorKind::NotFound => "see that the folder is there, or give another place",
        io::ErrorKind::PermissionDenied => "see who may write there (ls -ld), or give another place",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "give the name of a folder, or of a new one",
        io::ErrorKind::IsADirectory => "give the name of a file",
        _ => "see that you may write there, or give another place",
    })
}

/// Likewise, of the first cause of an error that is one of the system.
pub fn hint_of_causes(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>().and_then(hint) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// What an error says, without the numbers that texts of the system's errors end in: those are for programs.
pub fn words(error: &(impl std::fmt::Display + ?Sized)) -> String {
    const NUMBER: &str = " (os error ";
    let mut text = error.to_string();
    while let Some(from) = text.find(NUMBER)
        && let Some(length) = text.get(from..).and_then(|rest| rest.find(')'))
    {
        text.replace_range(from..=from + length, "");
    }
    text
}

/// What became of a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it was before.
    NotDone,
    /// It may have been done, in whole or in part: ask what has been reached.
    MaybeDone,
}

/// What a failure means for what was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was given is wrong: it alone is refused, and all else goes on.
    BadInput,
    /// The same may succeed later: something is away, or a limit is reached for the moment.
    TryAgain,
    /// This process can't go on with what it holds: it ends, and starts again from what is stored.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not write")]
    struct Failed(#[source] io::Error);

    #[test]
    fn numbers_of_the_system_are_left_out() {
        let missing = io::Error::from(Errno::ENOENT);
        assert!(missing.to_string().ends_with(" (os error 2)"));
        assert_eq!(words(&missing), "No such file or directory");
        assert_eq!(words(&format!("a: {missing}; b: {missing} (x)")), "a: No such file or directory; b: No such file or directory (x)");
        assert_eq!(words("one (os error 2"), "one (os error 2");
    }

    #[test]
    fn limits_of_the_system_have_hints() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EFBIG, Errno::ENOSPC, Errno::EDQUOT, Errno::ENOMEM, Errno::EROFS] {
            let error = io::Error::from(errno);
            assert!(hint(&error).is_some(), "{error}");
            assert!(hint_of_causes(&Failed(error)).is_some());
        }
        assert_eq!(hint(&io::Error::from(Errno::ENOENT)), None);
        assert_eq!(hint_of_causes(&Failed(io::Error::other("x"))), None);
        assert!(hint(&Errno::EMFILE.into()).is_some_and(|hint| hint.contains("ulimit -n")));
    }
}
