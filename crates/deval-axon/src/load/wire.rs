//! HTTP as far as a load needs it: a request's bytes, and an answer's status and body.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::Target;

/// No axon's answer is as long.
const LONGEST_ANSWER: usize = 256 * 1024;

/// A whole request, with the headers that aiohttp adds to a dendrite's. `start` is method and path.
pub(super) fn request_bytes<'a>(
    start: &str,
    target: &Target,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{start} HTTP/1.1\r\nHost: {}\r\n", target.address);
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.10.9\r\n");
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

/// A connection that is kept from one request to the next.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// Whether the connection can take another request.
    pub(super) kept: bool,
}

impl Connection {
    /// Connects, from an address of this machine where one is named.
    pub(super) async fn open(address: SocketAddr, from: Option<IpAddr>) -> Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and reads its answer.
    pub(super) async fn exchange(&mut self, request: &[u8], patience: Duration) -> Result<Answer<'_>> {
        let exchanging = async {
            // An axon may refuse, and close, before it has read all.
            let sent = self.stream.write_all(request).await;
            self.read().await.map_err(|error| sent.err().unwrap_or(error))
        };
        let (status, start, end, kept) =
            tokio::time::timeout(patience, exchanging).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
        Ok(Answer { status, body: &self.buffer[start..end], kept })
    }

    /// Sends what is no whole request, ends the sending side, and reads whatever answer comes: its status, or 0 for none.
    pub(super) async fn send_and_end(mut self, bytes: &[u8], patience: Duration) -> u16 {
        let exchanging = async {
            // The axon may have closed already; what it said can still be read.
            let _ = self.stream.write_all(bytes).await;
            let _ = self.stream.shutdown().await;
            self.read().await.map_or(0, |(status, ..)| status)
        };
        tokio::time::timeout(patience, exchanging).await.unwrap_or(0)
    }

    /// Status, where the body begins and ends, and whether the connection is kept.
    async fn read(&mut self) -> Result<(u16, usize, usize, bool)> {
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.buffer).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
            let httparse::Status::Complete(start) = parsed else { continue };
            let header = |name: &str| {
                let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                found.and_then(|header| std::str::from_utf8(header.value).ok())
            };
            let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let kept = header("connection") != Some("close");
            let end = start.saturating_add(length);
            if self.buffer.len() >= end {
                return Ok((response.code.unwrap_or(0), start, end, kept));
            }
            if end > LONGEST_ANSWER {
                return Err(ErrorKind::FileTooLarge.into());
            }
        }
    }
}
