//! `bench end-to-end`: mail over the wire to a running gateway, by SMTP or as a milter's MTA.
//!
//! With a rate, messages are due at fixed times and are timed from then on, so that a slow answer is not hidden by the next
//! message waiting for it (coordinated omission).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::bench::{messages, progress};
use super::cli::BenchWire;
use super::figures::{Better, Histogram, Reading, Run};
use super::target;
use crate::gateway::next_hop::{HopConfig, NextHopMetrics, NextHops, NextHopsConfig, SendError};
use crate::mail::{Envelope, Path as MailPath};
use crate::protocol::milter::write_frame;
use crate::protocol::smtp::Reply;

/// Parts of the time, whose spread is the noise.
const SLICES: u64 = 5;
/// Bytes of an answer of a milter at most.
const ANSWER_BYTES: u32 = 1 << 20;
/// Bytes of a piece of a body (`SMFIC_BODY`) at most.
const PIECE_BYTES: usize = 65_535;
/// Pause after a message that got no answer: a target that is down is not hammered.
const FAILED_PAUSE: Duration = Duration::from_millis(100);

/// Where messages go.
enum Door {
    Smtp { hops: Arc<NextHops>, envelope: Envelope },
    Milter { address: SocketAddr, from: String, rcpt: String },
}

/// What the connections share.
struct Load {
    door: Door,
    mails: Vec<Bytes>,
    begun: Instant,
    length: Duration,
    rate: Option<f64>,
    patience: Duration,
    next: AtomicU64,
    bar: ProgressBar,
}

#[derive(Default)]
struct Slice {
    times: Histogram,
    unanswered: u64,
}

#[derive(Default)]
struct Measured {
    slices: Vec<Slice>,
    counts: BTreeMap<String, u64>,
}

/// Measures; the second value is how many messages got no answer.
///
/// # Errors
/// When the target is refused, or there are no messages.
pub(super) async fn measure(options: &BenchWire) -> anyhow::Result<(Run, u64)> {
    let (door, name) = door(options).await?;
    let mails = messages(&options.source).await?;
    let length = Duration::from_secs(options.seconds.into());
    let load = Arc::new(Load {
        door,
        mails,
        begun: Instant::now(),
        length,
        rate: options.rate,
        patience: Duration::from_secs(options.timeout_seconds.into()),
        next: AtomicU64::new(0),
        bar: progress(options.seconds.into(), "s"),
    });
    let mut connections = JoinSet::new();
    for _ in 0..options.connections {
        connections.spawn(Arc::clone(&load).send_all());
    }
    let (mut slices, mut counts): (Vec<Slice>, _) = ((0..SLICES).map(|_| Slice::default()).collect(), BTreeMap::new());
    while let Some(measured) = connections.join_next().await {
        let measured = measured?;
        for (all, one) in slices.iter_mut().zip(&measured.slices) {
            all.times.merge(&one.times);
            all.unanswered += one.unanswered;
        }
        for (answer, count) in measured.counts {
            *counts.entry(answer).or_default() += count;
        }
    }
    load.bar.finish_and_clear();
    if let Door::Smtp { hops, .. } = &load.door {
        hops.close().await;
    }
    let unanswered = slices.iter().map(|slice| slice.unanswered).sum();
    let seconds = length.as_secs_f64() / SLICES as f64;
    let rounds: Vec<Vec<Reading>> = slices
        .iter()
        .map(|slice| {
            let answered = slice.times.count() as f64;
            let mut all = vec![Reading::new("answered", "messages/s", Better::More, answered / seconds)];
            all.extend(Reading::times("reply", &slice.times));
            all.push(Reading::new("unanswered", "messages", Better::Less, slice.unanswered as f64));
            all
        })
        .collect();
    let said = json!({
        "to": name, "connections": options.connections, "rate": options.rate, "seconds": options.seconds,
        "messages": load.mails.len(),
    });
    let mut run = Run::new("end-to-end", said, &rounds);
    run.counts = counts;
    run.notes.push(format!(
        "{name}, {} connections, {} s in {SLICES} parts, {}",
        options.connections,
        options.seconds,
        options.rate.map_or("as fast as answered".to_owned(), |rate| format!("{rate} messages/s, timed from when due")),
    ));
    Ok((run, unanswered))
}

async fn door(options: &BenchWire) -> anyhow::Result<(Door, String)> {
    if let Some(milter) = &options.milter {
        let address = target::resolve(milter, options.i_own_this_host).await?;
        let door = Door::Milter { address, from: options.from.clone(), rcpt: options.rcpt.clone() };
        return Ok((door, format!("milter {address}")));
    }
    let Some(to) = &options.to else { bail!("neither --to nor --milter") };
    let address = target::resolve(to, options.i_own_this_host).await?;
    // The address that was looked at, not the name: it could lead elsewhere a moment later.
    let hop = HopConfig { address: address.to_string(), xforward: false, ..HopConfig::default() };
    let settings = NextHopsConfig {
        hops: vec![hop],
        max_connections_per_hop: options.connections as usize,
        down_seconds: 0,
        ..NextHopsConfig::default()
    };
    let metrics = NextHopMetrics::new(&prometheus::Registry::new())?;
    let hops = Arc::new(NextHops::new(&settings, "load.mailweir.localdomain", metrics)?);
    let sender = MailPath::new(options.from.trim_matches(['<', '>']));
    let envelope = Envelope { sender, recipients: vec![MailPath::new(&options.rcpt)] };
    Ok((Door::Smtp { hops, envelope }, format!("SMTP {address}")))
}

impl Load {
    /// One connection: the next message, again and again, until the time is over.
    async fn send_all(self: Arc<Self>) -> Measured {
        let mut measured =
            Measured { slices: (0..SLICES).map(|_| Slice::default()).collect(), counts: BTreeMap::new() };
        let mut mta = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = match self.rate {
                Some(rate) => self.begun + Duration::from_secs_f64(number as f64 / rate),
                None => Instant::now(),
            };
            if due.duration_since(self.begun) >= self.length || self.begun.elapsed() >= self.length {
                return measured;
            }
            sleep_until(due).await;
            let raw = self.mails[(number % self.mails.len() as u64) as usize].clone();
            let answer = match timeout(self.patience, self.send(&mut mta, raw)).await {
                Ok(answer) => answer,
                Err(_) => Err(anyhow::anyhow!("nothing within {} s", self.patience.as_secs())),
            };
            let part = due.duration_since(self.begun).as_nanos() * u128::from(SLICES) / self.length.as_nanos();
            let slice = &mut measured.slices[(part as usize).min(SLICES as usize - 1)];
            let answer = match answer {
                Ok(answer) => {
                    slice.times.add(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
                    answer
                }
                Err(error) => {
                    slice.unanswered += 1;
                    mta = None;
                    tokio::time::sleep(FAILED_PAUSE).await;
                    format!("no answer: {error:#}")
                }
            };
            *measured.counts.entry(answer).or_default() += 1;
            self.bar.set_position(self.begun.elapsed().as_secs());
        }
    }

    async fn send(&self, mta: &mut Option<Mta>, raw: Bytes) -> anyhow::Result<String> {
        match &self.door {
            Door::Smtp { hops, envelope } => match hops.send(envelope, &[raw]).await {
                Ok(reply) | Err(SendError::Refused(reply)) => Ok(code(&reply)),
                Err(SendError::Recipients(refused)) => {
                    Ok(refused.first().map_or("recipient".into(), |(_, reply)| format!("{} (recipient)", code(reply))))
                }
                Err(error) => Err(error.into()),
            },
            Door::Milter { address, from, rcpt } => {
                let mta = match mta {
                    Some(mta) => mta,
                    None => mta.insert(Mta::connect(*address).await?),
                };
                mta.send(from, rcpt, &raw).await
            }
        }
    }
}

fn code(reply: &Reply) -> String {
    match reply.enhanced {
        Some([class, subject, detail]) => format!("{} {class}.{subject}.{detail}", reply.code),
        None => reply.code.to_string(),
    }
}

/// An MTA's end of a milter connection, many messages long.
struct Mta {
    stream: TcpStream,
    /// Whether DATA and the end of the header are shown.
    data: bool,
    end_of_header: bool,
}

/// Protocol flags that we offer: everything of version 6 but larger body pieces.
const OFFERED: u32 = 0x1f_ffff;
/// `SMFIP_NR_*` of connect, helo, mail, rcpt, header fields and body: else the filter answers each of them.
const NO_REPLIES: u32 = 0x08_f080;
/// `SMFIP_NODATA`, and what spares us the answer otherwise.
const NO_DATA: (u32, u32) = (0x200, 0x1_0000);
/// `SMFIP_NOEOH`, and what spares us the answer otherwise.
const NO_END_OF_HEADER: (u32, u32) = (0x40, 0x4_0000);

impl Mta {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        let offer: Vec<u8> = [6u32, 0x1ff, OFFERED].iter().flat_map(|word| word.to_be_bytes()).collect();
        write_frame(&mut out, b'O', &[&offer]);
        stream.write_all(&out).await?;
        let mut mta = Self { stream, data: false, end_of_header: false };
        let (command, data) = mta.hear().await?;
        ensure!(command == b'O' && data.len() >= 12, "the negotiation was not answered as one");
        let steps = u32::from_be_bytes([data[8], data[9], data[10], data[11]]);
        let all = steps & NO_REPLIES == NO_REPLIES;
        let quiet = |(unseen, unanswered): (u32, u32)| steps & (unseen | unanswered) != 0;
        ensure!(
            all && quiet(NO_DATA) && quiet(NO_END_OF_HEADER),
            "the filter wants to answer each stage ({steps:#x}): that is not measured"
        );
        (mta.data, mta.end_of_header) = (steps & NO_DATA.0 == 0, steps & NO_END_OF_HEADER.0 == 0);
        let mut out = Vec::new();
        write_frame(&mut out, b'C', &[b"load.mailweir.localdomain\x004\x00\x19192.0.2.25\0"]);
        write_frame(&mut out, b'H', &[b"load.mailweir.localdomain\0"]);
        mta.stream.write_all(&out).await?;
        Ok(mta)
    }

    async fn send(&mut self, from: &str, rcpt: &str, raw: &[u8]) -> anyhow::Result<String> {
        let mut out = Vec::with_capacity(raw.len() + 1_024);
        write_frame(&mut out, b'M', &[b"<", from.as_bytes(), b">\0"]);
        write_frame(&mut out, b'R', &[b"<", rcpt.as_bytes(), b">\0"]);
        if self.data {
            write_frame(&mut out, b'T', &[]);
        }
        let (header, body) = split(raw);
        for (name, value) in fields(header) {
            write_frame(&mut out, b'L', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"]);
        }
        if self.end_of_header {
            write_frame(&mut out, b'N', &[]);
        }
        for piece in body.chunks(PIECE_BYTES) {
            write_frame(&mut out, b'B', &[piece]);
        }
        write_frame(&mut out, b'E', &[]);
        self.stream.write_all(&out).await?;
        let mut held = false;
        loop {
            let (command, data) = self.hear().await?;
            let word = match command {
                b'a' | b'c' => "accept",
                b'r' => "reject",
                b't' => "tempfail",
                b'd' => "discard",
                b'y' => return Ok(String::from_utf8_lossy(&data[..data.len().min(3)]).into_owned()),
                b'q' => {
                    held = true;
                    continue;
                }
                // Changes to the message, and progress.
                _ => continue,
            };
            return Ok(if held { "quarantine".into() } else { word.into() });
        }
    }

    async fn hear(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let length = self.stream.read_u32().await.context("the filter closed")?;
        ensure!((1..=ANSWER_BYTES).contains(&length), "an answer of {length} bytes");
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.context("the filter closed")?;
        let data = frame.split_off(1);
        Ok((frame[0], data))
    }
}

fn split(raw: &[u8]) -> (&[u8], &[u8]) {
    memchr::memmem::find(raw, b"\r\n\r\n").map_or((raw, &[][..]), |at| (&raw[..at + 2], &raw[at + 4..]))
}

/// Name and value of each field, line ends in values as LF, as MTAs send them.
fn fields(header: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(header).replace("\r\n", "\n");
    let mut all: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = all.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            // With SMFIP_HDR_LEADSPC values keep their first space.
            all.push((name.replace('\0', ""), value.replace('\0', "")));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_for_a_milter() {
        let raw = b"A: 1\r\nB: x\r\n\ty\r\nno field\r\n\r\nbody\r\n\r\nmore";
        let (header, body) = split(raw);
        assert_eq!(
            fields(header),
            [("A".into(), " 1".into()), ("B".into(), " x\n\ty".into())] as [(String, String); 2]
        );
        assert_eq!(body, b"body\r\n\r\nmore");
        assert_eq!(split(b"A: 1"), (&b"A: 1"[..], &b""[..]));
    }
}
