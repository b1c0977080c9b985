//! Bytes from an MTA into the milter machine; what is owed to it is checked in `protocol::milter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailweir::protocol::milter::exercise(data));
