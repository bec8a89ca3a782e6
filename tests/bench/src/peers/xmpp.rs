//! A client of XMPP servers (RFC 6120, 6121; accounts by XEP-0077; TLS from the first byte by XEP-0368): as much of it as
//! it takes to log in, send texts and receive them.
//!
//! The kept libraries for XMPP in Rust are under a licence that `deny.toml` does not allow; what is needed here is an XML
//! reader and a few stanzas.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{Authority, PASSWORD, Server};
use crate::load::{Ends, Failure, Receiver, Sender};

/// From a request to its answer, and from the first byte of a stanza to its last.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
/// Clients that log in at once.
const LOGINS: usize = 4;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that is logged in.
pub struct Stream {
    /// None only while the stream begins anew.
    reader: Option<Reader<BufReader<Tls>>>,
    domain: String,
    buffer: Vec<u8>,
}

/// An element with what it holds. Names are without their prefixes.
#[derive(Default)]
struct Element {
    name: String,
    kind: Option<String>,
    text: String,
    children: Vec<Element>,
}

/// A sender at one server with a receiver at the other.
pub(super) fn join(authority: &Authority, servers: &[Server; 2], pair: usize) -> Result<Ends, Failure> {
    let tls = authority.tls()?;
    let [a, b] = servers;
    let sender = Stream::enter(&tls, a.at, &format!("sender{pair}"))?;
    let receiver = Stream::enter(&tls, b.at, &format!("receiver{pair}"))?;
    let to = format!("receiver{pair}@{}", b.name());
    Ok(Ends { sender: Box::new(Writing { stream: sender, to }), receiver: Box::new(receiver) })
}

/// Clients that are logged in, available, and silent.
pub(super) fn idle(
    authority: &Authority,
    server: &Server,
    count: usize,
    within: Duration,
) -> Result<Vec<Stream>, Failure> {
    let (tls, end) = (authority.tls()?, Instant::now() + within);
    let enter_some = |some: usize| {
        let mut streams = Vec::new();
        for n in (some..count).step_by(LOGINS).take_while(|_| Instant::now() < end) {
            streams.push(Stream::enter(&tls, server.at, &format!("idle{n}"))?);
        }
        Ok::<_, Failure>(streams)
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..LOGINS).map(|some| scope.spawn(move || enter_some(some))).collect();
        let mut streams = Vec::new();
        for some in all {
            streams.extend(some.join().map_err(|_| "a thread that logs clients in has panicked")??);
        }
        Ok(streams)
    })
}

impl Stream {
    /// Makes an account, logs in, and becomes available.
    fn enter(tls: &Arc<ClientConfig>, at: SocketAddrV4, user: &str) -> Result<Self, Failure> {
        let socket = TcpStream::connect(at)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        let name = ServerName::IpAddress(std::net::IpAddr::V4(*at.ip()).into());
        let tls = StreamOwned::new(ClientConnection::new(tls.clone(), name)?, socket);
        let reader = Some(Reader::from_reader(BufReader::new(tls)));
        let mut stream = Self { reader, domain: at.ip().to_string(), buffer: Vec::new() };
        stream.begin()?;
        let account = format!("<username>{user}</username><password>{PASSWORD}</password>");
        stream.ask("register", &format!("<query xmlns='jabber:iq:register'>{account}</query>"))?;
        let plain = Base64::encode_string(format!("\0{user}\0{PASSWORD}").as_bytes());
        stream.write(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        ))?;
        let answer = stream.element()?;
        if answer.name != "success" {
            return Err(format!("{user} was not let in: {}", answer.name).into());
        }
        stream.begin()?;
        stream.ask("bind", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>x</resource></bind>")?;
        stream.write("<presence/>")?;
        Ok(stream)
    }

    /// Begins the stream, for the first time or after a login, and takes what the server offers.
    fn begin(&mut self) -> Result<(), Failure> {
        let before = self.reader.take().ok_or("a stream that failed before")?;
        self.reader = Some(Reader::from_reader(before.into_inner()));
        let header = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'";
        self.write(&format!("<?xml version='1.0'?><stream:stream to='{}' {header}>", self.domain))?;
        loop {
            match self.event()? {
                Event::Start(_) => break,
                Event::Eof => return Err("the server ended the stream".into()),
                _ => {}
            }
        }
        let offered = self.element()?;
        match offered.name.as_str() {
            "features" => Ok(()),
            other => Err(format!("the server began with {other}").into()),
        }
    }

    /// Asks by an iq, and waits for the answer.
    fn ask(&mut self, id: &str, what: &str) -> Result<(), Failure> {
        self.write(&format!("<iq type='set' id='{id}'>{what}</iq>"))?;
        let answer = self.element()?;
        match (answer.name.as_str(), answer.kind.as_deref()) {
            ("iq", Some("result")) => Ok(()),
            (name, kind) => Err(format!("{id}: the server answered {name} {kind:?}").into()),
        }
    }

    fn write(&mut self, stanza: &str) -> Result<(), Failure> {
        let tls = self.tls()?.get_mut();
        tls.write_all(stanza.as_bytes())?;
        Ok(tls.flush()?)
    }

    /// The next element within the stream, whole.
    fn element(&mut self) -> Result<Element, Failure> {
        let mut open: Vec<Element> = Vec::new();
        loop {
            let ended = match self.event()? {
                Event::Start(start) => {
                    open.push(Element::begun(&start)?);
                    continue;
                }
                Event::Text(text) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&text);
                    }
                    continue;
                }
                Event::Empty(start) => Element::begun(&start)?,
                Event::End(_) => open.pop().ok_or("the server ended the stream")?,
                Event::Eof => return Err("the connection ended".into()),
                _ => continue,
            };
            match open.last_mut() {
                Some(parent) => parent.children.push(ended),
                None => return Ok(ended),
            }
        }
    }

    fn event(&mut self) -> Result<Event<'static>, Failure> {
        let reader = self.reader.as_mut().ok_or("a stream that failed before")?;
        self.buffer.clear();
        Ok(reader.read_event_into(&mut self.buffer)?.into_owned())
    }

    /// Whether bytes are there to be read, after this time at most.
    fn has_news(&mut self, patience: Duration) -> Result<bool, Failure> {
        let reader = self.tls()?;
        if !reader.buffer().is_empty() {
            return Ok(true);
        }
        reader.get_ref().sock.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let read = reader.fill_buf().map(|bytes| !bytes.is_empty());
        reader.get_ref().sock.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        match read {
            Ok(true) => Ok(true),
            Ok(false) => Err("the server ended the connection".into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Fails if the server has ended the connection.
    pub fn check(&mut self) -> Result<(), Failure> {
        while self.has_news(Duration::from_millis(1))? {
            self.element()?;
        }
        Ok(())
    }

    fn tls(&mut self) -> Result<&mut BufReader<Tls>, Failure> {
        Ok(self.reader.as_mut().ok_or("a stream that failed before")?.get_mut())
    }
}

impl Element {
    fn begun(start: &BytesStart<'_>) -> Result<Self, Failure> {
        let name = start.local_name().as_ref().to_owned();
        let kind = start.try_get_attribute("type")?;
        let kind = kind.map(|kind| kind.value.into_owned());
        Ok(Self { name, kind, ..Self::default() })
    }
}

/// A client that sends chat messages to one address.
struct Writing {
    stream: Stream,
    to: String,
}

impl Sender for Writing {
    fn send(&mut self, text: &str) -> Result<(), Failure> {
        let to = &self.to;
        self.stream.write(&format!("<message to='{to}' type='chat'><body>{text}</body></message>"))
    }
}

impl Receiver for Stream {
    fn receive(&mut self, patience: Duration) -> Result<Vec<String>, Failure> {
        let mut texts = Vec::new();
        let mut patience = patience;
        while self.has_news(patience)? {
            let stanza = self.element()?;
            if stanza.name == "message" {
                if stanza.kind.as_deref() == Some("error") {
                    return Err("a message came back".into());
                }
                texts.extend(stanza.children.into_iter().find(|c| c.name == "body").map(|body| body.text));
                // What is there already goes with it; nothing is waited for.
                if self.tls()?.buffer().is_empty() {
                    return Ok(texts);
                }
            }
            patience = Duration::ZERO;
        }
        Ok(texts)
    }
}
