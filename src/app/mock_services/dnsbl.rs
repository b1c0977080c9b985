//! Block lists over DNS (RFC 5782), UDP. Zones `ip.mock` and `domain.mock`.
//!
//! Listed: `127.0.0.2` and 203.0.113.66 in `ip.mock`; `test`, `evil.example`, `evil.test` and all below them in
//! `domain.mock`. Not listed: everything else, `127.0.0.1` and `invalid` too, as the test points want it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Fault;

const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;
const A: [u8; 2] = [0, 1];

/// Listens, and serves until the task is aborted.
pub(super) async fn listen(
    at: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    seen: Arc<AtomicU64>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let socket = UdpSocket::bind(at).await?;
    let address = socket.local_addr()?;
    let task = tokio::spawn(async move {
        let mut socket = Some(socket);
        let mut packet = [0; 1_500];
        loop {
            let now = *fault.borrow_and_update();
            match (now, &socket) {
                (Fault::Refuse, Some(_)) => socket = None,
                (Fault::Refuse, None) => {
                    if fault.changed().await.is_err() {
                        return;
                    }
                }
                (_, None) => match UdpSocket::bind(address).await {
                    Ok(bound) => socket = Some(bound),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                (_, Some(open)) => tokio::select! {
                    changed = fault.changed() => if changed.is_err() { return },
                    received = open.recv_from(&mut packet) => if let Ok((length, client)) = received {
                        seen.fetch_add(1, Ordering::Relaxed);
                        let answer = answer(&packet[..length], now);
                        if let Some(answer) = answer {
                            let _ = open.send_to(&answer, client).await;
                        }
                    },
                },
            }
        }
    });
    Ok((address, task))
}

/// The answer to a query with one question; `None`: silence. One datagram cannot drip or be reset: that is silence too.
fn answer(query: &[u8], fault: Fault) -> Option<Vec<u8>> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let name = labels.join(".");
    let found = match fault {
        Fault::Hang | Fault::Drip | Fault::Reset | Fault::Refuse => return None,
        Fault::ServerError => Err(SERVFAIL),
        // The list refuses whoever asks too much, or through a public resolver.
        Fault::TooMany => Ok(vec![[127, 255, 255, 255]]),
        // No list answers with such an address.
        Fault::Garbage => Ok(vec![[10, 9, 8, 7]]),
        Fault::Huge => Ok(vec![[127, 0, 0, 2]; 80]),
        Fault::None => listed(&name).map(|code| vec![code]).ok_or(NXDOMAIN),
    };
    let records = if query.get(at + 1..at + 3)? == A { found.as_deref().unwrap_or_default() } else { &[] };
    let code = found.as_ref().err().copied().unwrap_or(0);
    let nothing = records.is_empty() && code != SERVFAIL;
    let mut out = query.get(..2)?.to_vec();
    let count = u8::try_from(records.len()).ok()?;
    out.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, count, 0, u8::from(nothing), 0, 0]);
    out.extend_from_slice(question);
    if nothing {
        // The SOA of the root, so that "nothing" may be remembered (RFC 2308, 5): for one second.
        out.extend_from_slice(&[0, 0, 6, 0, 1, 0, 0, 0, 1, 0, 22, 0, 0]);
        [1u32, 60, 60, 60, 1].iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    }
    for address in records {
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        out.extend_from_slice(address);
    }
    Some(out)
}

fn listed(name: &str) -> Option<[u8; 4]> {
    let found = if let Some(reversed) = name.strip_suffix(".ip.mock") {
        matches!(reversed, "2.0.0.127" | "66.113.0.203")
    } else {
        let domain = name.strip_suffix(".domain.mock")?;
        ["test", "evil.example", "evil.test"].iter().any(|bad| match domain.strip_suffix(bad) {
            Some("") => true,
            // `test` is the test point alone, not a suffix.
            Some(rest) => rest.ends_with('.') && *bad != "test",
            None => false,
        })
    };
    found.then_some([127, 0, 0, 2])
}
