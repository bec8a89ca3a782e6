//! A client of Matrix homeservers (Matrix client-server API v1): accounts, rooms, texts, and the long-polled `/sync`.
//!
//! Texts are not encrypted, as no other system's here are but Lanyard's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::http::{self, Http};
use super::{Authority, PASSWORD, Server};
use crate::load::{Ends, Failure, Receiver, Sender};

/// How long a client that waits for news lets the server wait: beyond what the benchmark takes.
const POLL_MS: u64 = 120_000;

/// Until a room that was joined is there.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(20);

/// A client with an account.
struct Client {
    http: Http,
    user: String,
}

/// A sender at one server with a receiver at the other, in a room of their own.
pub(super) fn join(authority: &Authority, servers: &[Server; 2], pair: usize) -> Result<Ends, Failure> {
    let tls = authority.tls()?;
    let [a, b] = servers;
    let mut sender = Client::enter(http::runtime()?, &tls, a, &format!("sender{pair}"))?;
    let mut receiver = Client::enter(http::runtime()?, &tls, b, &format!("receiver{pair}"))?;
    let room = json!({ "preset": "private_chat", "invite": [receiver.user] });
    let room =
        text(&sender.http.call(Method::POST, "/_matrix/client/v3/createRoom", Some(&room))?, "room_id")?;
    let join = format!("/_matrix/client/v3/join/{room}?server_name={}", a.name());
    receiver.http.call(Method::POST, &join, Some(&json!({})))?;
    let since = settled(&mut receiver.http, &room)?;
    let sender = Writing { http: sender.http, room: room.clone(), sent: 0 };
    Ok(Ends { sender: Box::new(sender), receiver: Box::new(Reading { http: receiver.http, room, since }) })
}

/// Waits until a room that was joined over federation is there for its new member, who has then read everything up to this position.
fn settled(http: &mut Http, room: &str) -> Result<String, Failure> {
    let end = Instant::now() + SETTLE_TIME_MAX;
    loop {
        let synced = http.call(Method::GET, "/_matrix/client/v3/sync?timeout=0", None)?;
        if synced["rooms"]["join"][room].is_object() {
            return text(&synced, "next_batch");
        }
        if Instant::now() > end {
            return Err("a room that was joined does not come up".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Clients that wait for news.
pub struct Waiting {
    runtime: Arc<Runtime>,
    polls: Vec<JoinHandle<Result<Value, Failure>>>,
    /// A connection lasts as long as its client.
    _clients: Vec<Client>,
}

/// Clients with accounts, each with a request for news under way.
pub(super) fn idle(
    authority: &Authority,
    server: &Server,
    count: usize,
    within: Duration,
) -> Result<Waiting, Failure> {
    let (tls, runtime, end) = (authority.tls()?, http::runtime()?, Instant::now() + within);
    let (mut polls, mut clients) = (Vec::new(), Vec::new());
    for n in (0..count).take_while(|_| Instant::now() < end) {
        let mut client = Client::enter(runtime.clone(), &tls, server, &format!("idle{n}"))?;
        let synced = client.http.call(Method::GET, "/_matrix/client/v3/sync?timeout=0", None)?;
        let since = text(&synced, "next_batch")?;
        let path = format!("/_matrix/client/v3/sync?timeout={POLL_MS}&since={since}");
        polls.push(runtime.spawn(client.http.ask(Method::GET, &path, None)?));
        clients.push(client);
    }
    Ok(Waiting { runtime, polls, _clients: clients })
}

impl Waiting {
    pub(super) fn count(&self) -> usize {
        self.polls.len()
    }

    pub(super) fn rest(&mut self, time: Duration) -> Result<(), Failure> {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
        match self.polls.iter().filter(|poll| poll.is_finished()).count() {
            0 => Ok(()),
            some => Err(format!("{some} clients do not wait any more").into()),
        }
    }
}

impl Client {
    /// Makes an account and logs in.
    fn enter(
        runtime: Arc<Runtime>,
        tls: &Arc<ClientConfig>,
        server: &Server,
        user: &str,
    ) -> Result<Self, Failure> {
        let mut http = Http::connect(runtime, tls, server.at)?;
        let account = json!({ "username": user, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
        let made = http.call(Method::POST, "/_matrix/client/v3/register", Some(&account))?;
        http.authorize(text(&made, "access_token")?);
        Ok(Self { http, user: text(&made, "user_id")? })
    }
}

/// A client that sends to one room, each text once the one before was taken: a room's texts stay in order.
struct Writing {
    http: Http,
    room: String,
    sent: u64,
}

impl Sender for Writing {
    fn send(&mut self, text: &str) -> Result<(), Failure> {
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/n{}", self.room, self.sent);
        self.sent += 1;
        self.http.call(Method::PUT, &path, Some(&json!({ "msgtype": "m.text", "body": text })))?;
        Ok(())
    }
}

/// A client that waits for what comes to one room.
struct Reading {
    http: Http,
    room: String,
    since: String,
}

impl Receiver for Reading {
    fn receive(&mut self, patience: Duration) -> Result<Vec<String>, Failure> {
        let path = format!(
            "/_matrix/client/v3/sync?timeout={}&since={}&filter={FILTER}",
            patience.as_millis(),
            self.since
        );
        let synced = self.http.call(Method::GET, &path, None)?;
        self.since = text(&synced, "next_batch")?;
        let timeline = &synced["rooms"]["join"][&self.room]["timeline"];
        let events = timeline["events"].as_array().into_iter().flatten();
        let messages = events.filter(|event| event["type"] == "m.room.message");
        Ok(messages.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect())
    }
}

/// `{"room":{"timeline":{"limit":1000}}}`: a timeline has ten events otherwise, and leaves out the rest.
const FILTER: &str = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";

fn text(value: &Value, field: &str) -> Result<String, Failure> {
    value[field].as_str().map(str::to_owned).ok_or_else(|| format!("no {field} in {value}").into())
}
