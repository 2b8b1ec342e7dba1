//! What a process says of itself once both ends have proved that they hold the secret, and what two processes must have the same.

use super::error::MeshError;
use super::generation::Generation;
use super::shared::Sight;

const VERSION_BYTES: usize = 16;
const NUMBERS: usize = 9;
const LENGTH_BYTES: usize = 8;
/// The most bytes of [`Claims::terms`]; what is longer is cut.
pub const TERMS_BYTES_MAX: usize = 4096;
/// The bytes of claims.
pub const CLAIMS_BYTES: usize = VERSION_BYTES + NUMBERS * 8 + 2 + LENGTH_BYTES + TERMS_BYTES_MAX;
/// So many differences are named.
const NAMED_MAX: usize = 3;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signs of life. It comes first.
    Heartbeat,
    /// What workers send to one another.
    Data,
    /// Points for the store of process 0.
    Points,
}

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Of the program, with zeros behind it.
    pub version: [u8; VERSION_BYTES],
    /// Its number.
    pub process: u64,
    /// How many there are.
    pub processes: u64,
    /// Workers of each.
    pub workers: u64,
    /// Microseconds between signs of life.
    pub heartbeat: u64,
    /// Which cluster; 0 for a run, which needs no name.
    pub cluster: u64,
    /// Of which start; none before process 0 has told.
    pub generation: Generation,
    /// By chance, for each start of a process.
    pub incarnation: u64,
    /// Of all that must be the same: dataflows, settings, tables.
    pub fingerprint: u64,
    /// What process 0 shows.
    pub shown: u64,
    /// What this connection is for.
    pub purpose: Purpose,
    /// What it sees of what process 0 shows.
    pub sight: Sight,
    /// What the fingerprint is of, for people: `NAME=VALUE`, a line each.
    pub terms: String,
}

/// The version of this program.
pub fn version() -> [u8; VERSION_BYTES] {
    let mut version = [0; VERSION_BYTES];
    version.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()).for_each(|(byte, letter)| *byte = letter);
    version
}

/// Terms that fit: whole lines.
pub fn fitting(terms: &str) -> String {
    let mut fitting = String::new();
    for line in terms.split_inclusive('\n') {
        if fitting.len() + line.len() > TERMS_BYTES_MAX {
            break;
        }
        fitting.push_str(line);
    }
    fitting
}

impl Claims {
    /// The number of the process, as a place in a list.
    pub fn place(&self) -> usize {
        usize::try_from(self.process).unwrap_or(usize::MAX)
    }

    /// As bytes of a fixed number.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [
            self.process,
            self.processes,
            self.workers,
            self.heartbeat,
            self.cluster,
            self.generation.0,
            self.incarnation,
            self.fingerprint,
            self.shown,
        ];
        let mut bytes = self.version.to_vec();
        bytes.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
        bytes.extend([self.purpose as u8, self.sight.to_byte()]);
        let terms = fitting(&self.terms);
        bytes.extend((terms.len() as u64).to_le_bytes());
        bytes.extend(terms.bytes());
        bytes.resize(CLAIMS_BYTES, 0);
        bytes
    }

    /// Reads what [`Claims::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Claims> {
        let (version, mut rest) = bytes.split_first_chunk()?;
        let mut number = || {
            let (number, tail) = rest.split_first_chunk()?;
            rest = tail;
            Some(u64::from_le_bytes(*number))
        };
        let (process, processes, workers, heartbeat, cluster) = (number()?, number()?, number()?, number()?, number()?);
        let (generation, incarnation, fingerprint, shown) = (Generation(number()?), number()?, number()?, number()?);
        let ([purpose, sight], rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let terms = String::from_utf8(rest.get(..length)?.to_vec()).ok()?;
        let purpose = match purpose {
            0 => Purpose::Heartbeat,
            1 => Purpose::Data,
            2 => Purpose::Points,
            _ => return None,
        };
        let sight = Sight::from_byte(*sight)?;
        let whole = bytes.len() == CLAIMS_BYTES;
        let claims = Claims {
            version: *version,
            process,
            processes,
            workers,
            heartbeat,
            cluster,
            generation,
            incarnation,
            fingerprint,
            shown,
            purpose,
            sight,
            terms,
        };
        whole.then_some(claims)
    }

    /// An error that names what another process has different from this one, with both values. Generations are not compared here.
    pub fn agree(&self, theirs: &Claims) -> Result<(), MeshError> {
        let process = theirs.place();
        if theirs.version != self.version {
            let theirs = String::from_utf8_lossy(&theirs.version).trim_end_matches('\0').to_string();
            return Err(MeshError::Version { process, theirs });
        }
        let counts = |claims: &Claims| format!("{} processes of {} workers", claims.processes, claims.workers);
        let heartbeat = |claims: &Claims| format!("heartbeat={} ms", claims.heartbeat / 1000);
        let cluster = |claims: &Claims| format!("cluster {:016x}", claims.cluster);
        let of = |name: &dyn Fn(&Claims) -> String| Err(MeshError::Mismatch { process, theirs: name(theirs), ours: name(self) });
        if (theirs.processes, theirs.workers) != (self.processes, self.workers) {
            return of(&counts);
        }
        if theirs.cluster != self.cluster {
            return of(&cluster);
        }
        if theirs.fingerprint != self.fingerprint {
            let (ours, theirs) = differences(self, theirs);
            return Err(MeshError::Mismatch { process, theirs, ours });
        }
        if theirs.heartbeat != self.heartbeat {
            return of(&heartbeat);
        }
        Ok(())
    }
}

/// The terms in which two claims differ; their fingerprints, where no term says it.
fn differences(ours: &Claims, theirs: &Claims) -> (String, String) {
    let names = ours.terms.lines().chain(theirs.terms.lines()).filter_map(|line| Some(line.split_once('=')?.0));
    let (mut here, mut there, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        let line = |claims: &Claims| -> String {
            let of_name = |line: &&str| line.split_once('=').is_some_and(|(other, _)| other == name);
            claims.terms.lines().find(of_name).map_or_else(|| format!("no {name}"), String::from)
        };
        let (our, their) = (line(ours), line(theirs));
        if our != their && !seen.contains(&name) && here.len() < NAMED_MAX {
            seen.push(name);
            here.push(our);
            there.push(their);
        }
    }
    if here.is_empty() {
        return (format!("job {:016x}", ours.fingerprint), format!("job {:016x}", theirs.fingerprint));
    }
    (here.join(", "), there.join(", "))
}

/// Claims for tests.
#[cfg(test)]
pub mod tests {
    use super::*;

    /// Claims of process 1 of 3.
    pub fn claims() -> Claims {
        Claims {
            version: version(),
            process: 1,
            processes: 3,
            workers: 2,
            heartbeat: 1_000_000,
            cluster: 0,
            generation: Generation(77),
            incarnation: 5,
            fingerprint: 7,
            shown: 0,
            purpose: Purpose::Heartbeat,
            sight: Sight::All,
            terms: "timezone=UTC\ntables=a,b\n".into(),
        }
    }

    #[test]
    fn claims_come_back_and_what_is_cut_or_wrong_does_not() {
        let plain = claims();
        let points = Claims { purpose: Purpose::Points, ..claims() };
        let long = Claims { terms: "x=1\n".repeat(2000), purpose: Purpose::Data, sight: Sight::NotState, ..claims() };
        for claims in [&plain, &long, &points] {
            let bytes = claims.to_bytes();
            assert_eq!(bytes.len(), CLAIMS_BYTES);
            assert_eq!(Claims::from_bytes(&bytes), Some(Claims { terms: fitting(&claims.terms), ..claims.clone() }));
            for length in 0..bytes.len() {
                assert_eq!(Claims::from_bytes(&bytes[..length]), None);
            }
        }
        assert_eq!(fitting(&long.terms).len(), TERMS_BYTES_MAX);
        let at = VERSION_BYTES + NUMBERS * 8;
        // The purpose, what it sees, the length of terms, and a text that is none.
        for (place, byte) in [(at, 3), (at + 1, 3), (at + 4, 0xff), (at + 2 + LENGTH_BYTES, 0xff)] {
            let mut bytes = plain.to_bytes();
            bytes[place] = byte;
            assert_eq!(Claims::from_bytes(&bytes), None, "{place}");
        }
    }

    #[test]
    fn each_difference_is_named_with_both_values() {
        let ours = claims();
        let mut version = [0; VERSION_BYTES];
        version[..5].copy_from_slice(b"9.9.9");
        let heading = "process 1 was started with other arguments: it has";
        let table = [
            (Claims { version, ..claims() }, format!("process 1 is retally 9.9.9, and this one {}", env!("CARGO_PKG_VERSION"))),
            (Claims { processes: 4, ..claims() }, format!("{heading} 4 processes of 2 workers, this one 3 processes of 2 workers")),
            (Claims { workers: 1, ..claims() }, format!("{heading} 3 processes of 1 workers, this one 3 processes of 2 workers")),
            (Claims { cluster: 1, ..claims() }, format!("{heading} cluster 0000000000000001, this one cluster 0000000000000000")),
            (Claims { fingerprint: 8, ..claims() }, format!("{heading} job 0000000000000008, this one job 0000000000000007")),
            (Claims { heartbeat: 2_000_000, ..claims() }, format!("{heading} heartbeat=2000 ms, this one heartbeat=1000 ms")),
            (
                Claims { fingerprint: 8, terms: "timezone=Europe/Berlin\npoints=file\n".into(), ..claims() },
                format!("{heading} timezone=Europe/Berlin, no tables, points=file, this one timezone=UTC, tables=a,b, no points"),
            ),
        ];
        for (theirs, said) in table {
            assert_eq!(ours.agree(&theirs).unwrap_err().to_string(), said);
        }
        // What is of each process.
        for theirs in [
            claims(),
            Claims { process: 2, ..claims() },
            Claims { incarnation: 9, ..claims() },
            Claims { shown: 9, ..claims() },
            Claims { generation: Generation(1), ..claims() },
        ] {
            ours.agree(&theirs).unwrap();
        }
    }
}
