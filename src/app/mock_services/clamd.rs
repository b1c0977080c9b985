//! clamd: `zINSTREAM`, `zPING`, `zVERSION` (clamd(8)). It finds EICAR, and calls it `Eicar-Test-Signature`.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufStream};
use tokio::net::TcpStream;

use super::Fault;
use super::wire::Dialect;

/// clamd's own `StreamMaxLength` by default.
const STREAM_MAX: usize = 25 << 20;
const LIMIT: &[u8] = b"INSTREAM size limit exceeded. ERROR\0";

#[derive(Clone, Copy)]
pub(super) struct Clamd;

impl Dialect for Clamd {
    async fn answer(self, stream: &mut BufStream<TcpStream>, fault: Fault) -> io::Result<Option<Vec<u8>>> {
        let mut command = Vec::new();
        stream.take(64).read_until(0, &mut command).await?;
        let answer: &[u8] = match command.as_slice() {
            b"zPING\0" => b"PONG\0",
            b"zVERSION\0" => b"ClamAV 1.4.3/27500/Sat Nov 21 08:00:00 2026\0",
            b"zINSTREAM\0" => match body(stream).await? {
                None => LIMIT,
                Some(body) if crate::content::has_eicar(&body) => b"stream: Eicar-Test-Signature FOUND\0",
                Some(_) => b"stream: OK\0",
            },
            b"" => return Ok(None),
            _ => b"UNKNOWN COMMAND\0",
        };
        Ok(Some(match fault {
            Fault::ServerError => b"stream: Can't allocate memory ERROR\0".to_vec(),
            Fault::TooMany => b"Error accepting connection: too many. ERROR\0".to_vec(),
            _ => answer.to_vec(),
        }))
    }

    fn endless(self) -> &'static [u8] {
        b"stream: "
    }
}

/// Reads the chunks of a stream; `None` when they are too many.
async fn body(stream: &mut BufStream<TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let length = stream.read_u32().await? as usize;
        if length == 0 {
            return Ok(Some(body));
        }
        if body.len() + length > STREAM_MAX {
            return Ok(None);
        }
        let start = body.len();
        body.resize(start + length, 0);
        stream.read_exact(&mut body[start..]).await?;
    }
}
