//! Parquet files: flat ones of `online`, or nested ones of `active`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retally::ingest::parquet::pages;
use std::panic;
use std::sync::Once;

/// The library panics at some damages: the program ends with an error that names the file. Other panics are faults.
fn allow_damages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let fault = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if pages::damaged().is_none() {
                fault(panic);
            }
        }));
    });
}

fuzz_target!(|data: &[u8]| {
    allow_damages();
    let Some((choice, file)) = data.split_first() else { return };
    let dataflow = if choice % 2 == 0 { "online" } else { "active" };
    // A refusal is an answer, and so is a panic that the hook let pass.
    drop(panic::catch_unwind(|| retally_fuzz::read(dataflow, "events", "x.parquet", file)));
});
