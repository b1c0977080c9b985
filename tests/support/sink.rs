//! A recording SMTP server: accepts mail, keeps its exact bytes, says what it is told to say.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Whole MAIL command.
    pub sender: String,
    /// Whole RCPT commands that were answered 250.
    pub recipients: Vec<String>,
    /// Bytes after DATA, dot-stuffing undone, without the final dot; the last line keeps its CRLF.
    pub raw: Vec<u8>,
}

impl Mail {
    /// The bytes without the trace that MTAs put on top: everything up to the end of the last leading Received, Return-Path
    /// or Delivered-To field.
    pub fn without_trace(&self) -> Vec<u8> {
        let mut rest = &self.raw[..];
        loop {
            let traced = [&b"Received:"[..], b"Return-Path:", b"Delivered-To:", b"X-Original-To:"];
            if !traced.iter().any(|name| rest.starts_with(name)) {
                return rest.to_vec();
            }
            loop {
                let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a line end") + 2;
                rest = &rest[end..];
                if !rest.starts_with(b" ") && !rest.starts_with(b"\t") {
                    break;
                }
            }
        }
    }
}

/// What the sink answers.
#[derive(Debug, Clone)]
pub struct Replies {
    /// First line it says.
    pub banner: String,
    /// Lines of its EHLO answer after the host name, such as `PIPELINING`.
    pub extensions: Vec<String>,
    /// Answer to MAIL.
    pub mail: String,
    /// Answers to RCPT whose command contains the first text; otherwise 250.
    pub recipients: Vec<(String, String)>,
    /// Answer to DATA.
    pub data: String,
    /// Answer to the final dot.
    pub end: String,
    /// Wait before the answer to the final dot.
    pub end_delay: Duration,
    /// Close instead of answering the final dot. The message is kept all the same.
    pub vanish_at_end: bool,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            banner: "220 sink.example ESMTP".into(),
            extensions: ["PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
                .map(String::from)
                .to_vec(),
            mail: "250 2.1.0 Ok".into(),
            recipients: Vec::new(),
            data: "354 Go on".into(),
            end: "250 2.0.0 Ok: kept".into(),
            end_delay: Duration::ZERO,
            vanish_at_end: false,
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    mails: Vec<Mail>,
    commands: Vec<String>,
    connections: usize,
}

/// A running sink; it ends when dropped.
pub struct Sink {
    pub address: SocketAddr,
    record: Arc<Mutex<Record>>,
    replies: Arc<Mutex<Replies>>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Starts on a free port of the loopback.
    pub async fn start() -> Self {
        Self::start_with(Replies::default()).await
    }

    pub async fn start_with(replies: Replies) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Mutex::new(Record::default()));
        let replies = Arc::new(Mutex::new(replies));
        let (kept, said) = (record.clone(), replies.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                kept.lock().unwrap().connections += 1;
                // A client that goes away is its own affair.
                let (kept, said) = (kept.clone(), said.clone());
                connections.spawn(async move {
                    let _ = converse(stream, &kept, &said).await;
                });
            }
        });
        Self { address, record, replies, task }
    }

    /// Changes what it answers from now on.
    pub fn set(&self, change: impl FnOnce(&mut Replies)) {
        change(&mut self.replies.lock().unwrap());
    }

    /// All messages so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.record.lock().unwrap().mails.clone()
    }

    /// Forgets what came.
    pub fn forget(&self) {
        self.record.lock().unwrap().mails.clear();
    }

    /// All command lines so far, without their line end.
    pub fn commands(&self) -> Vec<String> {
        self.record.lock().unwrap().commands.clone()
    }

    /// How many connections were taken.
    pub fn connections(&self) -> usize {
        self.record.lock().unwrap().connections
    }

    /// Waits until so many messages have come; fails the test after 20 seconds.
    pub async fn wait_for(&self, count: usize) -> Vec<Mail> {
        for _ in 0..1_000 {
            let mails = self.mails();
            if mails.len() >= count {
                return mails;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} of {count} messages came to the sink", self.mails().len());
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, record: &Mutex<Record>, replies: &Mutex<Replies>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let said = || replies.lock().unwrap().clone();
    say(&mut stream, &said().banner).await?;
    let mut mail = Mail { sender: String::new(), recipients: Vec::new(), raw: Vec::new() };
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
        record.lock().unwrap().commands.push(text.clone());
        let now = said();
        let reply = match text.to_ascii_uppercase().split([' ', ':']).next().unwrap_or_default() {
            "EHLO" | "LHLO" => {
                let mut lines = vec!["sink.example".to_owned()];
                lines.extend(now.extensions);
                let last = lines.len() - 1;
                let mark = |n| if n == last { ' ' } else { '-' };
                lines.iter().enumerate().map(|(n, l)| format!("250{}{l}", mark(n))).collect::<Vec<_>>().join("\r\n")
            }
            "MAIL" => {
                mail = Mail { sender: text, recipients: Vec::new(), raw: Vec::new() };
                now.mail
            }
            "RCPT" => {
                let reply = now.recipients.iter().find(|(part, _)| text.contains(part));
                let reply = reply.map_or("250 2.1.5 Ok".to_owned(), |(_, reply)| reply.clone());
                if reply.starts_with('2') {
                    mail.recipients.push(text);
                }
                reply
            }
            "DATA" if !now.data.starts_with('3') => now.data,
            "DATA" => {
                say(&mut stream, &now.data).await?;
                mail.raw = read_data(&mut stream).await?;
                let now = said();
                if now.end.starts_with('2') || now.vanish_at_end {
                    record.lock().unwrap().mails.push(mail.clone());
                }
                tokio::time::sleep(now.end_delay).await;
                if now.vanish_at_end {
                    return Ok(());
                }
                now.end
            }
            "QUIT" => {
                say(&mut stream, "221 2.0.0 Bye").await?;
                return Ok(());
            }
            "HELO" | "RSET" | "NOOP" | "XFORWARD" | "XCLIENT" => "250 2.0.0 Ok".into(),
            _ => "500 5.5.2 What?".into(),
        };
        say(&mut stream, &reply).await?;
    }
}

async fn say(stream: &mut BufReader<TcpStream>, reply: &str) -> std::io::Result<()> {
    stream.write_all(format!("{reply}\r\n").as_bytes()).await
}

/// Reads up to CRLF . CRLF and nothing else, and undoes the dot-stuffing of lines that CRLF ends.
async fn read_data(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    let mut line = Vec::new();
    let mut at_line_start = true;
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if at_line_start && line == b".\r\n" {
            return Ok(raw);
        }
        let stuffed = at_line_start && line.starts_with(b".");
        raw.extend_from_slice(if stuffed { &line[1..] } else { &line });
        // A bare LF ends no line.
        at_line_start = raw.ends_with(b"\r\n");
    }
}
