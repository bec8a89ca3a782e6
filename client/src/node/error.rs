//! What can go wrong between the client and its node.

use std::error::Error;
use std::io;

use lanyard_crypto::gateway::Refusal;

use super::tls::ServerError;

/// Refusals that time, a renewed certificate or the next charter may end.
const PASSING: [&str; 9] = [
    "bad-chain",
    "charter-expired",
    "charter-gap",
    "device-refused",
    "future",
    "unknown-signer",
    "unknown-trust",
    "unknown-version",
    "wrong-country",
];

/// Why the node did not answer, or not as asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Not an address.
    #[error(
        "{0:?} is not the address of a node: host:port is needed; ask who invited you for a new invitation"
    )]
    Address(String),
    /// The device's own key or chain is of no use for TLS.
    #[error("this device's key or certificate cannot be used: {0}; enrol again in another --profile DIR")]
    OwnIdentity(rustls::Error),
    /// No runtime for connections: the operating system's fault.
    #[error("no connections can be made on this machine: {0}")]
    Machine(#[source] io::Error),
    /// Nothing answers there.
    #[error(
        "the node at {address} cannot be reached: {error}; check this device's connection, \
         or ask your trust's IT"
    )]
    Unreachable {
        /// Its address.
        address: String,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// Something answers that is not this trust's node.
    #[error(
        "what answers at {address} does not prove to be your trust's node: {reason}; nothing was sent to it"
    )]
    NotTheNode {
        /// Its address.
        address: String,
        /// Why it is not believed.
        reason: String,
    },
    /// The node does not believe the device.
    #[error(
        "the node at {address} does not accept this device's certificate ({reason}): it may \
         have expired or been revoked; ask your trust for a new invitation"
    )]
    NotAccepted {
        /// Its address.
        address: String,
        /// The TLS alert.
        reason: String,
    },
    /// The connection broke, so nobody knows whether the node did what was asked.
    #[error("the connection to the node at {address} broke: {reason}; try again, or run: lanyard sync")]
    Broken {
        /// Its address.
        address: String,
        /// What broke it.
        reason: String,
    },
    /// No answer in time.
    #[error("the node at {address} did not answer within {secs} s; try again, or ask your trust's IT")]
    TimedOut {
        /// Its address.
        address: String,
        /// How long it was waited for, in seconds.
        secs: u64,
    },
    /// The node's own words.
    #[error("the node says: {}", .refusal.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        refusal: Refusal,
    },
    /// An answer that the protocol does not know.
    #[error("the node at {address} answered {what}; the node or this program may need an upgrade")]
    Protocol {
        /// Its address.
        address: String,
        /// What was wrong with it, without its content.
        what: String,
    },
}

impl NodeError {
    /// The stable word of a refusal, such as `expired`.
    pub fn code(&self) -> Option<&str> {
        match self {
            NodeError::Refused { refusal, .. } => Some(&refusal.code),
            _ => None,
        }
    }

    /// Whether the node will never take the same request: it is malformed, too late, too large, not allowed,
    /// or contradicts what the node knows. Not when the node is busy, or does not accept this device at the
    /// moment.
    pub fn is_final(&self) -> bool {
        match self {
            NodeError::Refused { status: 401 | 408 | 429, .. } => false,
            NodeError::Refused { status: 400..=499, refusal } => !PASSING.contains(&refusal.code.as_str()),
            _ => false,
        }
    }

    /// Whether this is what a device gets to see that was revoked: to be looked into. A connection that the node closes breaks.
    pub fn may_be_revocation(&self) -> bool {
        matches!(self, Self::NotAccepted { .. } | Self::Broken { .. })
            || self.code() == Some("device-refused")
    }

    /// Whether the node could not be asked at all, as opposed to having answered.
    pub fn is_offline(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Broken { .. })
    }

    /// Whether the same request may well be taken in a while, without anybody's doing: the node cannot be reached, or is busy, stopping,
    /// or without room on its disk.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { status: 408 | 429 | 500.., .. }) || self.is_offline()
    }

    pub(super) fn connecting(address: &str, error: io::Error) -> Self {
        let address = address.to_owned();
        match tls_error(&error) {
            None => NodeError::Unreachable { address, error },
            Some(rustls::Error::Other(other)) => match other.0.downcast_ref::<ServerError>() {
                Some(reason) => NodeError::NotTheNode { address, reason: reason.to_string() },
                None => NodeError::NotTheNode { address, reason: other.to_string() },
            },
            Some(rustls::Error::AlertReceived(alert)) => {
                NodeError::NotAccepted { address, reason: format!("{alert:?}") }
            }
            Some(other) => NodeError::NotTheNode { address, reason: other.to_string() },
        }
    }

    pub(super) fn talking(address: &str, error: hyper::Error) -> Self {
        let address = address.to_owned();
        // In TLS 1.3 a client learns only after the handshake that its certificate was refused.
        match tls_error(&error) {
            Some(rustls::Error::AlertReceived(alert)) => {
                NodeError::NotAccepted { address, reason: format!("{alert:?}") }
            }
            _ => NodeError::Broken { address, reason: error.to_string() },
        }
    }
}

/// The TLS error among an error's causes.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An io::Error does not name what it wraps as its source, but that one's source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_somebody_must_see_to() {
        let refused = |status, code: &str| {
            let refusal = Refusal { code: code.into(), message: String::new() };
            NodeError::Refused { status, refusal }
        };
        for error in [refused(500, "disk"), refused(503, "stopping"), refused(429, "busy")] {
            assert!(error.is_passing() && !error.is_final(), "{error:?}");
        }
        for error in [refused(401, "unknown-device"), refused(422, "future"), refused(403, "device-refused")]
        {
            assert!(!error.is_passing() && !error.is_final(), "{error:?}");
        }
        assert!(refused(422, "retention").is_final());
    }
}
