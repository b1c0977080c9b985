//! A TCP listener that serves one request a connection and breaks as told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::Fault;

/// Connections at a time.
const MOST: usize = 512;
/// How much is sent at most when it does not stop.
const HUGE: usize = 64 << 20;
/// Longest conversation: nobody who is patient keeps a task for good.
const LONGEST: Duration = Duration::from_secs(120);

/// What is spoken over a connection.
pub(super) trait Dialect: Copy + Send + Sync + 'static {
    /// Reads one request and gives the whole answer; `None` when the peer went away.
    fn answer(
        self,
        stream: &mut BufStream<TcpStream>,
        fault: Fault,
    ) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send;

    /// How an answer without end begins.
    fn endless(self) -> &'static [u8];
}

/// Listens, and serves until the task is aborted.
pub(super) async fn listen(
    at: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    seen: Arc<AtomicU64>,
    dialect: impl Dialect,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = bind(at)?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let mut listener = Some(listener);
        let mut conversations = JoinSet::new();
        loop {
            let now = *fault.borrow_and_update();
            match (now, &listener) {
                (Fault::Refuse, Some(_)) => listener = None,
                (Fault::Refuse, None) => {
                    if fault.changed().await.is_err() {
                        return;
                    }
                }
                (_, None) => match bind(address) {
                    Ok(bound) => listener = Some(bound),
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
                (_, Some(open)) => tokio::select! {
                    changed = fault.changed() => if changed.is_err() { return },
                    accepted = open.accept() => if let Ok((stream, _)) = accepted {
                        while conversations.len() >= MOST {
                            conversations.join_next().await;
                        }
                        seen.fetch_add(1, Ordering::Relaxed);
                        let fault = *fault.borrow();
                        let talk = async move { tokio::time::timeout(LONGEST, converse(stream, fault, dialect)).await };
                        conversations.spawn(talk);
                        while conversations.try_join_next().is_some() {}
                    },
                },
            }
        }
    });
    Ok((address, task))
}

fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(256)
}

async fn converse(stream: TcpStream, fault: Fault, dialect: impl Dialect) -> io::Result<()> {
    let mut stream = BufStream::new(stream);
    let Some(answer) = dialect.answer(&mut stream, fault).await? else { return Ok(()) };
    match fault {
        Fault::Hang => std::future::pending().await,
        Fault::Refuse | Fault::Reset => return stream.get_ref().set_zero_linger(),
        Fault::Drip => {
            for byte in answer {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        Fault::Garbage => {
            let noise: Vec<u8> = (0..512u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
            stream.write_all(&noise).await?;
            stream.write_all(b"\0\r\n\r\n\0").await?;
        }
        Fault::Huge => {
            stream.write_all(dialect.endless()).await?;
            let block = [b'x'; 16 << 10];
            for _ in 0..HUGE / block.len() {
                stream.write_all(&block).await?;
            }
        }
        Fault::None | Fault::ServerError | Fault::TooMany => stream.write_all(&answer).await?,
    }
    stream.shutdown().await?;
    // What the peer still sends is read, or the answer would be lost with a reset.
    let mut rest = [0; 4_096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
