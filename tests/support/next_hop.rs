//! A next hop that records every byte and answers as it is told.
//!
//! It is deliberately not built on the product's machines: lines end in LF here, and the content is kept as it came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How it behaves; may be changed while it runs.
#[derive(Clone)]
pub struct Behaviour {
    pub banner: String,
    pub extensions: Vec<&'static str>,
    pub lmtp: bool,
    pub refuse_ehlo: bool,
    /// Replies by a part of the command line; the first that fits counts.
    pub replies: Vec<(&'static str, String)>,
    pub final_reply: String,
    pub drop_after_dot: bool,
    /// Closes the connection when it reads a command with these letters, so many times.
    pub drop_at: Option<(&'static str, usize)>,
    /// Closes every connection after its first message.
    pub drop_after_message: bool,
    pub final_delay: Duration,
    pub tls: Option<Arc<ServerConfig>>,
    /// Bytes sent in plain text right behind the 220 of STARTTLS.
    pub inject: &'static str,
    /// Reads a PROXY v1 line first.
    pub proxy: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            banner: "220 hop ESMTP".into(),
            extensions: vec!["PIPELINING", "SIZE 10000000", "8BITMIME", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES"],
            lmtp: false,
            refuse_ehlo: false,
            replies: Vec::new(),
            final_reply: "250 2.0.0 Ok: queued as HOP1".into(),
            drop_after_dot: false,
            drop_at: None,
            drop_after_message: false,
            final_delay: Duration::ZERO,
            tls: None,
            inject: "",
            proxy: false,
        }
    }
}

/// One message as it came over the wire.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub mail: String,
    pub rcpt: Vec<String>,
    /// Between 354 and the final dot, dots still doubled.
    pub wire: Vec<u8>,
}

impl Message {
    /// The content without dot-stuffing.
    pub fn content(&self) -> Vec<u8> {
        let text: Vec<u8> = [b"\r\n".as_slice(), &self.wire].concat();
        let mut out = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if text[at..].starts_with(b"\r\n..") {
                out.extend_from_slice(b"\r\n.");
                at += 4;
            } else {
                out.push(text[at]);
                at += 1;
            }
        }
        out.split_off(2)
    }

    /// The content below our own `Received` field.
    pub fn below_trace(&self) -> String {
        let content = String::from_utf8_lossy(&self.content()).into_owned();
        let mut rest = content.as_str();
        assert!(rest.starts_with("Received: "), "{content}");
        loop {
            rest = &rest[rest.find("\r\n").expect("a line's end") + 2..];
            if !rest.starts_with([' ', '\t']) {
                return rest.to_owned();
            }
        }
    }
}

#[derive(Default)]
pub struct Recorded {
    pub connections: usize,
    pub commands: Vec<String>,
    pub messages: Vec<Message>,
    pub proxy_lines: Vec<String>,
}

/// The running hop; ends when dropped.
pub struct NextHop {
    pub address: SocketAddr,
    pub behaviour: Arc<Mutex<Behaviour>>,
    pub recorded: Arc<Mutex<Recorded>>,
    task: JoinHandle<()>,
}

impl Drop for NextHop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NextHop {
    pub async fn start(behaviour: Behaviour) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), behaviour).await
    }

    pub async fn start_at(place: SocketAddr, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let recorded = Arc::new(Mutex::new(Recorded::default()));
        let (told, kept) = (behaviour.clone(), recorded.clone());
        let task = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                kept.lock().unwrap().connections += 1;
                clients.spawn(plain(stream, told.clone(), kept.clone()));
            }
        });
        Self { address, behaviour, recorded, task }
    }

    pub fn messages(&self) -> Vec<Message> {
        self.recorded.lock().unwrap().messages.clone()
    }

    pub fn commands(&self) -> Vec<String> {
        self.recorded.lock().unwrap().commands.clone()
    }

    pub fn connections(&self) -> usize {
        self.recorded.lock().unwrap().connections
    }

    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }
}

async fn plain(mut stream: TcpStream, told: Arc<Mutex<Behaviour>>, kept: Arc<Mutex<Recorded>>) {
    let _ = stream.set_nodelay(true);
    let behaviour = told.lock().unwrap().clone();
    let mut buffer = Vec::new();
    if behaviour.proxy {
        let Some(line) = line(&mut stream, &mut buffer).await else { return };
        kept.lock().unwrap().proxy_lines.push(line);
    }
    if stream.write_all(format!("{}\r\n", behaviour.banner).as_bytes()).await.is_err() {
        return;
    }
    if converse(&mut stream, buffer, &told, &kept, behaviour.tls.is_some()).await == Some(true) {
        let config = behaviour.tls.unwrap();
        stream.write_all(format!("220 go\r\n{}", behaviour.inject).as_bytes()).await.unwrap();
        let Ok(mut tls) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await else { return };
        kept.lock().unwrap().commands.push("(tls)".into());
        converse(&mut tls, Vec::new(), &told, &kept, false).await;
    }
}

async fn line<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// `Some(true)`: STARTTLS is to follow.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    mut buffer: Vec<u8>,
    told: &Arc<Mutex<Behaviour>>,
    kept: &Arc<Mutex<Recorded>>,
    offer_tls: bool,
) -> Option<bool> {
    let mut message = Message::default();
    loop {
        let command = line(stream, &mut buffer).await?;
        let behaviour = told.lock().unwrap().clone();
        kept.lock().unwrap().commands.push(command.clone());
        if let Some((word, times)) = behaviour.drop_at
            && times > 0
            && command.contains(word)
        {
            told.lock().unwrap().drop_at = Some((word, times - 1));
            return None;
        }
        let verb = command.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let told_reply =
            behaviour.replies.iter().find(|(part, _)| command.contains(part)).map(|(_, reply)| reply.clone());
        let reply = told_reply.clone().unwrap_or_else(|| match verb.as_str() {
            "EHLO" if behaviour.refuse_ehlo => "502 what".into(),
            "EHLO" | "LHLO" => {
                let mut lines = vec!["hop"];
                lines.extend(&behaviour.extensions);
                if offer_tls {
                    lines.push("STARTTLS");
                }
                let last = lines.pop().unwrap();
                lines.iter().map(|line| format!("250-{line}\r\n")).collect::<String>() + "250 " + last
            }
            "DATA" => "354 go".into(),
            "QUIT" => "221 bye".into(),
            "HELO" | "MAIL" | "RCPT" | "RSET" | "XFORWARD" => "250 2.1.0 Ok".into(),
            _ => "502 5.5.1 what".into(),
        });
        let positive = reply.starts_with('2');
        match verb.as_str() {
            "STARTTLS" if offer_tls && told_reply.is_none() => return Some(true),
            "MAIL" if positive => message = Message { mail: command, ..Message::default() },
            "RCPT" if positive => message.rcpt.push(command),
            "RSET" => message = Message::default(),
            _ => {}
        }
        stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
        if verb == "DATA" && reply.starts_with('3') {
            message.wire = content(stream, &mut buffer).await?;
            if behaviour.drop_after_dot {
                return None;
            }
            tokio::time::sleep(behaviour.final_delay).await;
            let recipients = message.rcpt.len();
            if behaviour.final_reply.starts_with('2') {
                kept.lock().unwrap().messages.push(std::mem::take(&mut message));
            }
            for _ in 0..if behaviour.lmtp { recipients } else { 1 } {
                stream.write_all(format!("{}\r\n", behaviour.final_reply).as_bytes()).await.ok()?;
            }
            if behaviour.drop_after_message {
                return None;
            }
        }
    }
}

/// Up to `CRLF . CRLF`, as it came.
async fn content<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if buffer.starts_with(b".\r\n") {
            buffer.drain(..3);
            return Some(Vec::new());
        }
        if let Some(end) = buffer.windows(5).position(|five| five == b"\r\n.\r\n") {
            let mut wire: Vec<u8> = buffer.drain(..end + 5).collect();
            wire.truncate(end + 2);
            return Some(wire);
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
