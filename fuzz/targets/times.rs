//! Times as people write them: none panics, and what was read is read again from what is shown of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retally_core::calendar::Calendar;
use retally_core::time::Moment;
use retally_core::time_format::TimeFormat;

fuzz_target!(|data: &[u8]| {
    // A pattern may stand before the time.
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (text, pattern) = (parts.next().unwrap_or_default(), parts.next());
    if let Ok(moment) = Calendar::utc().parse(text)
        && (Moment(0)..=Moment::LAST).contains(&moment)
    {
        assert_eq!(Calendar::utc().parse(moment.to_string().as_bytes()).ok(), Some(moment), "{moment}");
    }
    if let Some(format) = pattern.and_then(|pattern| std::str::from_utf8(pattern).ok()?.parse::<TimeFormat>().ok()) {
        // A refusal is an answer.
        format.parse(text).ok();
    }
});
