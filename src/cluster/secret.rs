//! The secret that all processes of a cluster share.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The fewest bytes of a secret.
pub const SECRET_BYTES_MIN: usize = 16;
/// The most bytes of a secret.
pub const SECRET_BYTES_MAX: usize = 4096;
/// The bytes of a proof.
pub const PROOF_BYTES: usize = 32;

/// The secret of a cluster. No text shows it.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// It could be guessed.
    #[error("has {0} bytes, and needs {SECRET_BYTES_MIN}")]
    Short(usize),
    /// It is something else, such as the path of another file.
    #[error("has more than {SECRET_BYTES_MAX} bytes")]
    Long,
}

impl Secret {
    /// No secret: for processes on one host, where others can't connect.
    pub fn none() -> Secret {
        Secret(Arc::from([]))
    }

    /// A secret from the bytes of a file or a variable; the newline at its end is not a part of it.
    pub fn new(bytes: &[u8]) -> Result<Secret, BadSecret> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match bytes.len() {
            length if length < SECRET_BYTES_MIN => Err(BadSecret::Short(length)),
            length if length > SECRET_BYTES_MAX => Err(BadSecret::Long),
            _ => Ok(Secret(Arc::from(bytes))),
        }
    }

    /// HMAC-SHA256 of a label and a text. The length of the label is a part of it, so that no two pairs have the same.
    pub fn proof(&self, label: &str, text: &[u8]) -> [u8; PROOF_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key may have any length");
        mac.update(&(label.len() as u64).to_le_bytes());
        mac.update(label.as_bytes());
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    /// Whether this is the proof of a label and a text. Takes the same time wherever they differ.
    pub fn is_proof(&self, proof: &[u8], label: &str, text: &[u8]) -> bool {
        self.proof(label, text).ct_eq(proof).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_ones_are_refused_and_a_newline_is_no_part() {
        let proof = |secret: &Secret| secret.proof("label", b"text");
        let plain = Secret::new(b"0123456789abcdef").unwrap();
        assert_eq!(proof(&plain), proof(&Secret::new(b"0123456789abcdef\n").unwrap()));
        assert_eq!(proof(&plain), proof(&Secret::new(b"0123456789abcdef\r\n").unwrap()));
        assert_ne!(proof(&plain), proof(&Secret::new(b"0123456789abcdef ").unwrap()));
        assert_eq!(Secret::new(b"0123456789abcde\n").unwrap_err(), BadSecret::Short(15));
        assert_eq!(Secret::new(b"").unwrap_err(), BadSecret::Short(0));
        assert_eq!(Secret::new(&[b'x'; SECRET_BYTES_MAX + 1]).unwrap_err(), BadSecret::Long);
        assert_eq!(format!("{plain:?}"), "Secret");
    }

    #[test]
    fn a_proof_is_of_label_and_text() {
        let secret = Secret::new(b"0123456789abcdef").unwrap();
        let proof = secret.proof("ab", b"c");
        assert!(secret.is_proof(&proof, "ab", b"c"));
        assert!(!secret.is_proof(&proof, "a", b"bc"));
        assert!(!secret.is_proof(&proof[1..], "ab", b"c") && !secret.is_proof(b"", "ab", b"c"));
        assert!(!Secret::none().is_proof(&proof, "ab", b"c"));
    }
}
