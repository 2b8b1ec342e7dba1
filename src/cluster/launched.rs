//! What a process is told that `launch` has started: who it is, who the others are, and the secret that they share.
//!
//! It is the first line of its standard input, so that the secret stands on no command line, in no environment and in no file, and comes to
//! another host by ssh in the same way. The input stays open for as long as the process may work: its end is the request to end, and is
//! what remains of a `launch` that was killed. Empty lines are signs of life: where the link to the host of `launch` is cut, nothing else
//! tells.

use super::generation::Generation;
use super::nonce;
use super::secret::{BadSecret, Secret};
use crate::hex::hex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::time::Duration;

/// The variable that says where a process is told this; there is one place, [`STDIN`].
pub const VARIABLE: &str = "RETALLY_LAUNCHED";
/// The standard input.
pub const STDIN: &str = "stdin";
/// A line on standard input that ends the process at once.
pub const KILL: &str = "kill";
/// How often `launch` gives a sign of life.
pub const SIGN_EVERY: Duration = Duration::from_secs(3);
/// A process that hears none for so long ends: longer than processes take to notice that one of them is lost, and than ssh takes to notice
/// that its link is cut (15 s). Whoever launched it has started all again by then, or is gone.
pub const SILENT_MAX: Duration = Duration::from_secs(30);
/// What a process says on stderr, as a note, when it is connected with all others: what fails before is no loss of a process.
pub const MET: &str = "connected with all processes";
/// What process 0 of a service says on stderr when it goes on without the others, since its state is damaged.
pub const GOES_ON_ALONE: &str = "the tables can be read, and no batch is taken";
/// The bytes of a secret that is made up.
const SECRET_BYTES: usize = 32;
/// The most bytes of the line.
pub const LINE_BYTES_MAX: u64 = 1 << 20;

/// What a process is told.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// The number of the process.
    pub process: usize,
    /// The address of each process.
    pub addresses: Vec<String>,
    /// Workers of each, where that was said.
    pub workers: Option<usize>,
    /// Of which start they are.
    pub generation: u64,
    /// How long it may take to end once it is asked to, in milliseconds.
    pub stop_timeout_ms: u64,
    /// After how much silence of `launch` it is to end, in milliseconds; a `launch` of an older version gives no sign of life.
    pub silent_max_ms: Option<u64>,
    /// In hexadecimal digits.
    secret: String,
}

impl Launched {
    /// What the first of these processes is told, with a secret that nobody knows.
    pub fn new(addresses: Vec<String>, workers: Option<usize>, stop_timeout: Duration) -> io::Result<Launched> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (stop_timeout_ms, silent_max_ms) = (millis(stop_timeout), Some(millis(SILENT_MAX)));
        let secret = hex(&nonce::<SECRET_BYTES>()?);
        let launched = Launched { process: 0, addresses, workers, generation: 0, stop_timeout_ms, silent_max_ms, secret };
        launched.again()
    }

    /// The same for another start.
    pub fn again(self) -> io::Result<Launched> {
        let generation = Generation::mint(u64::from_le_bytes(nonce()?)).0;
        Ok(Launched { generation, ..self })
    }

    /// What a process of this number is told.
    pub fn of_process(&self, process: usize) -> Launched {
        Launched { process, ..self.clone() }
    }

    /// As a line.
    pub fn line(&self) -> String {
        // Numbers and texts.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Reads a line.
    pub fn parse(line: &str) -> Option<Launched> {
        let launched: Launched = serde_json::from_str(line).ok()?;
        (launched.process < launched.addresses.len()).then_some(launched)
    }

    /// The secret.
    pub fn secret(&self) -> Result<Secret, BadSecret> {
        Secret::new(self.secret.as_bytes())
    }
}

impl fmt::Debug for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launched").field("process", &self.process).field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_comes_back_and_shows_no_secret() {
        let addresses = vec!["127.0.0.1:1".to_string(), "127.0.0.1:2".to_string()];
        let launched = Launched::new(addresses, Some(2), Duration::from_secs(3)).unwrap();
        assert_eq!(Launched::parse(launched.line().trim_end()), Some(launched.clone()));
        assert!(launched.secret().is_ok() && !format!("{launched:?}").contains(&launched.secret));
        let again = launched.clone().again().unwrap();
        assert!(again.generation != launched.generation && again.secret == launched.secret);
        let other = Launched::new(launched.addresses.clone(), None, Duration::ZERO).unwrap();
        assert_ne!(other.secret, launched.secret);
        assert_eq!(Launched::parse(&Launched { process: 2, ..launched }.line()), None);
        assert!(["", "{}", "nothing"].into_iter().all(|line| Launched::parse(line).is_none()));
    }
}
