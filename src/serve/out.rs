//! What `--out` of a service says: where its tables, or their changes, go.
//!
//! `webhook:URL#TABLE[?COLUMN=VALUE…]` names a server, a table of a dataflow that is served (`online.online_daily`, or `online_daily`), and
//! which of its rows are meant.
//!
//! # Limits
//! Of the URL of a webhook nothing but its host is shown: paths of webhooks are secrets as a rule.

use super::served::Served;
use crate::ingest::nearest::there_are;
use crate::shown::HIDDEN;
use crate::sinks::live::filter::Filter;
use crate::sinks::{Destination, Format};
use reqwest::Url;
use retally_core::contract::Table;
use std::net::IpAddr;
use std::path::PathBuf;

/// Where something goes.
#[derive(Clone)]
pub enum Out {
    /// Tables, to a database or to a folder of files of a format.
    Tables(Destination, Format),
    /// Changes of all tables, to a file.
    Changes(PathBuf),
    /// Changes of a table, to a server.
    Webhook(Box<Webhook>),
}

/// A server that is told the changes of a table.
#[derive(Clone)]
pub struct Webhook {
    /// The dataflow's place.
    pub place: usize,
    /// The dataflow.
    pub dataflow: &'static str,
    /// The table.
    pub table: Table,
    /// Which of its rows.
    pub filter: Filter,
    /// All that was given: two that are the same go on from the same place.
    pub given: String,
    /// Where it is.
    url: Url,
}

/// The text is no place where changes can go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't send changes to {shown:?}: {why}")]
pub struct NotOut {
    shown: String,
    why: String,
    /// What would be right.
    pub hint: String,
}

impl Out {
    /// Whether the changes of epochs wait for it in memory. Files are written as a whole, and who gets changes reads them where they are
    /// kept.
    pub fn takes_epochs(&self) -> bool {
        matches!(self, Out::Tables(destination, _) if !destination.has_files())
    }

    /// Whether it is written every so often.
    pub fn is_periodic(&self) -> bool {
        matches!(self, Out::Tables(destination, _) if destination.has_files())
    }

    /// Whether it is told anything of the dataflow in this place, where it names one itself.
    pub fn follows(&self, dataflow: usize) -> Option<bool> {
        let Out::Webhook(webhook) = self else { return None };
        Some(webhook.place == dataflow)
    }

    /// Whether both are the same place.
    pub fn is_same(&self, other: &Out) -> bool {
        match (self, other) {
            (Out::Tables(one, _), Out::Tables(two, _)) => one == two,
            (Out::Changes(one), Out::Changes(two)) => one == two,
            // What is sent there could not be told apart.
            (Out::Webhook(one), Out::Webhook(two)) => {
                one.url == two.url && (one.dataflow, one.table.name) == (two.dataflow, two.table.name)
            }
            _ => false,
        }
    }
}

impl Webhook {
    /// Reads `URL#TABLE[?COLUMN=VALUE…]`.
    pub fn parse(given: &str, dataflows: &[Served]) -> Result<Webhook, NotOut> {
        let refused = |shown: &str, why: String, hint: String| NotOut { shown: format!("webhook:{shown}"), why, hint };
        let plain = |why: &str| refused(HIDDEN, why.into(), "give webhook:https://HOST/PATH#DATAFLOW.TABLE?COLUMN=VALUE".into());
        let (url, rows) = given.split_once('#').ok_or_else(|| plain("it does not say of which table"))?;
        let url = Url::parse(url).map_err(|_| plain("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(plain("it is not http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(plain("it has a user or a password in it, and requests are signed: --webhook-secret-file"));
        }
        let (name, query) = rows.split_once('?').unwrap_or((rows, ""));
        let shown = shown(&url, rows);
        let tables =
            || dataflows.iter().enumerate().flat_map(|(place, served)| served.tables.iter().map(move |table| (place, served, table)));
        let is_it = |served: &Served, table: &Table| match name.split_once('.') {
            Some((dataflow, name)) => dataflow == served.name() && name == table.name,
            None => name == table.name,
        };
        let Some((place, served, table)) = tables().find(|(_, served, table)| is_it(served, table)) else {
            let names: Vec<String> = tables().map(|(_, served, table)| format!("{}.{}", served.name(), table.name)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return Err(refused(&shown, format!("there is no table {name:?}"), there_are(name, &names)));
        };
        // As the query of a URL is read.
        let mut conditions = url.clone();
        conditions.set_query(Some(query).filter(|query| !query.is_empty()));
        let pairs: Vec<(String, String)> = conditions.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let filter = Filter::new(table, pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let filter = filter.map_err(|bad| {
            let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
            refused(&shown, bad.to_string(), format!("columns of {} are {}", table.name, columns.join(", ")))
        })?;
        Ok(Webhook { place, dataflow: served.name(), table: table.clone(), filter, given: given.into(), url })
    }

    /// All of its URL: not to be shown.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// What messages call it.
    pub fn shown(&self) -> String {
        format!("webhook:{}", shown(&self.url, self.given.split_once('#').map_or("", |(_, rows)| rows)))
    }

    /// Whether it is `https://`.
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether the server is on this host.
    pub fn is_local(&self) -> bool {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// A URL's host, and what rows are meant.
fn shown(url: &Url, rows: &str) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if url.path() == "/" && url.query().is_none() { "/" } else { "/…" };
    format!("{}://{}{port}{path}#{rows}", url.scheme(), url.host_str().unwrap_or_default())
}
