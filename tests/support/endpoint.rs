//! An HTTP endpoint that records what it is sent, and answers as it is told: for what goes out to Slack, PagerDuty, webhooks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Got {
    pub method: String,
    pub path: String,
    /// Names as they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Whole status line's end and headers, such as `503 Busy\r\nRetry-After: 1`; by request.
type Answers = Arc<dyn Fn(&Got, usize) -> &'static str + Send + Sync>;

pub struct Endpoint {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// `answer` is given the request and how many came before it.
    pub async fn start(answer: impl Fn(&Got, usize) -> &'static str + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer): (_, Answers) = (Arc::clone(&got), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                tokio::spawn(async move {
                    let _ = serve(stream, &kept, &answer).await;
                });
            }
        });
        Self { address, got, task }
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    pub async fn wait_for(&self, count: usize) -> Vec<Got> {
        for _ in 0..3_000 {
            let got = self.got();
            if got.len() >= count {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} requests came: {:?}", self.got().len(), self.got());
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, kept: &Mutex<Vec<Got>>, answer: &Answers) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let mut got = Got { method, path, headers, body: Vec::new() };
    let length = got.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    got.body = vec![0; length];
    stream.read_exact(&mut got.body).await?;
    let status = {
        let mut kept = kept.lock().unwrap();
        let status = answer(&got, kept.len());
        kept.push(got);
        status
    };
    let text = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    stream.write_all(text.as_bytes()).await
}
