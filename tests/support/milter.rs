//! A milter client that behaves as an MTA, and a scripted pipeline behind the milter door.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailweir::gateway::milter::{Config, Endpoint, Listener, Metrics, serve};
use mailweir::pipeline::{Answer, Inspect, Transaction};
use mailweir::protocol::milter::write_frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the script says to one message: after how long, and what. `None`: it panics.
pub type Script = Box<dyn Fn(&Transaction) -> (Duration, Option<Answer>) + Send + Sync>;

/// A pipeline that does as it is told and keeps what it saw.
pub struct Scripted {
    script: Script,
    pub seen: Mutex<Vec<Transaction>>,
}

impl Scripted {
    pub fn new(script: impl Fn(&Transaction) -> (Duration, Option<Answer>) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), seen: Mutex::new(Vec::new()) })
    }

    /// Answers every message at once.
    pub fn always(answer: Answer) -> Arc<Self> {
        Self::new(move |_| (Duration::ZERO, Some(answer.clone())))
    }

    pub fn seen(&self) -> Vec<Transaction> {
        self.seen.lock().unwrap().clone()
    }
}

impl Inspect for Scripted {
    async fn inspect(&self, transaction: Transaction) -> Answer {
        let (delay, answer) = (self.script)(&transaction);
        self.seen.lock().unwrap().push(transaction);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        answer.expect("the script says: panic")
    }
}

/// Passes everything on.
pub fn deliver() -> Answer {
    Answer::Deliver { edits: Vec::new(), held: Vec::new() }
}

/// A running milter door.
pub struct Door {
    pub endpoint: Endpoint,
    pub metrics: Arc<Metrics>,
    pub cancel: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Door {
    /// Opens a door on a free port of the loopback, or where the configuration says if it says a unix socket.
    pub async fn open(mut config: Config, inspect: Arc<Scripted>) -> Self {
        if matches!(config.listen, Endpoint::Inet(_)) {
            config.listen = Endpoint::Inet("127.0.0.1:0".into());
        }
        let listener = Listener::bind(&config).await.unwrap();
        let endpoint = listener.endpoint();
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let cancel = CancellationToken::new();
        let task = tokio::spawn(serve(listener, inspect, Arc::new(config), metrics.clone(), cancel.clone()));
        Self { endpoint, metrics, cancel, task }
    }

    pub async fn connect(&self) -> Mta {
        Mta::connect(&self.endpoint).await.unwrap()
    }

    /// How often connections were ended by a fault of this kind.
    pub fn faults(&self, kind: &str) -> u64 {
        self.metrics.protocol_errors_total.with_label_values(&[kind]).get()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// One frame: command and data.
pub type Frame = (u8, Vec<u8>);

/// An MTA's end of a connection.
pub struct Mta {
    stream: Box<dyn Io>,
}

impl Mta {
    pub async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        let stream: Box<dyn Io> = match endpoint {
            Endpoint::Inet(address) => {
                let stream = TcpStream::connect(address.as_str()).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Endpoint::Unix(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok(Self { stream })
    }

    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub async fn say(&mut self, command: u8, data: &[u8]) {
        let mut out = Vec::new();
        write_frame(&mut out, command, &[data]);
        self.raw(&out).await.unwrap();
    }

    /// The next frame; `None` when the gateway closed. Fails a test that waits for more than 10 seconds.
    pub async fn hear(&mut self) -> Option<Frame> {
        let read = async {
            let length = self.stream.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some((frame[0], frame[1..].to_vec()))
        };
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("the gateway says nothing and stays")
    }

    /// Negotiates as Postfix does, connects a client and says HELO; nothing of it is answered but the first.
    pub async fn greet(&mut self) {
        let mut offer = Vec::new();
        for number in [6u32, 0x1ff, 0x1f_ffff] {
            offer.extend_from_slice(&number.to_be_bytes());
        }
        self.say(b'O', &offer).await;
        assert_eq!(self.hear().await.expect("negotiation").0, b'O');
        self.say(b'C', b"mail.example.net\x004\x9c\x40192.0.2.7\0").await;
        self.say(b'H', b"mail.example.net\0").await;
    }

    /// Envelope and header of a message with this subject.
    pub async fn begin(&mut self, subject: &str) {
        self.say(b'M', b"<ada@example.net>\0").await;
        self.say(b'R', b"<bob@example.com>\0").await;
        self.say(b'L', format!("Subject\0 {subject}\0").as_bytes()).await;
    }

    /// A whole message; what comes back up to the final reply.
    pub async fn message(&mut self, subject: &str, body: &[u8]) -> Vec<Frame> {
        self.begin(subject).await;
        for piece in body.chunks(65_535) {
            self.say(b'B', piece).await;
        }
        self.say(b'E', b"").await;
        self.verdict().await
    }

    /// All frames up to the final reply.
    pub async fn verdict(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.hear().await.expect("a verdict");
            let is_final = b"cartdy".contains(&frame.0);
            frames.push(frame);
            if is_final {
                return frames;
            }
        }
    }
}

/// The commands of some frames, in order.
pub fn commands(frames: &[Frame]) -> String {
    frames.iter().map(|(command, _)| char::from(*command)).collect()
}
