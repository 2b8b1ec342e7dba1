//! TLS to a broker: its certificate leads to a root, and is of the host that is named.

use crate::certificates;
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// How connections are encrypted. Roots are the certificates of a file, or those that the system trusts. An error reports what is missing.
pub fn config(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match ca {
        Some(path) => {
            let failed = |why: &dyn Display| format!("could not read certificates from {path:?}: {why}");
            let roots = certificates::roots(certificates::read(path)?).map_err(|error| failed(&error))?;
            if roots.is_empty() {
                return Err(failed(&"there are none"));
            }
            roots
        }
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("the system trusts no certificates; ?ca=FILE names some".into());
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
