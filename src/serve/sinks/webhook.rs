//! A server that is told the changes of a table, a request an epoch, in order: `webhook:URL#TABLE?COLUMN=VALUE`.
//!
//! `{"dataflow":"online","epoch":7,"table":"online_daily","changes":[{"row":{…},"diff":1}]}`, with the header
//! `Retally-Id: online.online_daily:7`. A row that went is a change too, with the difference -1: an alert that was wrong is taken back.
//! Where changes are not kept row by row (too many in an epoch, or too long ago, or of other settings), it is `{…,"reset":true}`: read the
//! table anew.
//!
//! A request that was answered with 2xx is not sent again: which one that was last is on the disk before the next. One that was not, or
//! whose answer was lost, is sent again with the same id, so a receiver that knows the last id of each table sees each change once. A new
//! webhook is told what changes from its start on.
//!
//! # Limits
//! An epoch's changes of a table are one body: 100,000 rows at most.

use super::super::further::Further;
use super::super::out::Webhook;
use super::super::service::Service;
use super::follower::{Follower, Trouble};
use super::position::{PositionFile, Told};
use super::post::Sender;
use crate::sinks::SinkError;
use crate::sinks::live::changes;
use crate::sinks::live::read::Snapshot;
use retally_core::Epoch;
use std::time::{Duration, Instant};

/// How often a position is written down that follows from no request.
const WRITE_EVERY: Duration = Duration::from_secs(10);

/// A webhook, on its way.
pub(super) struct Telling<'s> {
    further: &'s Further,
    service: &'s Service,
    webhook: &'s Webhook,
    /// Where it begins, when it is new.
    began: Epoch,
    fingerprint: String,
    file: PositionFile,
    sender: Option<Sender>,
    told: Option<Told>,
    written: Option<Instant>,
}

/// What comes next.
enum Next {
    /// A request of an epoch.
    Body(Epoch, String, Vec<u8>),
    /// Nothing is to be told up to here.
    Nothing(Epoch),
}

impl<'s> Telling<'s> {
    /// One that goes on where it is; a new one begins at what could be read before any batch was taken.
    pub(super) fn new(further: &'s Further, service: &'s Service, webhook: &'s Webhook, began: &[Option<Epoch>]) -> Telling<'s> {
        let fingerprint = service.dataflows.get(webhook.place).map(|served| served.fingerprint.clone()).unwrap_or_default();
        let wanted = further.wanted();
        let sender = Sender::new(webhook.url(), webhook.is_local(), webhook.is_secure(), wanted.silence_max, wanted.secret.clone());
        Telling {
            further,
            service,
            webhook,
            began: began.get(webhook.place).copied().flatten().unwrap_or(0),
            fingerprint,
            file: PositionFile::new(&service.local, &webhook.given),
            sender,
            told: None,
            written: None,
        }
    }

    /// All up to an epoch was told, under the settings that there are.
    fn now(&self, epoch: Epoch) -> Told {
        Told { epoch, fingerprint: self.fingerprint.clone() }
    }

    /// What was told is known after a restart, too.
    fn keep(&mut self, told: Told) -> Result<(), SinkError> {
        self.file.write(&told)?;
        self.written = Some(Instant::now());
        self.further.set_reached(self.webhook.place, Some(told.epoch));
        self.told = Some(told);
        Ok(())
    }

    /// The first request behind what it was told.
    fn next(&self, told: &Told) -> Result<Next, SinkError> {
        let Webhook { dataflow, table, .. } = self.webhook;
        self.service.readers.read(|snapshot| {
            let (now, kept_from) = (snapshot.epoch(dataflow)?, snapshot.changes_from(dataflow)?);
            let settings = (told.fingerprint != self.fingerprint).then_some(self.fingerprint.as_str());
            if settings.is_some() || !(kept_from..=now).contains(&told.epoch) {
                return Ok(Next::Body(now, self.id(now, settings), self.reset(now)));
            }
            let mut after = told.epoch;
            while let Some(epoch) = snapshot.next_change(dataflow, table, (after, now))? {
                if let Some(body) = self.body(snapshot, epoch)? {
                    return Ok(Next::Body(epoch, self.id(epoch, None), body));
                }
                after = epoch;
            }
            Ok(Next::Nothing(now))
        })
    }

    /// The body of an epoch; nothing where none of the rows that are meant has changed.
    fn body(&self, snapshot: &Snapshot<'_>, epoch: Epoch) -> Result<Option<Vec<u8>>, SinkError> {
        let Webhook { dataflow, table, filter, .. } = self.webhook;
        let (mut body, mut count, mut is_reset) = (self.head(epoch), 0_u64, false);
        body.extend_from_slice(b",\"changes\":[");
        snapshot.changes(dataflow, &[table], (epoch - 1, epoch), |_, table, change| match change {
            Some((diff, row)) if filter.takes(table, row) => {
                if count > 0 {
                    body.push(b',');
                }
                count += 1;
                body.extend_from_slice(format!("{{\"row\":{},\"diff\":{diff}}}", changes::json(table, row)).as_bytes());
            }
            Some(_) => {}
            None => is_reset = true,
        })?;
        body.extend_from_slice(b"]}");
        Ok(if is_reset { Some(self.reset(epoch)) } else { (count > 0).then_some(body) })
    }

    /// That the table is to be read again.
    fn reset(&self, epoch: Epoch) -> Vec<u8> {
        let mut body = self.head(epoch);
        body.extend_from_slice(b",\"reset\":true}");
        body
    }

    /// The beginning of a body. Names are ours.
    fn head(&self, epoch: Epoch) -> Vec<u8> {
        let Webhook { dataflow, table, .. } = self.webhook;
        format!("{{\"dataflow\":\"{dataflow}\",\"epoch\":{epoch},\"table\":\"{}\"", table.name).into_bytes()
    }

    /// What distinguishes a body from others. What an epoch is under other settings is something else.
    fn id(&self, epoch: Epoch, settings: Option<&str>) -> String {
        let id = format!("{}.{}:{epoch}", self.webhook.dataflow, self.webhook.table.name);
        match settings {
            Some(settings) => format!("{id}:{settings}"),
            None => id,
        }
    }

    fn send(&self, epoch: Epoch, id: &str, body: &[u8]) -> Result<(), Trouble> {
        let place = &self.further.wanted().shown;
        let failed = |why: &str| format!("could not send epoch {epoch} to {place:?}: {why}");
        let Some(sender) = &self.sender else {
            let why = failed("this machine has no certificates to tell a server by");
            return Err(Trouble { why, pause_min: Duration::ZERO, is_final: true });
        };
        sender.send(id, body).map_err(|trouble| Trouble { why: failed(&trouble.why), ..trouble })
    }
}

impl Follower for Telling<'_> {
    fn is_behind(&self, readable: &[Option<Epoch>]) -> bool {
        let readable = readable.get(self.webhook.place).copied().flatten();
        let is_told = |told: &Told| told.fingerprint == self.fingerprint && Some(told.epoch) >= readable;
        !self.told.as_ref().is_some_and(is_told)
    }

    fn step(&mut self) -> Result<(), Trouble> {
        if self.told.is_none() {
            match self.file.read()? {
                Some(told) => {
                    self.further.set_reached(self.webhook.place, Some(told.epoch));
                    self.told = Some(told);
                }
                None => self.keep(self.now(self.began))?,
            }
        }
        let Some(told) = self.told.clone() else { return Ok(()) };
        if self.further.is_ending() {
            // What is not begun by now is begun after the next start.
            return Ok(self.keep(told)?);
        }
        // One request is a step: behind one that was taken, patience begins anew.
        match self.next(&told)? {
            Next::Body(epoch, id, body) => {
                self.send(epoch, &id, &body)?;
                self.keep(self.now(epoch))?;
            }
            Next::Nothing(now) if self.written.is_none_or(|written| written.elapsed() >= WRITE_EVERY) => self.keep(self.now(now))?,
            Next::Nothing(now) => {
                self.told = Some(self.now(now));
                self.further.set_reached(self.webhook.place, Some(now));
            }
        }
        Ok(())
    }

    fn close(&mut self) {}
}
