//! The node's push: server-sent events (WHATWG HTML, section 9.2) that say how far the device's inbox
//! reaches.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::NodeError;

/// The name of the events that count; others are passed over.
const INBOX: &str = "inbox";
/// One line of the stream, in bytes: a name or a number.
const LINE_BYTES_MAX: usize = 1024;
/// The node sends a comment at least every 30 s; beyond this the connection is dead.
const SILENCE_SECS_MAX: u64 = 90;

/// An open stream of events.
pub struct Events {
    runtime: Arc<Runtime>,
    body: Incoming,
    address: String,
    parser: Parser,
}

impl Events {
    pub(super) fn new(runtime: Arc<Runtime>, body: Incoming, address: String) -> Self {
        Self { runtime, body, address, parser: Parser::default() }
    }

    /// Waits for the next event, at most for `patience`: the newest position of the device's inbox, or
    /// nothing in time.
    ///
    /// # Errors
    /// [`NodeError::Broken`] when the stream ends or falls silent; connect again then.
    pub fn next(&mut self, patience: Duration) -> Result<Option<u64>, NodeError> {
        let broken = |reason: String| NodeError::Broken { address: self.address.clone(), reason };
        let silence = Duration::from_secs(SILENCE_SECS_MAX);
        let wait = async {
            loop {
                if let Some(seq) = self.parser.take() {
                    return Ok(seq);
                }
                let frame = timeout(silence, self.body.frame()).await;
                let frame = frame.map_err(|_| broken(format!("nothing came for {SILENCE_SECS_MAX} s")))?;
                match frame {
                    None => return Err(broken("the node ended the stream".into())),
                    Some(Err(error)) => return Err(NodeError::talking(&self.address, error)),
                    Some(Ok(frame)) => {
                        let data = frame.into_data().unwrap_or_default();
                        self.parser.feed(&data).map_err(|what| broken(what.into()))?;
                    }
                }
            }
        };
        self.runtime.block_on(async { timeout(patience, wait).await }).map_or(Ok(None), |seq| seq.map(Some))
    }
}

/// Turns bytes into positions. Several that wait become one: only the newest says anything.
#[derive(Default)]
struct Parser {
    line: Vec<u8>,
    name: String,
    data: Option<u64>,
    newest: Option<u64>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        for &byte in bytes {
            if byte != b'\n' {
                if self.line.len() == LINE_BYTES_MAX {
                    return Err("a line of the event stream is too long");
                }
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            self.end_line(std::str::from_utf8(&line).map_err(|_| "the event stream is not UTF-8")?);
        }
        Ok(())
    }

    fn take(&mut self) -> Option<u64> {
        self.newest.take()
    }

    fn end_line(&mut self, line: &str) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            if self.name == INBOX {
                self.newest = self.data.or(self.newest);
            }
            (self.name, self.data) = (String::new(), None);
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => self.data = value.parse().ok(),
            // Comments (an empty field name), ids and retry times.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&str]) -> Vec<Option<u64>> {
        let mut parser = Parser::default();
        let mut read = |chunk: &&str| parser.feed(chunk.as_bytes()).map(|()| parser.take()).unwrap();
        chunks.iter().map(&mut read).collect()
    }

    #[test]
    fn positions_come_out_wherever_the_bytes_are_cut() {
        assert_eq!(read(&["event: inbox\ndata: 17\n\n"]), [Some(17)]);
        assert_eq!(read(&["event: in", "box\r\ndata:1", "7\r\n\r", "\n"]), [None, None, None, Some(17)]);
        assert_eq!(read(&["event:inbox\ndata:1\n\nevent:inbox\ndata:2\n\n"]), [Some(2)]);
    }

    #[test]
    fn what_is_not_an_inbox_event_says_nothing() {
        assert_eq!(read(&[": still here\n\n", "data: 3\n\n", "event: other\ndata: 4\n\n"]), [None; 3]);
        assert_eq!(read(&["event: inbox\ndata: x\n\n", "event: inbox\n\n"]), [None; 2]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.feed(&[b'a'; LINE_BYTES_MAX]).is_ok());
        assert!(parser.feed(b"a").is_err());
        assert!(Parser::default().feed(b"\xff\n").is_err());
    }
}
