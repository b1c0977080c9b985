//! A small DNS server over UDP (RFC 1035): answers from a table, fails or is silent as told.
//!
//! It runs on a thread of its own and is deliberately not built on the resolver's library.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is answered about a name.
#[derive(Debug, Clone)]
pub enum Answer {
    /// One TXT record; longer texts are cut into strings of 255 bytes.
    Txt(String),
    /// Address records.
    A(Vec<Ipv4Addr>),
    /// One mail exchanger.
    Mx(String),
    /// SERVFAIL.
    Failure,
    /// Nothing at all.
    Silence,
}

const TXT: u16 = 16;
const A: u16 = 1;
const MX: u16 = 15;

#[derive(Default)]
struct State {
    table: HashMap<String, Vec<Answer>>,
    asked: Vec<String>,
}

/// A running server; what is not in its table does not exist (NXDOMAIN).
pub struct Dns {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = socket.local_addr().unwrap();
        let (state, stop) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (shared, ending) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&socket, &shared, &ending));
        Self { address, state, stop, thread: Some(thread) }
    }

    /// Adds an answer about a name.
    pub fn says(&self, name: &str, answer: Answer) {
        self.state.lock().unwrap().table.entry(name.to_lowercase()).or_default().push(answer);
    }

    /// Adds a TXT record.
    pub fn txt(&self, name: &str, text: impl Into<String>) {
        self.says(name, Answer::Txt(text.into()));
    }

    /// Forgets all that was said about a name.
    pub fn forget(&self, name: &str) {
        self.state.lock().unwrap().table.remove(&name.to_lowercase());
    }

    /// Names asked for so far, in order, with repetitions.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, state: &Mutex<State>, stop: &AtomicBool) {
    let mut packet = [0; 4_096];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
        if let Some(answer) = answer(&packet[..length], state) {
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a query with one question; `None`: silence.
fn answer(query: &[u8], state: &Mutex<State>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let mut state = state.lock().unwrap();
    state.asked.push(name.clone());
    let known = state.table.get(&name);
    let (mut code, mut records) = (if known.is_some() { 0 } else { 3 }, Vec::new());
    for one in known.into_iter().flatten() {
        match one {
            Answer::Silence => return None,
            Answer::Failure => code = 2,
            Answer::Txt(text) if kind == TXT => {
                let strings = text.as_bytes().chunks(255);
                records.push(strings.flat_map(|s| std::iter::once(s.len() as u8).chain(s.iter().copied())).collect());
            }
            Answer::A(addresses) if kind == A => records.extend(addresses.iter().map(|a| a.octets().to_vec())),
            Answer::Mx(host) if kind == MX => {
                let mut data = vec![0, 10];
                for label in host.split('.') {
                    data.push(label.len() as u8);
                    data.extend_from_slice(label.as_bytes());
                }
                data.push(0);
                records.push(data);
            }
            _ => {}
        }
    }
    // Without the zone's SOA nobody may remember that something does not exist (RFC 2308, 5).
    let nothing = records.is_empty() && code != 2;
    let mut out = query[..2].to_vec();
    out.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, u8::from(nothing), 0, 0]);
    out.extend_from_slice(question);
    if nothing {
        // Of the root: names, serial, refresh, retry, expire, minimum.
        out.extend_from_slice(&[0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
        [1u32, 60, 60, 60, 60].iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    }
    for data in records {
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&data);
    }
    Some(out)
}
