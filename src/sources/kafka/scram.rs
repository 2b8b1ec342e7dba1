//! SCRAM (RFC 5802, 7677): a login that shows the password to nobody, and by which the broker shows that it knows it too.
//!
//! # Limits
//! User and password are taken as they are: those beyond ASCII are not normalized.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// So often a password is hashed at least, as the standard says, and at most: half a second.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=500_000;

/// Which hash it is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        // A key may have any length.
        match self {
            Hash::Sha256 => Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec()),
            Hash::Sha512 => Hmac::<Sha512>::new_from_slice(key).map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec()),
        }
        .unwrap_or_default()
    }

    fn hash(self, text: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => Sha256::digest(text).to_vec(),
            Hash::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    /// The password, hashed so often (PBKDF2, of one block).
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut last = self.hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut salted = last.clone();
        for _ in 1..iterations {
            last = self.hmac(password, &last);
            salted = xor(&salted, &last);
        }
        salted
    }
}

/// A login that has begun.
pub struct Scram {
    hash: Hash,
    password: String,
    nonce: String,
    first_bare: String,
}

/// What is said last, and what the broker has to say to it.
pub struct Proof {
    /// What is said.
    pub last: String,
    expected: String,
}

impl Scram {
    /// Begins one; nobody ever takes the same nonce.
    pub fn new(hash: Hash, user: &str, password: &str, nonce: &[u8]) -> Scram {
        let nonce = BASE64.encode(nonce);
        let first_bare = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        Scram { hash, password: password.into(), nonce, first_bare }
    }

    /// What is said first.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// What is said to the broker's first words; an error reports what is wrong with those.
    pub fn proof(&self, said: &str) -> Result<Proof, &'static str> {
        let value = |name: &str| said.split(',').find_map(|part| part.strip_prefix(name));
        let nonce = value("r=").filter(|nonce| nonce.starts_with(&self.nonce)).ok_or("it answers another login")?;
        let salt = value("s=").and_then(|salt| BASE64.decode(salt).ok()).ok_or("it has no salt")?;
        let iterations = value("i=").and_then(|iterations| iterations.parse().ok());
        let iterations =
            iterations.filter(|iterations| ITERATIONS.contains(iterations)).ok_or("its count of iterations is out of bounds")?;
        let salted = self.hash.salted(self.password.as_bytes(), &salt, iterations);
        let client = self.hash.hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let all = format!("{},{said},{without_proof}", self.first_bare);
        let signature = self.hash.hmac(&self.hash.hash(&client), all.as_bytes());
        let proof = BASE64.encode(xor(&client, &signature));
        let server = self.hash.hmac(&self.hash.hmac(&salted, b"Server Key"), all.as_bytes());
        Ok(Proof { last: format!("{without_proof},p={proof}"), expected: format!("v={}", BASE64.encode(server)) })
    }
}

impl Proof {
    /// Whether the broker knows the password, by its last words.
    pub fn is_met(&self, said: &str) -> bool {
        said.split(',').next() == Some(&self.expected)
    }
}

fn xor(one: &[u8], two: &[u8]) -> Vec<u8> {
    one.iter().zip(two).map(|(one, two)| one ^ two).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677.
    #[test]
    fn the_example_of_the_standard() {
        let nonce = BASE64.decode("rOprNGfwEbeRWgbNEkqO").unwrap();
        let scram = Scram::new(Hash::Sha256, "user", "pencil", &nonce);
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let said = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = scram.proof(said).unwrap();
        assert_eq!(
            proof.last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(proof.is_met("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!proof.is_met("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") && !proof.is_met(""));
    }

    #[test]
    fn what_is_wrong_with_the_words_of_a_broker_is_said() {
        let scram = Scram::new(Hash::Sha512, "a=b,c", "x", &[1, 2, 3]);
        assert_eq!(scram.first(), "n,,n=a=3Db=2Cc,r=AQID");
        for (said, why) in [
            ("r=BQID,s=AAAA,i=4096", "it answers another login"),
            ("r=AQIDx,s=?,i=4096", "it has no salt"),
            ("r=AQIDx,s=AAAA,i=1", "its count of iterations is out of bounds"),
            ("r=AQIDx,s=AAAA,i=4000000000", "its count of iterations is out of bounds"),
            ("e=unknown-user", "it answers another login"),
        ] {
            assert_eq!(scram.proof(said).map(drop), Err(why));
        }
    }
}
