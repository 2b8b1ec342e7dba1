//! Who may ask: tokens, a line each, `NAME read|write SECRET`, sent as `Authorization: Bearer SECRET`.
//!
//! Secrets are kept as hashes and compared in constant time.

use crate::staged::why;
use sha2::{Digest, Sha256};
use std::path::Path;
use subtle::ConstantTimeEq;

/// The shortest secret.
const SECRET_CHARACTERS_MIN: usize = 16;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// To look.
    Read,
    /// To change.
    Write,
}

/// The tokens of a service.
#[derive(Clone, Debug)]
pub struct Tokens(Vec<Token>);

#[derive(Clone, Debug)]
struct Token {
    access: Access,
    hash: [u8; 32],
}

impl Tokens {
    /// Reads them from a file.
    pub fn read(path: &Path) -> Result<Tokens, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("could not read {path:?}: {}", why(&error)))?;
        Tokens::parse(&text).map_err(|why| format!("{path:?}: {why}"))
    }

    /// Reads them from a text. Errors name no secret.
    pub fn parse(text: &str) -> Result<Tokens, String> {
        let mut tokens = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, access, secret] = words.as_slice() else { return Err(format!("line {number} is not NAME read|write SECRET")) };
            let access = match *access {
                "read" => Access::Read,
                "write" => Access::Write,
                _ => return Err(format!("line {number} says neither read nor write")),
            };
            if secret.chars().count() < SECRET_CHARACTERS_MIN {
                return Err(format!("the secret of line {number} has less than {SECRET_CHARACTERS_MIN} characters"));
            }
            tokens.push(Token { access, hash: Sha256::digest(secret).into() });
        }
        if tokens.is_empty() { Err("it has no tokens".into()) } else { Ok(Tokens(tokens)) }
    }

    /// What an `Authorization` header allows; nothing where it is no token.
    pub fn access(&self, header: &[u8]) -> Option<Access> {
        let (scheme, secret) = header.split_at_checked(b"Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(secret).into();
        // All of them, however early one is found.
        self.0.iter().fold(None, |found, token| if bool::from(token.hash.ct_eq(&hash)) { Some(token.access) } else { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_token() {
        let tokens = Tokens::parse("# who\n\ngrafana read 0123456789abcdef\n gateway  write fedcba9876543210 \n").unwrap();
        assert_eq!(tokens.access(b"Bearer 0123456789abcdef"), Some(Access::Read));
        assert_eq!(tokens.access(b"Bearer fedcba9876543210"), Some(Access::Write));
        assert_eq!(tokens.access(b"bearer fedcba9876543210"), Some(Access::Write), "names of schemes have no case");
        for wrong in ["Bearer 0123456789abcde", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer 0123456789abcdef "] {
            assert_eq!(tokens.access(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_its_secret() {
        for (text, why) in [
            ("", "it has no tokens"),
            ("a read", "line 1 is not"),
            ("a admin 0123456789abcdef", "line 1 says neither"),
            ("a read 0123456789abcdef\nb read short", "the secret of line 2 has less than"),
        ] {
            let error = Tokens::parse(text).unwrap_err();
            assert!(error.starts_with(why) && !error.contains("short") && !error.contains("0123"), "{error}");
        }
    }
}
