//! The one worker loop: feed, step, gather, commit.

pub mod table;
