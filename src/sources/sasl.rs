//! The ways in which a user shows a broker who it is (SASL).

/// A way of login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// By a hash of the password, which stays here: SHA-512.
    Scram512,
    /// The same with SHA-256.
    Scram256,
    /// The password itself is sent.
    Plain,
}

impl Mechanism {
    /// All, the better ones first.
    pub const ALL: [Mechanism; 3] = [Mechanism::Scram512, Mechanism::Scram256, Mechanism::Plain];

    /// What brokers call it.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Scram512 => "SCRAM-SHA-512",
            Mechanism::Scram256 => "SCRAM-SHA-256",
            Mechanism::Plain => "PLAIN",
        }
    }

    /// What is called so, in letters of any case.
    pub fn named(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    /// The best of those that a broker has. An error reports why there is none: a password is sent only where nobody can read it.
    pub fn best(offered: &[String], is_encrypted: bool) -> Result<Mechanism, String> {
        let is_offered = |mechanism: &Mechanism| offered.iter().any(|name| name == mechanism.name());
        let names = offered.join(", ");
        match Mechanism::ALL.into_iter().find(is_offered) {
            Some(Mechanism::Plain) if !is_encrypted => {
                Err("the broker has no login that keeps the password secret: give kafkas://, or ?sasl=PLAIN where nobody listens".into())
            }
            Some(mechanism) => Ok(mechanism),
            None => Err(format!("the broker has other ways of login: {names}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_is_taken_and_a_password_is_not_shown() {
        let best = |names: &[&str], is_encrypted| {
            Mechanism::best(&names.iter().map(ToString::to_string).collect::<Vec<_>>(), is_encrypted)
                .map_err(|why| why.chars().take(35).collect())
        };
        assert_eq!(best(&["PLAIN", "SCRAM-SHA-256"], false), Ok(Mechanism::Scram256));
        assert_eq!(best(&["SCRAM-SHA-256", "SCRAM-SHA-512"], true), Ok(Mechanism::Scram512));
        assert_eq!(best(&["PLAIN"], true), Ok(Mechanism::Plain));
        assert_eq!(best(&["PLAIN"], false), Err(String::from("the broker has no login that keeps ")));
        assert_eq!(best(&["GSSAPI"], true), Err(String::from("the broker has other ways of login:")));
        assert_eq!((Mechanism::named("scram-sha-512"), Mechanism::named("x")), (Some(Mechanism::Scram512), None));
    }
}
