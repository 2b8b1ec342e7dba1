//! Where one is among timely's messages that pass on a connection of workers. They are counted, and not changed.

/// timely's header of a message: six numbers of 8 bytes, the greatest first.
const HEADER_BYTES: usize = 48;
/// Where in it the workers are that the message is for, from one to one behind the last, and its length. One without a length is the last.
const LOWER_AT: usize = 16;
const UPPER_AT: usize = 24;
const LENGTH_AT: usize = 32;

/// Where one is among the messages.
pub struct Messages {
    header: [u8; HEADER_BYTES],
    /// So much of the header is there.
    filled: usize,
    /// So much of the message is to come.
    left: u64,
    is_over: bool,
}

/// Messages whose headers have passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many.
    pub count: u64,
    /// How many of them are for several workers: what is said to all, which is progress.
    pub to_several: u64,
    /// The bytes of those.
    pub to_several_bytes: u64,
}

impl Default for Messages {
    fn default() -> Messages {
        Messages { header: [0; HEADER_BYTES], filled: 0, left: 0, is_over: false }
    }
}

impl Messages {
    /// These bytes pass.
    pub fn pass(&mut self, mut bytes: &[u8]) -> Passed {
        let mut all = Passed::default();
        while !bytes.is_empty() {
            let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= passed as u64;
            bytes = bytes.get(passed..).unwrap_or_default();
            for (byte, place) in bytes.iter().zip(self.header.iter_mut().skip(self.filled)) {
                *place = *byte;
            }
            let taken = bytes.len().min(HEADER_BYTES - self.filled);
            bytes = bytes.get(taken..).unwrap_or_default();
            self.filled += taken;
            if self.filled == HEADER_BYTES {
                self.filled = 0;
                self.left = self.number(LENGTH_AT);
                self.is_over = self.left == 0;
                all.count += 1;
                if self.number(UPPER_AT).saturating_sub(self.number(LOWER_AT)) > 1 {
                    all.to_several += 1;
                    all.to_several_bytes += self.left + HEADER_BYTES as u64;
                }
            }
        }
        all
    }

    fn number(&self, at: usize) -> u64 {
        self.header.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |number| u64::from_be_bytes(*number))
    }

    /// Whether the last one has passed.
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timely::communication::networking::MessageHeader;

    fn message(length: usize, targets: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = MessageHeader { channel: 1, source: 2, target_lower: 3, target_upper: 3 + targets, length, seqno: 5 };
        header.write_to(&mut bytes).unwrap();
        bytes.resize(bytes.len() + length, 0);
        bytes
    }

    /// Zeros in a message are not taken for a header, however the bytes come.
    #[test]
    fn the_last_message_is_known_and_all_are_counted_however_they_are_cut() {
        let bytes = [message(100, 1), message(1, 2), message(48, 3), message(0, 0)].concat();
        for step in 1..bytes.len() {
            let (mut messages, mut all) = (Messages::default(), Passed::default());
            for (number, piece) in bytes.chunks(step).enumerate() {
                assert!(!messages.is_over(), "{step} {number}");
                let Passed { count, to_several, to_several_bytes } = messages.pass(piece);
                all = Passed {
                    count: all.count + count,
                    to_several: all.to_several + to_several,
                    to_several_bytes: all.to_several_bytes + to_several_bytes,
                };
            }
            assert!(messages.is_over(), "{step}");
            assert_eq!(all, Passed { count: 4, to_several: 2, to_several_bytes: 2 * 48 + 49 }, "{step}");
        }
    }
}
