//! Arbitrary bytes in arbitrary pieces to the SMTP server machine; the checks are in the crate.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    mailweir::protocol::smtp::check_conversation(input, std::time::Instant::now());
});
