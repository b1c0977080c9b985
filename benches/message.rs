//! What reading and judging a message costs: `cargo bench --bench message [FOLDER]`.
//!
//! Without a folder over generated mail; with one over its `.eml` files. Prints microseconds a message, best of rounds.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::panic, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use mailweir::analysis::{Facts, Input, Site, Why, analyse};
use mailweir::mail::{Connection, Door, Envelope, Message, MessageLimits, Path};
use mailweir::policy::{Config, Judge, PolicyFiles, Subject, gtube};

const ROUNDS: usize = 9;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let messages = folder.map_or_else(generated, |folder| files(folder.as_ref()));
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    println!("{} messages, {} bytes on average", messages.len(), bytes / messages.len().max(1));
    let limits = MessageLimits::default();
    let structure = |raw: &Bytes| {
        black_box(Message::parse(raw.clone(), &limits).parts().len());
    };
    let all = |raw: &Bytes| {
        let message = Message::parse(raw.clone(), &limits);
        black_box((message.links().len(), message.text().len()));
    };
    measure("structure and decoding", &messages, structure);
    measure("the same, text and links", &messages, all);

    let (site, facts) = (Site::default(), Facts::unknown(Why::Disabled));
    let connection = Connection::unknown(Door::Scan);
    let envelope = Envelope { sender: Path::new("a@a.example"), recipients: vec![Path::new("b@b.example")] };
    let judge = Judge::new(&Config::default(), &PolicyFiles::default()).unwrap_or_else(|error| panic!("{error}"));
    let evidence = |raw: &Bytes| {
        let message = Message::parse(raw.clone(), &limits);
        message.body();
        let input =
            Input { message: &message, envelope: &envelope, connection: &connection, facts: &facts, site: &site };
        (analyse(&input), gtube(raw).or_else(|| gtube(message.text().as_bytes())))
    };
    measure("the same, and all detectors", &messages, |raw| drop(black_box(evidence(raw))));
    measure("the same, score and verdict", &messages, |raw| {
        let (signals, pattern) = evidence(raw);
        let subject = Subject { connection: &connection, sender: None, from: &[], facts: &facts, hashes: &[] };
        drop(black_box(judge.judge(signals, &Default::default(), &subject, pattern, &envelope.recipients)));
    });
}

fn measure(name: &str, messages: &[Bytes], work: impl Fn(&Bytes)) {
    let best = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            messages.iter().for_each(&work);
            started.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("{name:28} {:8.1} µs a message", best.as_secs_f64() * 1e6 / messages.len().max(1) as f64);
}

/// Plain, HTML with links, and HTML with a picture: about 23 KB each on average.
fn generated() -> Vec<Bytes> {
    let head = "Received: from a.example (a.example [192.0.2.1]) by mx.example.org with ESMTPS id 1\r\n\tfor <b@b.example>; Fri, 1 Mar 2024 10:00:00 +0100\r\n".repeat(4)
        + "From: =?utf-8?Q?J=C3=BCrgen?= <a@a.example>\r\nTo: b@b.example\r\nSubject: =?utf-8?B?R3LDvMOfZQ==?= and more\r\nDate: Fri, 1 Mar 2024 10:00:00 +0100\r\nMessage-ID: <1@a.example>\r\nMIME-Version: 1.0\r\n";
    let text = "A sentence as people write it, about nothing much, and a place http://x.example/p to look at.\r\n";
    let row = "<tr><td style=3D\"padding:4px;color:#333333\"><a href=3D\"https://x.example/p?q=3D1&amp;r=3D2\">An offer</a> and s=\r\nome text about it, at length</td></tr>\r\n";
    let html = format!("<html><body bgcolor=3D\"#ffffff\"><table>{}</table></body></html>\r\n", row.repeat(90));
    let picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA\r\n".repeat(120);
    let plain = format!("{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{}", text.repeat(240));
    let both = format!(
        "{head}Content-Type: multipart/alternative; boundary=\"=_b\"\r\n\r\n--=_b\r\nContent-Type: text/plain\r\n\r\n{}\r\n--=_b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{html}\r\n--=_b--\r\n",
        text.repeat(60)
    );
    let related = format!(
        "{head}Content-Type: multipart/related; boundary=\"=_r\"\r\n\r\n--=_r\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{html}\r\n--=_r\r\nContent-Type: image/png; name=a.png\r\nContent-ID: <a>\r\nContent-Transfer-Encoding: base64\r\n\r\n{picture}--=_r--\r\n"
    );
    [plain, both, related].map(Bytes::from).to_vec()
}

fn files(folder: &std::path::Path) -> Vec<Bytes> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| std::fs::read(entry.path()).ok()).map(Bytes::from).collect()
}
