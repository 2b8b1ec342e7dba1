//! TLS to a PostgreSQL server: what `sslmode` and `sslrootcert` ask for, as in PostgreSQL's own programs.
//!
//! | `sslmode` | encrypted | the server's certificate |
//! |---|---|---|
//! | `disable` | no | |
//! | `prefer` (the default) | where the server takes it | is not verified |
//! | `require` | yes | is not verified; with `sslrootcert` as `verify-ca` |
//! | `verify-ca` | yes | leads to a root |
//! | `verify-full` | yes | leads to a root, and is of the host that is named |
//!
//! Roots are the certificates of `sslrootcert=PATH` and no others; without it, those that the system trusts. Both are parameters of the
//! URL, or `PGSSLMODE` and `PGSSLROOTCERT`.
//!
//! # Limits
//! Names are those of a certificate's `subjectAltName`: its common name is not looked at. There are no client certificates and no
//! revocation lists. Through a Unix socket nothing is encrypted.

use super::server_error::ServerError;
use reqwest::Url;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Roots {
    System,
    File(PathBuf),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    mode: Mode,
    roots: Option<Roots>,
}

/// Why it can't be had, and what would be right.
pub(super) type NotThat = (&'static str, &'static str);

const MODES: &str = "sslmode is disable, prefer, require, verify-ca or verify-full";

impl Asked {
    /// Takes what is said of TLS out of a URL, whose rest is returned. What it does not say, `variable` may: `PGSSLMODE`, `PGSSLROOTCERT`.
    pub(super) fn take(url: &str, variable: impl Fn(&str) -> Option<String>) -> Result<(String, Asked), NotThat> {
        // A password may have a question mark in it.
        let host = url.find('@').unwrap_or(0);
        let mark = url.get(host..).and_then(|behind| behind.find('?')).map_or(url.len(), |place| host + place);
        let (start, query) = url.split_at(mark);
        let (mut mode, mut roots) = (variable("PGSSLMODE"), variable("PGSSLROOTCERT"));
        let mut rest = Vec::new();
        for pair in query.trim_start_matches('?').split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(decoded(value)),
                Some(("sslrootcert", value)) => roots = Some(decoded(value)),
                Some(("sslcert" | "sslkey" | "sslpassword" | "sslcrl" | "sslcrldir", _)) => {
                    return Err(("it asks for client certificates or revocation lists, which are not supported", MODES));
                }
                _ => rest.push(pair),
            }
        }
        let roots = roots.filter(|roots| !roots.is_empty()).map(|roots| match roots.as_str() {
            "system" => Roots::System,
            path => Roots::File(path.into()),
        });
        let mode = match mode.as_deref().filter(|mode| !mode.is_empty()) {
            None if roots == Some(Roots::System) => Mode::VerifyFull,
            None | Some("prefer") => Mode::Prefer,
            Some("disable") => Mode::Disable,
            Some("require") => Mode::Require,
            Some("verify-ca") => Mode::VerifyCa,
            Some("verify-full") => Mode::VerifyFull,
            Some("allow") => return Err(("sslmode=allow is not supported", "give sslmode=prefer, or disable")),
            Some(_) => return Err(("there is no such sslmode", MODES)),
        };
        if roots == Some(Roots::System) && mode != Mode::VerifyFull {
            return Err(("sslrootcert=system needs sslmode=verify-full", MODES));
        }
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Ok((format!("{start}{query}"), Asked { mode, roots }))
    }
}

/// What the environment sets.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The value of a parameter as it was before it was encoded.
fn decoded(value: &str) -> String {
    let url = Url::parse(&format!("x:?v={}", value.replace('+', "%2B")));
    url.ok().and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned())).unwrap_or_default()
}

/// Connects as was asked for.
#[derive(Clone)]
pub(super) struct Tls {
    mode: Mode,
    connector: MakeRustlsConnect,
}

/// What a connection goes through, encrypted or not.
type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl Tls {
    /// Reads the certificates that are needed. An error reports which file can't be read, or that there are none.
    pub(super) fn new(asked: &Asked) -> Result<Tls, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifies = matches!(asked.mode, Mode::VerifyCa | Mode::VerifyFull) || (asked.mode == Mode::Require && asked.roots.is_some());
        let roots = match &asked.roots {
            _ if !verifies => Vec::new(),
            Some(Roots::File(path)) => read(path)?,
            Some(Roots::System) | None => rustls_native_certs::load_native_certs().certs,
        };
        let chain = if verifies {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots.iter().cloned());
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider)).build();
            Some(built.map_err(|_| "this machine has no certificates to tell a server by: give sslrootcert=PATH")?)
        } else {
            None
        };
        let verifier = Verifier { chain, looks_at_name: asked.mode == Mode::VerifyFull, roots, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| format!("no TLS: {error}"))?;
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        Ok(Tls { mode: asked.mode, connector: MakeRustlsConnect::new(config) })
    }

    /// Says so in the configuration of a connection.
    pub(super) fn configure(&self, config: &mut Config) {
        let is_local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        config.ssl_mode(match self.mode {
            _ if is_local => SslMode::Disable,
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
    }

    /// Connects. Where TLS is preferred and not required, it is gone without when the server speaks another one, or wants none.
    pub(super) async fn connect(&self, config: &Config) -> Result<(Client, Connection<Socket, Stream>), ServerError> {
        match config.connect(self.connector.clone()).await {
            Err(error) if config.get_ssl_mode() == SslMode::Prefer && is_of_tls(&error) => {
                let mut config = config.clone();
                Ok(config.ssl_mode(SslMode::Disable).connect(self.connector.clone()).await?)
            }
            Err(error) if is_handshake(&error) => Err(refused(&error)),
            connected => Ok(connected?),
        }
    }

    /// What secures a request to end what a connection does.
    pub(super) fn connector(&self) -> MakeRustlsConnect {
        self.connector.clone()
    }
}

/// Whether a connection has failed because it was to be encrypted, as far as one can see.
fn is_of_tls(error: &Error) -> bool {
    is_handshake(error) || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Whether it ended before the server knew who we are. The library has no other word for it.
fn is_handshake(error: &Error) -> bool {
    error.to_string() == "error performing TLS handshake"
}

/// The error of a handshake in words.
fn refused(error: &Error) -> ServerError {
    let cause = error.source();
    let inner = cause.and_then(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>());
    let text = cause.map(ToString::to_string).unwrap_or_default();
    let (why, hint) = match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented })) => {
            let names: Vec<&str> = presented.iter().map(|name| named(name)).collect();
            let of = if names.is_empty() { "names no host in its subjectAltName".into() } else { format!("is of {}", names.join(", ")) };
            (
                format!("the server's certificate is not of {:?}: it {of}", expected.to_str()),
                "nothing was written; give the host by the name in its certificate; sslmode=verify-ca does not look at names",
            )
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => (
            "the server's certificate is of an unknown issuer".into(),
            "nothing was written; give the certificate of its issuer: sslrootcert=PATH",
        ),
        Some(rustls::Error::InvalidCertificate(error)) => {
            (format!("the server's certificate can't be accepted: {error}"), "nothing was written; renew the server's certificate")
        }
        None if text.contains("does not support TLS") => {
            ("the server takes no encrypted connections".into(), "nothing was written; turn on ssl at the server, or give sslmode=prefer")
        }
        _ => (format!("no encrypted connection: {text}"), "nothing was written; see which versions and ciphers of TLS the server takes"),
    };
    ServerError::Tls { why, hint }
}

/// `DnsName("db.example")`: how the library shows a name.
fn named(presented: &str) -> &str {
    presented.split_once('(').map_or(presented, |(_, name)| name.trim_end_matches(')').trim_matches('"'))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |why: String| format!("could not read certificates from sslrootcert {path:?}: {why}");
    let pem = std::fs::read(path).map_err(|error| failed(crate::staged::why(&error)))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() { Err(failed("it has none in PEM".into())) } else { Ok(certificates) }
}

/// Looks at a server's certificate.
#[derive(Debug)]
struct Verifier {
    /// Nothing, where any certificate is good enough.
    chain: Option<Arc<WebPkiServerVerifier>>,
    looks_at_name: bool,
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

/// What the library calls a certificate of an authority where one of a server should be. Its dates have been looked at before.
const IS_AUTHORITY: &str = "CaUsedAsEndEntity";

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext, Other};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain is looked at before the name.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) if !self.looks_at_name => {}
            // A certificate that has signed itself is its own authority, and trusted by name.
            Err(rustls::Error::InvalidCertificate(Other(why))) if why.to_string() == IS_AUTHORITY && self.roots.contains(end_entity) => {
                if self.looks_at_name {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
            }
            verified => return verified,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(url: &str) -> Result<(String, Asked), NotThat> {
        Asked::take(url, |_| None)
    }

    #[test]
    fn what_is_said_of_tls_is_taken_out() {
        let file = |path: &str| Some(Roots::File(path.into()));
        for (url, rest, mode, roots) in [
            ("postgres://u:p@h/db", "postgres://u:p@h/db", Mode::Prefer, None),
            ("postgres://u:p?x@h/db", "postgres://u:p?x@h/db", Mode::Prefer, None),
            ("postgres://u:p?sslmode=no@h/db?sslmode=require", "postgres://u:p?sslmode=no@h/db", Mode::Require, None),
            ("postgres://h/db?sslmode=disable&user=me", "postgres://h/db?user=me", Mode::Disable, None),
            ("postgres://h/db?a=b&sslmode=verify-full", "postgres://h/db?a=b", Mode::VerifyFull, None),
            ("postgres://h?sslrootcert=a%20b+c.pem&sslmode=verify-ca", "postgres://h", Mode::VerifyCa, file("a b+c.pem")),
            ("postgres://h?sslrootcert=system", "postgres://h", Mode::VerifyFull, Some(Roots::System)),
            ("postgres://h?sslrootcert=", "postgres://h", Mode::Prefer, None),
            ("postgres://h?sslrootcert=a=b", "postgres://h", Mode::Prefer, file("a=b")),
        ] {
            assert_eq!(take(url), Ok((rest.into(), Asked { mode, roots })), "{url}");
        }
        for (url, why) in [
            ("postgres://h?sslmode=allow", "sslmode=allow is not supported"),
            ("postgres://h?sslmode=verify", "there is no such sslmode"),
            ("postgres://h?sslcert=x", "it asks for client certificates or revocation lists, which are not supported"),
            ("postgres://h?sslmode=require&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
        ] {
            assert_eq!(take(url).map_err(|(why, _)| why), Err(why), "{url}");
        }
    }

    #[test]
    fn a_url_counts_more_than_the_environment() {
        let variable = |name: &str| Some(if name == "PGSSLMODE" { "require".into() } else { "roots.pem".into() });
        let taken = |url: &str| Asked::take(url, variable).unwrap().1;
        let roots = Some(Roots::File("roots.pem".into()));
        assert_eq!(taken("postgres://h"), Asked { mode: Mode::Require, roots: roots.clone() });
        assert_eq!(taken("postgres://h?sslmode=disable"), Asked { mode: Mode::Disable, roots });
    }

    #[test]
    fn roots_are_read_or_named() {
        let error = |text: Option<&str>| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("roots.pem");
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            Tls::new(&Asked { mode: Mode::VerifyFull, roots: Some(Roots::File(path)) }).err().unwrap()
        };
        assert!(error(None).ends_with("roots.pem\": no such file or directory"), "{}", error(None));
        assert!(error(Some("rubbish")).ends_with("it has none in PEM"));
        let unused = Asked { mode: Mode::Prefer, roots: Some(Roots::File("/nothing".into())) };
        assert!(Tls::new(&unused).is_ok(), "what is not verified needs no roots");
    }

    #[test]
    fn names_are_shown_as_they_are() {
        assert_eq!((named("DnsName(\"db.example\")"), named("IpAddress(127.0.0.1)"), named("x")), ("db.example", "127.0.0.1", "x"));
    }
}
