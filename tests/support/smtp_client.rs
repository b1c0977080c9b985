//! An SMTP client that does exactly what it is told, right or wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

enum Wire {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

pub struct SmtpClient {
    wire: Option<Wire>,
    buffer: Vec<u8>,
}

impl SmtpClient {
    /// Connects without reading the banner.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { wire: Some(Wire::Plain(stream)), buffer: Vec::new() }
    }

    /// Connects, reads the banner, says EHLO; the EHLO reply too.
    pub async fn greeted(address: SocketAddr) -> (Self, String) {
        let mut client = Self::connect(address).await;
        assert!(client.reply().await.starts_with("220 "));
        let offer = client.ask("EHLO client.example").await;
        assert!(offer.starts_with("250"), "{offer}");
        (client, offer)
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        match self.wire.as_mut().unwrap() {
            Wire::Plain(stream) => stream.write_all(bytes).await.unwrap(),
            Wire::Tls(stream) => {
                stream.write_all(bytes).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }

    /// One whole reply, lines separated by CRLF; empty when the server has closed.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let line = String::from_utf8(line).unwrap();
                assert!(line.ends_with("\r\n") && line.len() <= 512, "{line:?}");
                reply += &line;
                if line.as_bytes()[3] == b' ' {
                    return reply.trim_end().to_owned();
                }
            }
            if self.read().await == 0 {
                return reply;
            }
        }
    }

    async fn read(&mut self) -> usize {
        let reading = async {
            match self.wire.as_mut().unwrap() {
                Wire::Plain(stream) => stream.read_buf(&mut self.buffer).await,
                Wire::Tls(stream) => stream.read_buf(&mut self.buffer).await,
            }
        };
        timeout(Duration::from_secs(20), reading).await.expect("an answer in time").unwrap_or(0)
    }

    pub async fn ask(&mut self, command: &str) -> String {
        self.write(format!("{command}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// MAIL and one RCPT for each recipient, all of which must be taken, then DATA.
    pub async fn begin(&mut self, sender: &str, recipients: &[&str]) {
        assert_starts(&self.ask(&format!("MAIL FROM:<{sender}>")).await, "250");
        for recipient in recipients {
            assert_starts(&self.ask(&format!("RCPT TO:<{recipient}>")).await, "250");
        }
        assert_starts(&self.ask("DATA").await, "354");
    }

    /// A whole message; the final reply.
    pub async fn send(&mut self, recipients: &[&str], stuffed: &str) -> String {
        self.begin("sender@client.example", recipients).await;
        self.write(format!("{stuffed}.\r\n").as_bytes()).await;
        self.reply().await
    }

    /// The handshake after the server's 220.
    pub async fn start_tls(&mut self) -> Result<(), std::io::Error> {
        let config = mailweir::gateway::tls::opportunistic_client().unwrap();
        let Some(Wire::Plain(stream)) = self.wire.take() else { panic!("TLS twice") };
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let tls = connector.connect(ServerName::try_from("relay.example").unwrap(), stream).await?;
        self.wire = Some(Wire::Tls(Box::new(tls)));
        Ok(())
    }
}

#[track_caller]
pub fn assert_starts(reply: &str, start: &str) {
    assert!(reply.starts_with(start), "expected {start}, got {reply:?}");
}
