//! Where addresses are: databases in MaxMind's format (MaxMind DB 2.0), of MaxMind and of others who write it.

use std::net::IpAddr;

use maxminddb::{PathElement, Reader};

use crate::Fault;

/// A database, in memory whole.
pub struct Places(Reader<Vec<u8>>);

impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Places({})", self.0.metadata().database_type)
    }
}

/// What is known of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// ISO 3166-1, two letters.
    pub country: Option<String>,
    pub continent: Option<String>,
    /// ISO 3166-2, without the country.
    pub region: Option<String>,
    /// In English.
    pub city: Option<String>,
    /// The number of the autonomous system.
    pub asn: Option<u32>,
}

impl Places {
    /// # Errors
    /// What is no such database.
    pub fn read(bytes: Vec<u8>) -> Result<Places, Fault> {
        let reader = Reader::from_source(bytes)
            .map_err(|error| Fault::at(0, format!("it is no database of addresses: {error}")))?;
        Ok(Places(reader))
    }

    /// What it is a database of, and when it was made, in seconds since 1970.
    pub fn what(&self) -> (&str, u64) {
        (&self.0.metadata().database_type, self.0.metadata().build_epoch)
    }

    /// All that it knows. What is not there, and what cannot be read, is not known.
    pub fn find(&self, address: IpAddr) -> Place {
        let Ok(found) = self.0.lookup(address.to_canonical()) else { return Place::default() };
        let text = |path: &[&str]| {
            let path: Vec<PathElement<'_>> = path.iter().map(|name| PathElement::Key(name)).collect();
            found.decode_path::<String>(&path).ok().flatten()
        };
        let of_first = |list: &'static str, name: &'static str| {
            let path = [PathElement::Key(list), PathElement::Index(0), PathElement::Key(name)];
            found.decode_path::<String>(&path).ok().flatten()
        };
        // Writers take the smallest type that has room for it.
        let number = |name: &'static str| {
            let path = [PathElement::Key(name)];
            let of_32 = || found.decode_path::<u32>(&path).ok().flatten();
            let of_16 = || found.decode_path::<u16>(&path).ok().flatten().map(u32::from);
            let of_64 = || found.decode_path::<u64>(&path).ok().flatten().and_then(|one| one.try_into().ok());
            let signed =
                || found.decode_path::<i32>(&path).ok().flatten().and_then(|one| one.try_into().ok());
            of_32().or_else(of_16).or_else(of_64).or_else(signed)
        };
        Place {
            country: text(&["country", "iso_code"]).or_else(|| text(&["registered_country", "iso_code"])),
            continent: text(&["continent", "code"]),
            region: of_first("subdivisions", "iso_code"),
            city: text(&["city", "names", "en"]),
            asn: number("autonomous_system_number"),
        }
    }
}
