//! Live push: server-sent events (WHATWG HTML, section 9.2), one `inbox` event whenever the device's inbox
//! grows.
//!
//! An event says only that there is something; the client fetches it from the inbox, which is what counts. So
//! an event may be lost or come twice without harm. The stream ends when the node stops, and its connection
//! when the device is no longer admitted.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use tokio::sync::watch;

use super::session::Device;
use super::{Gateway, limits, stopped};

/// `GET /v1/events`.
pub(super) async fn events(
    State(gateway): State<Arc<Gateway>>,
    device: Device,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let news = gateway.backend.inbox_events(device.fingerprint);
    let stream = futures::stream::unfold(Position { news, stop: gateway.stop.clone(), first: true }, next);
    Sse::new(stream).keep_alive(KeepAlive::new().interval(limits::HEARTBEAT))
}

struct Position {
    news: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    first: bool,
}

/// The position as it is, and then each change. Changes that come faster than the client reads are one.
async fn next(mut position: Position) -> Option<(Result<Event, Infallible>, Position)> {
    if !position.first {
        tokio::select! {
            changed = position.news.changed() => changed.ok()?,
            () = stopped(&mut position.stop) => return None,
        }
    }
    position.first = false;
    let seq = *position.news.borrow_and_update();
    Some((Ok(Event::default().event("inbox").data(seq.to_string())), position))
}
