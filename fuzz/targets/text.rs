//! Files of text: the first byte says of which input and format, the rest is the file.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let (dataflow, input, ending) = retally_fuzz::KINDS[usize::from(*choice) % retally_fuzz::KINDS.len()];
    // A refusal is an answer.
    retally_fuzz::read(dataflow, input, &format!("x.{ending}"), text).ok();
});
