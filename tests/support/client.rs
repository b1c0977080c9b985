//! A plain SMTP client: says lines, gives back whole replies, sends exact bytes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A client's end of an SMTP connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects, takes the banner and says EHLO.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self { stream: BufReader::new(stream) };
        let banner = client.reply().await;
        assert!(banner.starts_with("220"), "{banner}");
        let ehlo = client.command("EHLO client.example.net").await;
        assert!(ehlo.starts_with("250"), "{ehlo}");
        client
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// One reply, all its lines joined by LF. Fails a test that waits for more than 30 seconds.
    pub async fn reply(&mut self) -> String {
        let mut lines: Vec<String> = Vec::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(30), self.stream.read_line(&mut line)).await;
            read.expect("the server says nothing").unwrap();
            assert!(line.len() >= 4, "closed in a reply: {lines:?}");
            let more = line.as_bytes()[3] == b'-';
            lines.push(line.trim_end().to_owned());
            if !more {
                return lines.join("\n");
            }
        }
    }

    /// Says a line and takes the reply.
    pub async fn command(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends a message whose lines end with CRLF; the reply after the final dot, or the first refusal.
    pub async fn send(&mut self, sender: &str, recipients: &[&str], raw: &[u8]) -> String {
        let mut lines = vec![format!("MAIL FROM:<{sender}>")];
        lines.extend(recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>")));
        lines.push("DATA".to_owned());
        for line in lines {
            let reply = self.command(&line).await;
            if !reply.starts_with(['2', '3']) {
                return reply;
            }
        }
        self.write(&stuffed(raw)).await;
        self.reply().await
    }
}

/// A message as it goes out: leading dots doubled, the final dot added.
pub fn stuffed(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 5);
    for line in raw.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}
