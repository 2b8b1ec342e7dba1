//! How this program asks servers over HTTP.

use crate::failure;
use std::sync::Arc;
use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;

/// An agent that tells answers of all kinds, and goes nowhere else than it is sent. To a server of this machine no proxy leads. Nothing,
/// where a server proves who it is, and the machine has no certificates to see it by.
pub fn agent(config: ConfigBuilder<AgentScope>, is_local: bool, is_secure: bool) -> Option<Agent> {
    let mut config = config
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("retally/", env!("CARGO_PKG_VERSION")));
    if is_local {
        // What is said of the way out holds for what is out.
        config = config.proxy(None);
    }
    if is_secure {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            return None;
        }
        let certificates = found.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        config = config.tls_config(tls.build());
    }
    Some(config.build().new_agent())
}

/// Why there is no answer, where a URL is in no text of that error.
pub fn no_answer(error: &ureq::Error) -> Option<String> {
    use ureq::Error as E;
    Some(match error {
        E::Io(error) => failure::words(error),
        E::HostNotFound => "no such host".into(),
        E::Timeout(_) => "it does not answer in time".into(),
        E::ConnectionFailed => "it can't be reached".into(),
        E::Protocol(error) => format!("it does not speak HTTP: {error}"),
        E::Tls(why) => format!("no secure connection: {why}"),
        E::Rustls(why) => format!("no secure connection: {why}"),
        _ => return None,
    })
}
