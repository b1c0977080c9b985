//! Senders that never give up: each message is sent until it has a final answer, and every answer is noted.
//!
//! What a sender cannot know is kept apart: a connection that broke after the final dot was sent may or may not have meant
//! that the message was taken. Only such an answer excuses a second copy.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::client::stuffed;

/// Longest wait for one reply.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages on one connection.
const PER_CONNECTION: usize = 20;

/// What was answered to one message, over all tries.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    pub raw: Vec<u8>,
    /// 250 after the final dot.
    pub accepted: usize,
    /// 5xx after the final dot.
    pub refused: usize,
    /// 4xx, or no connection that far.
    pub deferred: usize,
    /// The answer to the final dot was lost.
    pub unknown: usize,
}

impl Entry {
    pub fn is_settled(&self) -> bool {
        self.accepted + self.refused > 0
    }
}

#[derive(Default)]
struct State {
    entries: BTreeMap<usize, Entry>,
    /// To be sent again.
    again: VecDeque<usize>,
    next: usize,
}

/// Running senders.
pub struct Load {
    state: Arc<Mutex<State>>,
    /// No new messages: only those that are not settled yet.
    finishing: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

enum Outcome {
    Accepted,
    Refused(String),
    Deferred,
    Unknown,
}

impl Load {
    /// So many senders at once; `compose` makes the message of a number.
    pub fn start(door: SocketAddr, clients: usize, compose: fn(usize) -> Vec<u8>) -> Self {
        let (state, finishing) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let mut running = JoinSet::new();
        for _ in 0..clients {
            running.spawn(client(door, Arc::clone(&state), Arc::clone(&finishing), compose));
        }
        Self { state, finishing, clients: running }
    }

    /// How many messages have their final answer by now.
    pub fn settled(&self) -> usize {
        self.state.lock().unwrap().entries.values().filter(|entry| entry.is_settled()).count()
    }

    /// Sends no new messages, and waits until each has its final answer; all of them by number.
    pub async fn finish(mut self) -> BTreeMap<usize, Entry> {
        self.finishing.store(true, Ordering::Relaxed);
        let all = async { while self.clients.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("every message gets an answer in the end");
        std::mem::take(&mut self.state.lock().unwrap().entries)
    }
}

async fn client(door: SocketAddr, state: Arc<Mutex<State>>, finishing: Arc<AtomicBool>, compose: fn(usize) -> Vec<u8>) {
    let take = || {
        let mut state = state.lock().unwrap();
        if let Some(number) = state.again.pop_front() {
            return Some((number, state.entries[&number].raw.clone()));
        }
        if finishing.load(Ordering::Relaxed) {
            return None;
        }
        let number = state.next;
        state.next += 1;
        let raw = compose(number);
        state.entries.insert(number, Entry { raw: raw.clone(), ..Entry::default() });
        Some((number, raw))
    };
    let note = |number: usize, outcome: &Outcome| {
        let mut state = state.lock().unwrap();
        let entry = state.entries.get_mut(&number).unwrap();
        match outcome {
            Outcome::Accepted => entry.accepted += 1,
            Outcome::Refused(_) => entry.refused += 1,
            Outcome::Deferred => entry.deferred += 1,
            Outcome::Unknown => entry.unknown += 1,
        }
        if !entry.is_settled() {
            state.again.push_back(number);
        }
    };
    let mut open: Option<(Wire, usize)> = None;
    while let Some((number, raw)) = take() {
        let (mut wire, used) = match open.take() {
            Some(open) => open,
            None => match connect(door).await {
                Ok(wire) => (wire, 0),
                // Nobody listens now: the message waits, as in any MTA's queue.
                Err(_) => {
                    note(number, &Outcome::Deferred);
                    tokio::time::sleep(Duration::from_millis(25)).await;
                    continue;
                }
            },
        };
        let outcome = send(&mut wire, &raw).await;
        note(number, &outcome);
        if let Outcome::Refused(reply) = &outcome {
            assert!(reply.starts_with("550 5.7.1"), "refused for another reason: {reply}");
        }
        if used + 1 < PER_CONNECTION && matches!(outcome, Outcome::Accepted | Outcome::Refused(_)) {
            open = Some((wire, used + 1));
        }
    }
}

type Wire = BufReader<TcpStream>;

async fn connect(door: SocketAddr) -> io::Result<Wire> {
    let stream = TcpStream::connect(door).await?;
    stream.set_nodelay(true)?;
    let mut wire = BufReader::new(stream);
    for line in ["", "EHLO load.example\r\n"] {
        wire.write_all(line.as_bytes()).await?;
        if !reply(&mut wire).await?.starts_with('2') {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
    }
    Ok(wire)
}

async fn send(wire: &mut Wire, raw: &[u8]) -> Outcome {
    for line in ["MAIL FROM:<ada@sender.example>", "RCPT TO:<bob@example.com>", "DATA"] {
        if wire.write_all(format!("{line}\r\n").as_bytes()).await.is_err() {
            return Outcome::Deferred;
        }
        match reply(wire).await {
            Ok(reply) if reply.starts_with(['2', '3']) => {}
            _ => return Outcome::Deferred,
        }
    }
    if wire.write_all(&stuffed(raw)).await.is_err() {
        return Outcome::Unknown;
    }
    match reply(wire).await {
        Ok(reply) if reply.starts_with('2') => Outcome::Accepted,
        Ok(reply) if reply.starts_with('5') => Outcome::Refused(reply),
        Ok(_) => Outcome::Deferred,
        Err(_) => Outcome::Unknown,
    }
}

async fn reply(wire: &mut Wire) -> io::Result<String> {
    loop {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, wire.read_line(&mut line)).await;
        if read.map_err(|_| io::ErrorKind::TimedOut)?? == 0 || !line.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.trim_end().to_owned());
        }
    }
}
