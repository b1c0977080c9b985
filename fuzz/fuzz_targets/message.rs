//! Bytes from strangers into the message model: parse, then read everything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailweir::mail::Message::parse(data.to_vec().into(), &Default::default()).read_all());
