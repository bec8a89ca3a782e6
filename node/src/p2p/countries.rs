//! In which country an address lies: networks that the operator assigned, then a country database in
//! MaxMind's MMDB format. What neither knows is unknown, and unknown means no (P3).
//!
//! The database is not asked about addresses that are not global (loopback, private, link-local, shared and
//! so on): they have a country only if the operator assigned them one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lanyard_crypto::residency::Country;
use maxminddb::{MaxMindDbError, Reader, path};

/// Why there is no table of countries.
#[derive(Debug, thiserror::Error)]
pub enum CountriesError {
    /// Not `address/prefix`.
    #[error("{0:?} is not a network: an address and a prefix length are needed, such as 192.0.2.0/24")]
    Network(String),
    /// The address has bits beyond the prefix, so that one of the two is wrong.
    #[error("{0:?} has address bits beyond its prefix length")]
    HostBits(String),
    /// Two countries for one network.
    #[error("network {0} is assigned to two countries")]
    Twice(Network),
    /// The database cannot be read.
    #[error("the country database {} cannot be read: {reason}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The reader's words.
        reason: MaxMindDbError,
    },
}

/// Assigned networks and, if there is one, a database.
#[derive(Default)]
pub struct Countries {
    /// Longest prefix first.
    assigned: Vec<(Network, Country)>,
    database: Option<Reader<Vec<u8>>>,
}

impl Countries {
    /// The table of these networks alone.
    ///
    /// # Errors
    /// A network that is assigned twice.
    pub fn new(assigned: impl IntoIterator<Item = (Network, Country)>) -> Result<Self, CountriesError> {
        let mut assigned: Vec<_> = assigned.into_iter().collect();
        assigned.sort_by_key(|(network, _)| (std::cmp::Reverse(network.prefix), network.base));
        match assigned.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(CountriesError::Twice(pair[0].0)),
            None => Ok(Self { assigned, database: None }),
        }
    }

    /// Also asks the MMDB file at `path`, which is read into memory whole.
    ///
    /// # Errors
    /// The file cannot be read, or is not an MMDB file.
    pub fn with_database(self, path: &Path) -> Result<Self, CountriesError> {
        let reader = Reader::open_readfile(path);
        let reader = reader.map_err(|reason| CountriesError::Database { path: path.into(), reason })?;
        Ok(Self { database: Some(reader), ..self })
    }

    /// The country of an address, if it is known. The longest assigned prefix wins over shorter ones, and any
    /// of them over the database. An IPv4-mapped IPv6 address counts as its IPv4 address.
    pub fn country_of(&self, address: IpAddr) -> Option<Country> {
        let address = address.to_canonical();
        let assigned = self.assigned.iter().find(|(network, _)| network.contains(address));
        match assigned {
            Some((_, country)) => Some(*country),
            None if is_global(address) => self.look_up(address),
            None => None,
        }
    }

    /// Databases name the country in one of two places: MaxMind's, and that of `@ip-location-db`.
    fn look_up(&self, address: IpAddr) -> Option<Country> {
        let found = self.database.as_ref()?.lookup(address).ok()?;
        let code: Option<&str> = match found.decode_path(&path!["country", "iso_code"]) {
            Ok(Some(code)) => Some(code),
            _ => found.decode_path(&path!["country_code"]).ok().flatten(),
        };
        code?.parse().ok()
    }
}

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.database.as_ref().map(|database| &database.metadata().database_type);
        f.debug_struct("Countries").field("assigned", &self.assigned).field("database", &database).finish()
    }
}

/// An IP network, written `192.0.2.0/24` or `2001:db8::/32`. A single address may leave out the prefix
/// length.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address, in its canonical form, is part of the network.
    fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.prefix) == Some(self.base) && address.is_ipv4() == self.base.is_ipv4()
    }
}

impl FromStr for Network {
    type Err = CountriesError;

    fn from_str(text: &str) -> Result<Self, CountriesError> {
        let wrong = || CountriesError::Network(text.chars().take(64).collect());
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        if base != base.to_canonical() {
            return Err(wrong());
        }
        let prefix = prefix.unwrap_or(if base.is_ipv4() { 32 } else { 128 });
        match masked(base, prefix) {
            Some(kept) if kept == base => Ok(Self { base, prefix }),
            Some(_) => Err(CountriesError::HostBits(text.into())),
            None => Err(wrong()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The address without its bits beyond the prefix; `None` if it has fewer bits than the prefix.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(ip) if prefix <= 32 => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            Some(Ipv4Addr::from_bits(ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) if prefix <= 128 => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            Some(Ipv6Addr::from_bits(ip.to_bits() & mask).into())
        }
        _ => None,
    }
}

/// Whether an address, in its canonical form, can be one on the public Internet. Special-purpose ranges by
/// the IANA registries (RFC 6890), as far as a database could be wrong about them.
fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let special = a == 0 || ip.is_private() || ip.is_loopback() || ip.is_link_local();
            let shared = a == 100 && (64..128).contains(&b);
            let reserved = ip.is_multicast() || ip.is_documentation() || a >= 240;
            !(special || shared || reserved)
        }
        // Global unicast is 2000::/3. Addresses in it that tunnel IPv4 (Teredo, 6to4) say nothing of a place.
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            let tunnel = first == 0x2002 || (first == 0x2001 && second == 0);
            let documentation = first == 0x2001 && second == 0xdb8;
            first & 0xe000 == 0x2000 && !tunnel && !documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn countries(assigned: &[(&str, &str)]) -> Countries {
        Countries::new(assigned.iter().map(|(n, c)| (n.parse().unwrap(), c.parse().unwrap()))).unwrap()
    }

    fn place(countries: &Countries, address: &str) -> Option<String> {
        countries.country_of(address.parse().unwrap()).map(|country| country.to_string())
    }

    #[test]
    fn the_longest_prefix_wins_and_unknown_stays_unknown() {
        let table = countries(&[("127.0.0.0/8", "GB"), ("127.0.66.0/24", "US"), ("2a00::/16", "IE")]);
        assert_eq!(place(&table, "127.0.0.1").as_deref(), Some("GB"));
        assert_eq!(place(&table, "127.0.66.9").as_deref(), Some("US"));
        assert_eq!(place(&table, "2a00:1::1").as_deref(), Some("IE"));
        assert_eq!(place(&table, "192.168.1.1"), None);
        assert_eq!(place(&table, "::1"), None);
        assert_eq!(place(&Countries::default(), "127.0.0.1"), None);
    }

    #[test]
    fn a_database_answers_for_global_addresses_that_no_network_names() {
        use maxminddb_writer::Database;
        use maxminddb_writer::paths::IpAddrWithMask;

        #[derive(serde::Serialize)]
        struct MaxMind<'a> {
            country: Iso<'a>,
        }
        #[derive(serde::Serialize)]
        struct Iso<'a> {
            iso_code: &'a str,
        }
        #[derive(serde::Serialize)]
        struct Flat<'a> {
            country_code: &'a str,
        }

        let mut database = Database::default();
        database.metadata.binary_format_major_version = 2;
        database.metadata.database_type = "Test-Country".into();
        let values = [
            ("81.2.69.0/24", database.insert_value(MaxMind { country: Iso { iso_code: "GB" } }).unwrap()),
            ("2.125.160.0/24", database.insert_value(Flat { country_code: "IE" }).unwrap()),
            ("8.8.8.0/24", database.insert_value(Flat { country_code: "US" }).unwrap()),
            ("9.9.9.0/24", database.insert_value(Flat { country_code: "unknown" }).unwrap()),
            ("127.0.0.0/8", database.insert_value(Flat { country_code: "GB" }).unwrap()),
        ];
        for (network, value) in values {
            database.insert_node(network.parse::<IpAddrWithMask>().unwrap(), value);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("countries.mmdb");
        database.write_to(std::fs::File::create(&path).unwrap()).unwrap();

        let table = countries(&[("81.2.69.142/32", "FR")]).with_database(&path).unwrap();
        assert_eq!(place(&table, "81.2.69.141").as_deref(), Some("GB"));
        assert_eq!(place(&table, "::ffff:2.125.160.9").as_deref(), Some("IE"));
        assert_eq!(place(&table, "8.8.8.8").as_deref(), Some("US"));
        assert_eq!(place(&table, "81.2.69.142").as_deref(), Some("FR"), "the operator's word goes first");
        for unknown in ["9.9.9.9", "81.2.70.1", "127.0.0.1", "2001:4860:4860::8888"] {
            assert_eq!(place(&table, unknown), None, "{unknown}");
        }

        std::fs::write(&path, "no database").unwrap();
        let said = Countries::default().with_database(&path).unwrap_err().to_string();
        assert!(said.contains("countries.mmdb"), "{said}");
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        let table = countries(&[("127.0.66.0/24", "US"), ("::/0", "GB")]);
        assert_eq!(place(&table, "::ffff:127.0.66.1").as_deref(), Some("US"));
        assert_eq!(place(&table, "::ffff:10.0.0.1"), None);
    }

    #[test]
    fn networks_are_read_strictly() {
        for wrong in ["", "127.0.0.0/33", "::/129", "127.0.0.1/8", "::ffff:1.2.3.0/120", "10.0.0.0/x", "10/8"]
        {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!("0.0.0.0/0".parse::<Network>().unwrap().to_string(), "0.0.0.0/0");
        assert_eq!("10.1.2.3".parse::<Network>().unwrap().to_string(), "10.1.2.3/32");
        let twice = [("10.0.0.0/8", "GB"), ("10.0.0.0/8", "IE")];
        let twice = twice.map(|(n, c)| (n.parse().unwrap(), c.parse().unwrap()));
        assert!(matches!(Countries::new(twice), Err(CountriesError::Twice(_))));
    }

    #[test]
    fn special_ranges_are_not_looked_up() {
        for special in ["127.0.0.1", "10.0.0.1", "100.64.0.1", "169.254.0.1", "0.0.0.0", "255.255.255.255"] {
            assert!(!is_global(special.parse().unwrap()), "{special}");
        }
        for special in ["::1", "fe80::1", "fc00::1", "2002::1", "2001::1", "2001:db8::1", "64:ff9b::1"] {
            assert!(!is_global(special.parse().unwrap()), "{special}");
        }
        assert!(is_global("8.8.8.8".parse().unwrap()) && is_global("2a00:1450::1".parse().unwrap()));
    }
}
