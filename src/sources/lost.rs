//! A connection to a broker that is lost, and what is done until it is there again.

use super::status::Status;
use super::url::Url;
use crate::backoff::Backoff;
use std::time::Duration;

/// How long a broker that is away, or a service that takes nothing, is left alone at first.
pub const PAUSE: Duration = Duration::from_millis(100);
/// And at most.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Why there is no connection, and whether there was one.
pub struct Lost {
    /// Why.
    pub why: String,
    /// Whether messages could come by it.
    pub was_there: bool,
}

impl Lost {
    /// Before messages could come.
    pub fn before(why: impl ToString) -> Lost {
        Lost { why: why.to_string(), was_there: false }
    }

    /// When messages could come.
    pub fn since(why: impl ToString) -> Lost {
        Lost { why: why.to_string(), was_there: true }
    }
}

/// The tries to connect.
pub struct Tries<'u> {
    url: &'u Url,
    backoff: Backoff,
}

impl Tries<'_> {
    /// None yet.
    pub fn new(url: &Url) -> Tries<'_> {
        Tries { url, backoff: Backoff::new(PAUSE, PAUSE_MAX) }
    }

    /// Waits until the next one. `told` is called where the reason is another one.
    pub async fn wait(&mut self, lost: Lost, status: &Status, told: &impl Fn(&str)) {
        let Lost { why, was_there } = lost;
        if was_there {
            self.backoff.reset();
        }
        if status.disconnected(&why) {
            told(&format!("{}: {why}; trying again", self.url.shown()));
        }
        tokio::time::sleep(self.backoff.pause()).await;
    }
}
