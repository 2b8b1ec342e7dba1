//! Asking a service: where it is, who asks, and what it answers.

use super::error::CliError;
use super::serve::LISTEN;
use crate::client::{self, no_answer};
use crate::failure;
use crate::shown;
use crate::staged::why;
use clap::ArgMatches;
use serde_json::Value;
use std::io::{self, Read};
use std::time::Duration;
use ureq::http::Uri;
use ureq::{Agent, Body};

/// For a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Of an error, this is read.
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// A service.
pub struct Server {
    /// Asks.
    pub agent: Agent,
    base: String,
    token: Option<String>,
}

/// An answer that is an error.
#[derive(Debug)]
pub struct Failed {
    /// The status.
    pub status: u16,
    /// What it says.
    pub error: CliError,
}

impl Server {
    /// That of a command line.
    pub fn of(matches: &ArgMatches) -> Result<Server, CliError> {
        let base = matches.get_one::<String>("server").cloned().unwrap_or_else(|| format!("http://{LISTEN}"));
        let wrong = || {
            CliError::usage(format!("--server {:?} is no URL of a service", shown::location(&base))).hint("give --server http://HOST:PORT")
        };
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().ok_or_else(wrong)?);
        if !matches!(scheme, "http" | "https") || shown::has_secret(&base) {
            return Err(wrong());
        }
        let is_local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let config = Agent::config_builder().timeout_connect(Some(CONNECT_MAX));
        let agent = client::agent(config, is_local, scheme == "https");
        let agent =
            agent.ok_or_else(|| CliError::failed("this machine has no certificates to see servers by").hint("install ca-certificates"))?;
        let token = matches.get_one::<String>("token-file").map(|path| {
            let read = std::fs::read_to_string(path)
                .map_err(|error| CliError::usage(format!("could not read --token-file {path:?}: {}", why(&error))));
            let token = read?.trim().to_string();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                let error = CliError::usage(format!("--token-file {path:?} is not a secret alone"));
                return Err(error.hint("of a line of --tokens, NAME read|write SECRET, it holds the last word"));
            }
            Ok(token)
        });
        Ok(Server { agent, base: base.trim_end_matches('/').into(), token: token.transpose()? })
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// What proves who asks.
    pub fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// Gets what is at a path.
    pub fn get(&self, path: &str, asked: &[(String, String)], headers: &[(&str, &str)]) -> Result<ureq::http::Response<Body>, CliError> {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in asked {
            request = request.query(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = self.authorization() {
            request = request.header("authorization", authorization);
        }
        let response = request.call().map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        if status == 200 { Ok(response) } else { Err(failed(status, response.into_body()).error) }
    }

    /// Gets the JSON at a path.
    pub fn json(&self, path: &str, asked: &[(String, String)]) -> Result<Value, CliError> {
        let mut text = String::new();
        let mut body = self.get(path, asked, &[])?.into_body().into_reader();
        body.read_to_string(&mut text).map_err(|error| CliError::failed(format!("the answer was cut off: {error}")))?;
        serde_json::from_str(&text).map_err(|error| CliError::failed(format!("the answer is none of a service: {error}")))
    }

    /// Posts JSON to a path, and returns the JSON that is answered.
    pub fn post(&self, path: &str, asked: &[(&str, &str)], headers: &[(&str, &str)], body: &Value) -> Result<Value, CliError> {
        let mut request = self.agent.post(self.url(path)).header("content-type", "application/json");
        for (name, value) in asked {
            request = request.query(*name, *value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = self.authorization() {
            request = request.header("authorization", authorization);
        }
        let response = request.send(body.to_string()).map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(failed(status, response.into_body()).error);
        }
        let text = response.into_body().read_to_string();
        let text = text.map_err(|error| CliError::failed(format!("the answer was cut off: {error}")))?;
        serde_json::from_str(&text).map_err(|error| CliError::failed(format!("the answer is none of a service: {error}")))
    }

    /// It does not answer.
    pub fn unreachable(&self, error: &ureq::Error) -> CliError {
        let said = no_answer(error).unwrap_or_else(|| failure::words(error));
        let hint = if said.contains("certificate") {
            "its certificate is of no authority that this machine knows: SSL_CERT_FILE=FILE names another one"
        } else if is_lasting(error) {
            "does it answer by HTTPS? Otherwise its address begins with http"
        } else {
            "start it (`retally serve`), or say where it is: --server URL"
        };
        CliError::failed(format!("could not ask the service at {}: {said}", self.base)).hint(hint)
    }
}

/// Whether it is the same when it is asked again: it speaks another protocol, or shows a certificate that is not believed.
pub fn is_lasting(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Io(cause) => cause.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// What an answer says that is an error.
pub fn failed(status: u16, body: Body) -> Failed {
    let mut text = String::new();
    // What can't be read says nothing.
    body.into_reader().take(ERROR_BYTES_MAX).read_to_string(&mut text).ok();
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let said = |name: &str| answer.get("error").and_then(|error| error.get(name)?.as_str()).map(String::from);
    let error = CliError::failed(said("message").unwrap_or_else(|| format!("the service answered with status {status}")));
    // The service does not know how it is asked.
    let error = match (status, said("hint")) {
        (401 | 403, Some(_)) if answer.pointer("/error/code").is_some_and(|code| code == "token" || code == "read_only") => {
            let may = if status == 403 { " that may write" } else { "" };
            error.hint(format!(
                "--token-file FILE says who asks: it holds the secret of a token{may}, the last word of its line of --tokens"
            ))
        }
        (_, Some(hint)) => error.hint(hint),
        (_, None) => error,
    };
    Failed { status, error }
}
