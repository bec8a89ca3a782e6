//! Signing in with the trust's identity provider, as a native program does (RFC 8252): the holder's own browser goes there, and its
//! redirect comes back to a port of this device that is open while it is waited for.
//!
//! What the redirect brings is of use to the node alone, which has the rest. A redirect with another state than this sign-in's is
//! somebody else's: it is told so, and waiting goes on, so that nobody on this device can end it. What the browser is shown is fixed
//! text. Everything is bounded: the time, what is read, and how many connect at once.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lanyard_crypto::gateway::{
    Invitation, SIGN_IN_CODE_BYTES_MAX, SIGN_IN_PATH, SIGN_IN_SECS_MAX, SignInRequest, SignedIn,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::node::{NodeClient, NodeError};

/// The head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Browsers connect ahead of need.
const CONNECTIONS_MAX: usize = 16;
/// From a connection to its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// The address of a sign-in, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;
/// What is shown of a provider's error, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Why nobody has signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The port.
    #[error(
        "this device cannot wait for your browser on port {port}: {reason}; choose another --sign-in-port, or none"
    )]
    Port {
        /// Which; 0 for any.
        port: u16,
        /// The system's words.
        reason: io::Error,
    },
    /// The node could not be asked, or refused.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// What the node calls an address is none for a browser.
    #[error("the node names no https address to sign in at; tell your trust's IT")]
    Address,
    /// The provider does not sign the holder in.
    #[error(
        "your trust's identity provider has not signed you in ({0}); enrol again, or ask who invited you"
    )]
    Refused(String),
    /// Nobody came.
    #[error("nobody signed in within {} minutes; enrol again with the same invitation", SIGN_IN_SECS_MAX / 60)]
    Late,
}

/// How a sign-in goes on this device.
pub struct SignIn<'a> {
    /// The port to which the browser comes back; 0 for any.
    pub port: u16,
    /// Shows the holder the address to open.
    pub show: &'a dyn Fn(&str),
}

impl SignIn<'_> {
    /// Has the holder sign in for this invitation, and returns what the node needs for it.
    ///
    /// # Errors
    /// [`SignInError`]; the invitation still works.
    pub fn run(&self, node: &mut NodeClient, invitation: &Invitation) -> Result<SignedIn, SignInError> {
        let failed = |reason| SignInError::Port { port: self.port, reason };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let begun = node.begin_sign_in(&SignInRequest {
            invitation: invitation.id.clone(),
            code: invitation.code.clone(),
            port,
        })?;
        let plain = begun.url.starts_with("https://") && begun.url.chars().all(|c| c.is_ascii_graphic());
        if !plain || begun.url.len() > URL_BYTES_MAX {
            return Err(SignInError::Address);
        }
        (self.show)(&begun.url);
        let time_max = Duration::from_secs(SIGN_IN_SECS_MAX);
        let redirected = async { timeout(time_max, redirect(listener, begun.state)).await };
        runtime.block_on(redirected).map_err(|_| SignInError::Late)?
    }
}

/// What a redirect says (RFC 6749, sections 4.1.2 and 4.1.2.1).
#[derive(Debug, PartialEq, Eq)]
enum Redirect {
    SignedIn(SignedIn),
    Refused(String),
}

/// Waits for the redirect of the sign-in with this state.
async fn redirect(listener: TcpListener, state: String) -> Result<SignedIn, SignInError> {
    let (sender, mut receiver) = mpsc::channel(1);
    let state: Arc<str> = state.into();
    let mut open = JoinSet::new();
    let came = loop {
        tokio::select! {
            Some(came) = receiver.recv() => break came,
            Some(_) = open.join_next() => {}
            accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => {
                // A connection that is gone again is not waited for.
                let Ok((stream, _)) = accepted else { continue };
                let (state, sender) = (state.clone(), sender.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(&request, &state, &sender);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = http1::Builder::new()
                    .keep_alive(false)
                    .timer(TokioTimer::new())
                    .header_read_timeout(ANSWER_TIME_MAX)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                open.spawn(timeout(ANSWER_TIME_MAX, connection));
            }
        }
    };
    // Who came is shown that it went well; others that are still connected are not waited for long.
    drop(listener);
    let _ = timeout(Duration::from_secs(1), async { while open.join_next().await.is_some() {} }).await;
    match came {
        Redirect::SignedIn(signed_in) => Ok(signed_in),
        Redirect::Refused(error) => Err(SignInError::Refused(error)),
    }
}

fn answer(
    request: &Request<Incoming>,
    state: &str,
    sender: &mpsc::Sender<Redirect>,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET || request.uri().path() != SIGN_IN_PATH {
        return page(StatusCode::NOT_FOUND, "There is nothing here.");
    }
    match read(request.uri().query().unwrap_or_default(), state) {
        None => page(StatusCode::BAD_REQUEST, "This is not the sign-in that lanyard waits for."),
        Some(redirect) => {
            let text = match &redirect {
                Redirect::SignedIn(_) => "Go back to lanyard: it goes on there. You can close this page.",
                Redirect::Refused(_) => "You are not signed in. Go back to lanyard, which says why.",
            };
            // The first counts.
            let _ = sender.try_send(redirect);
            page(StatusCode::OK, text)
        }
    }
}

/// Reads a redirect's query, if it is of the sign-in with this state. No parameter may come twice (RFC 6749, section 3.1).
fn read(query: &str, state: &str) -> Option<Redirect> {
    let all: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(query.as_bytes()).collect();
    let one = |name: &str| {
        let mut values = all.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_ref());
        let value = values.next();
        if values.next().is_some() { Err(()) } else { Ok(value.map(str::to_owned)) }
    };
    let (found, code, error, issuer) =
        (one("state").ok()??, one("code").ok()?, one("error").ok()?, one("iss").ok()?);
    if found != state {
        return None;
    }
    match (code, error) {
        (Some(code), None) if code.len() <= SIGN_IN_CODE_BYTES_MAX => {
            Some(Redirect::SignedIn(SignedIn { state: found, code, issuer }))
        }
        (None, Some(error)) => {
            let plain = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
            Some(Redirect::Refused(error.chars().map(plain).take(SHOWN_CHARS_MAX).collect()))
        }
        _ => None,
    }
}

fn page(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Lanyard</title><p>{text}</p></html>\n"
    );
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn signed_in(state: &str, code: &str, issuer: Option<&str>) -> Redirect {
        let issuer = issuer.map(str::to_owned);
        Redirect::SignedIn(SignedIn { state: state.into(), code: code.into(), issuer })
    }

    #[test]
    fn a_redirect_is_of_this_sign_in_and_says_one_thing() {
        assert_eq!(read("code=a%2Fb&state=s", "s").unwrap(), signed_in("s", "a/b", None));
        let issuer = Some("https://i.example");
        assert_eq!(
            read("iss=https%3A%2F%2Fi.example&state=s&code=c", "s").unwrap(),
            signed_in("s", "c", issuer)
        );
        let refused = read("error=access_denied%0A&error_description=no&state=s", "s").unwrap();
        assert_eq!(refused, Redirect::Refused("access_denied ".into()));
        for other in [
            "",
            "code=c",
            "code=c&state=t",
            "state=s",
            "code=c&error=e&state=s",
            "code=c&code=c&state=s",
            "code=c&state=s&state=s",
            "error=e&state=t",
            "code=c&state=s&iss=a&iss=b",
        ] {
            assert_eq!(read(other, "s"), None, "{other}");
        }
        assert_eq!(read(&format!("state=s&code={}", "c".repeat(SIGN_IN_CODE_BYTES_MAX + 1)), "s"), None);
    }

    /// What a browser is shown.
    fn get(address: SocketAddr, target: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut shown = String::new();
        stream.read_to_string(&mut shown).unwrap();
        shown
    }

    #[test]
    fn others_are_told_so_and_the_right_redirect_still_counts() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let browser = std::thread::spawn(move || {
            let idle = TcpStream::connect(address).unwrap();
            assert!(get(address, "/favicon.ico").starts_with("HTTP/1.1 404"));
            assert!(get(address, "/signed-in?state=other&code=c").starts_with("HTTP/1.1 400"));
            assert!(get(address, "/signed-in?state=other&error=e").starts_with("HTTP/1.1 400"));
            let shown = get(address, "/signed-in?state=right&code=secret");
            assert!(shown.starts_with("HTTP/1.1 200") && !shown.contains("secret"), "{shown}");
            drop(idle);
        });
        let came = runtime.block_on(redirect(listener, "right".into())).unwrap();
        assert_eq!(Redirect::SignedIn(came), signed_in("right", "secret", None));
        browser.join().unwrap();
    }
}
