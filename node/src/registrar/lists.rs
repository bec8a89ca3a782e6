//! The registrar's revocation lists: what goes into the next one, and when one is due.

use std::collections::BTreeMap;

use lanyard_crypto::record::{Body, Crl, Decoded};
use lanyard_crypto::x509::{Certificate, Purpose, Revocation, RevocationList, issue};
use lanyard_crypto::{Fingerprint, NetworkId, Timestamp};

use super::{LIST, Registrar, RegistrarError, State};
use crate::files;
use crate::wipes::{Order, Reason};

/// A list is replaced when this part of its life has passed: one half.
const REFRESH_DIVISOR: u64 = 2;
/// A list with more entries drops those of devices whose certificates have ended (RFC 5280, section 3.3) and that have confirmed their wipe:
/// about 1,200 fit into one.
const ENTRIES_KEPT: usize = 1_000;
/// With more than so many, also those that have not, although the list is what a device believes.
const UNCONFIRMED_KEPT: usize = 1_150;

impl Registrar {
    /// Checks that this registrar has certified them all.
    ///
    /// # Errors
    /// [`RegistrarError::OtherRegistrar`] names the first that it has not.
    pub fn check_own(&self, certificates: &[Certificate]) -> Result<(), RegistrarError> {
        match certificates.iter().find(|c| c.verify_signature(&self.certificate).is_err()) {
            Some(other) => Err(RegistrarError::OtherRegistrar(other.subject().to_string())),
            None => Ok(()),
        }
    }

    /// Revokes certificates of this registrar as of `at`, which wipes those of them that are devices'; the answer is the record of
    /// the new list. `held` is the list that the network has: if this one's files come from a backup, its number and its entries may be
    /// ahead. It is never refused for a clock that is behind: a list is dated no earlier than the one before, nor than what it revokes.
    ///
    /// # Errors
    /// [`RegistrarError::OtherRegistrar`], or that the list cannot be made or kept.
    pub fn revoke(
        &self,
        certificates: &[Certificate],
        (order, at): (&Order, Timestamp),
        held: Option<&RevocationList>,
        network: NetworkId,
        now: Timestamp,
    ) -> Result<Decoded, RegistrarError> {
        self.check_own(certificates)?;
        for device in certificates.iter().filter(|c| c.purpose() == Purpose::Device) {
            self.wipes.order(device, order, now)?;
        }
        let serials = certificates.iter().map(|c| c.serial().to_vec());
        let reason = Some(order.reason.in_list());
        let new = serials.map(|serial| Revocation { serial, at, reason }).collect();
        self.next_list(new, held, network, now)
    }

    /// The record of a list that must be spread now: the next one, if there is none, if half of its life has
    /// passed, or if there is something `pending`, which is revoked as of `at`; or the present one, if the network does not have it.
    ///
    /// # Errors
    /// As [`Registrar::revoke`].
    pub fn refresh(
        &self,
        (pending, at): (&[Certificate], Timestamp),
        held: Option<&RevocationList>,
        network: NetworkId,
        now: Timestamp,
    ) -> Result<Option<Decoded>, RegistrarError> {
        let current = self.state().list.clone();
        let ahead = |list: &RevocationList| held.is_some_and(|held| held.number() > list.number());
        let half = |list: &RevocationList| {
            list.this_update()
                .plus_secs((list.next_update().as_secs() - list.this_update().as_secs()) / REFRESH_DIVISOR)
        };
        match current {
            Some(list) if pending.is_empty() && !ahead(&list) && now < half(&list) => match held {
                Some(held) if held.number() == list.number() => Ok(None),
                _ => Ok(Some(self.list_record(&list, network, now)?)),
            },
            current => {
                let reason =
                    |device: &Certificate| Some(self.wipes.get(&device.fingerprint())?.reason.in_list());
                let new = |c: &Certificate| Revocation { serial: c.serial().to_vec(), at, reason: reason(c) };
                let made = self.next_list(pending.iter().map(new).collect(), held, network, now);
                match made {
                    // What is in the list already goes on, whatever keeps the rest out of it.
                    Err(error) if !pending.is_empty() && current.is_none_or(|list| half(&list) <= now) => {
                        tracing::error!(%error, "devices that are to be wiped do not go into the revocation list");
                        Ok(Some(self.next_list(Vec::new(), held, network, now)?))
                    }
                    made => Ok(Some(made?)),
                }
            }
        }
    }

    /// The devices that were ordered to be wiped and stand in no list yet: an order that broke off, or one that an enrolment has brought.
    pub fn pending(&self, now: Timestamp) -> Vec<Certificate> {
        let ordered = self.wipes.ordered();
        let state = self.state();
        let is_pending = |(device, at): &(Fingerprint, Timestamp)| {
            let certificate = state.devices.get(device)?;
            let listed = state.list.as_ref().is_some_and(|list| {
                // Or it was, and has made room.
                list.is_revoked(certificate.serial())
                    || has_ended(certificate, now) && *at <= list.this_update()
            });
            (!listed).then(|| certificate.clone())
        };
        ordered.iter().filter_map(is_pending).collect()
    }

    pub(super) fn next_list(
        &self,
        new: Vec<Revocation>,
        held: Option<&RevocationList>,
        network: NetworkId,
        now: Timestamp,
    ) -> Result<Decoded, RegistrarError> {
        let mut state = self.state();
        let known: Vec<&RevocationList> = state.list.iter().chain(held).collect();
        let mut entries = BTreeMap::new();
        // The earliest word about a certificate stands: it keeps its time and reason.
        for entry in known.iter().flat_map(|list| list.revocations()).cloned().chain(new) {
            entries.entry(entry.serial.clone()).or_insert(entry);
        }
        let number = known.iter().map(|list| list.number()).max().map_or(1, |number| number + 1);
        self.drop_ended(&mut entries, &state, now)?;
        let entries: Vec<_> = entries.into_values().collect();
        let dates = known.iter().map(|list| list.this_update()).chain(entries.iter().map(|entry| entry.at));
        let this_update = dates.fold(now, Timestamp::max);
        let next_update = this_update.plus_secs(issue::REVOCATION_LIST_SECS);
        let list = self.issuer()?.revocation_list(number, this_update, next_update, &entries)?;
        let record = self.list_record(&list, network, now)?;
        files::replace(&self.directory.join(LIST), list.to_pem().as_bytes(), files::PUBLIC)?;
        state.list = Some(list);
        Ok(record)
    }

    /// Makes room, if there are many entries: those of devices that ended first go first. Each keeps an order, which says that it was revoked.
    fn drop_ended(
        &self,
        entries: &mut BTreeMap<Vec<u8>, Revocation>,
        state: &State,
        now: Timestamp,
    ) -> Result<(), RegistrarError> {
        let surplus = entries.len().saturating_sub(ENTRIES_KEPT);
        if surplus == 0 {
            return Ok(());
        }
        let ended = state.devices.values().filter(|c| has_ended(c, now) && entries.contains_key(c.serial()));
        let is_confirmed =
            |c: &&Certificate| self.wipes.get(&c.fingerprint()).is_some_and(|wipe| wipe.confirmed.is_some());
        let (mut confirmed, mut others): (Vec<&Certificate>, Vec<_>) = ended.partition(is_confirmed);
        for some in [&mut confirmed, &mut others] {
            some.sort_by_key(|c| c.not_after());
        }
        confirmed.truncate(surplus);
        others.truncate((entries.len() - confirmed.len()).saturating_sub(UNCONFIRMED_KEPT));
        if !others.is_empty() {
            let dropped = others.len();
            tracing::warn!(
                dropped,
                "the revocation list is full: devices that never confirmed their wipe are in it no more"
            );
        }
        for certificate in confirmed.into_iter().chain(others) {
            if let Some(entry) = entries.remove(certificate.serial()) {
                self.wipes.order(certificate, &Order::because(Reason::Unspecified), entry.at)?;
            }
        }
        Ok(())
    }

    /// A revocation outlives what it revokes: nothing that this registrar certified is valid longer than
    /// itself.
    fn list_record(
        &self,
        list: &RevocationList,
        network: NetworkId,
        now: Timestamp,
    ) -> Result<Decoded, RegistrarError> {
        let body = Body::Crl(Crl { list: list.der().to_vec(), issuer: self.certificate.der().to_vec() });
        let expires = self.certificate.not_after().max(list.next_update());
        self.sign(network, body, now, expires)
    }
}

/// Whether a certificate ended so long ago that it may have stood in a list since.
pub(super) fn has_ended(certificate: &Certificate, now: Timestamp) -> bool {
    certificate.not_after().plus_secs(issue::REVOCATION_LIST_SECS) < now
}
