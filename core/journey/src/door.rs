//! Who may not even ask, and from where does he ask who may?
//!
//! Comes in: a request whose client is known, before sessions, rules and checks look at it. Goes out: a refusal, or
//! headers of where its client is, which rules may ask for. What a client says itself in these headers is taken away.
//! Who has the databases of addresses is asked by [`View::place`].

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use naru_base::Reason;
use naru_identity::Networks;
use naru_spec::{Door, GeoFact};

use crate::View;
use crate::gate::{CheckCount, Distinct};

/// An index into [`crate::Snapshot::geo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GeoId(pub u32);

impl GeoId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GeoPlace {
    pub country: Option<String>,
    pub continent: Option<String>,
    pub region: Option<String>,
    pub city: Option<String>,
    pub asn: Option<u32>,
}

impl GeoPlace {
    /// As it stands in a header: letters beyond ASCII in UTF-8 are percent-encoded.
    fn value(&self, fact: GeoFact) -> Option<HeaderValue> {
        let text = match fact {
            GeoFact::Country => self.country.as_ref(),
            GeoFact::Continent => self.continent.as_ref(),
            GeoFact::Region => self.region.as_ref(),
            GeoFact::City => self.city.as_ref(),
            GeoFact::Asn => return self.asn.map(HeaderValue::from),
        };
        let text = text.filter(|text| !text.is_empty())?;
        HeaderValue::from_maybe_shared(crate::reply::percent_encoded(text.as_bytes())).ok()
    }
}

#[derive(Debug)]
struct CompiledGeo {
    id: GeoId,
    headers: Box<[(GeoFact, HeaderName)]>,
}

#[derive(Debug)]
pub struct CompiledDoor {
    networks: Option<Networks>,
    geo: Option<CompiledGeo>,
}

impl CompiledDoor {
    /// `known` are the databases of the snapshot.
    pub(crate) fn compile(said: &Door, known: &mut Distinct<String>) -> CompiledDoor {
        let geo = said.geo.as_ref().map(|geo| CompiledGeo {
            id: GeoId(known.id(&geo.database)),
            headers: geo.headers.clone().into_boxed_slice(),
        });
        let networks = (!said.addresses.is_empty()).then(|| Networks::compile(&said.addresses));
        CompiledDoor { networks, geo }
    }

    /// Why it stays outside, if it does.
    #[cold]
    pub fn meet(&self, client: IpAddr, headers: &mut HeaderMap, view: &impl View) -> Option<Reason> {
        if let Some(networks) = &self.networks {
            let is_admitted = networks.admit(client);
            view.count_check(if is_admitted {
                CheckCount::AddressAllowed
            } else {
                CheckCount::AddressDenied
            });
            if !is_admitted {
                return Some(Reason::AddressDenied);
            }
        }
        if let Some(geo) = &self.geo {
            let place = view.place(geo.id, client);
            for (fact, name) in &geo.headers {
                match place.value(*fact) {
                    Some(value) => _ = headers.insert(name, value),
                    None => _ = headers.remove(name),
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use naru_base::{ClusterId, EndpointId};
    use naru_spec::{Addresses, Geo};

    use super::*;

    struct Known;

    impl View for Known {
        fn active(&self, _: ClusterId, _: EndpointId) -> u32 {
            0
        }

        fn place(&self, _: GeoId, address: IpAddr) -> GeoPlace {
            let is_known = address == IpAddr::from([192, 0, 2, 1]);
            let city = is_known.then(|| "Zürich".to_owned());
            GeoPlace { country: is_known.then(|| "CH".to_owned()), city, ..GeoPlace::default() }
        }
    }

    #[test]
    fn what_a_client_says_of_where_it_is_is_not_believed() {
        let headers = [(GeoFact::Country, "x-country"), (GeoFact::City, "x-city"), (GeoFact::Asn, "x-asn")];
        let headers = headers.map(|(fact, name)| (fact, HeaderName::from_static(name))).to_vec();
        let geo = Geo { database: "a".into(), headers };
        let door = Door { addresses: Addresses::default(), geo: Some(geo) };
        let door = CompiledDoor::compile(&door, &mut Distinct::default());
        let spoofed = || -> HeaderMap {
            let names = ["x-country", "x-city", "x-asn", "x-other"].map(HeaderName::from_static);
            names.into_iter().map(|name| (name, HeaderValue::from_static("XX"))).collect()
        };
        let mut known = spoofed();
        assert_eq!(door.meet([192, 0, 2, 1].into(), &mut known, &Known), None);
        assert_eq!(known["x-country"], "CH");
        assert_eq!(known["x-city"], "Z%C3%BCrich");
        assert_eq!(known.get("x-asn"), None);
        assert_eq!(known["x-other"], "XX");
        let mut unknown = spoofed();
        assert_eq!(door.meet([192, 0, 2, 2].into(), &mut unknown, &Known), None);
        assert_eq!(unknown.len(), 1);
    }

    #[test]
    fn who_is_denied_stays_outside() {
        let addresses = Addresses { allow: Vec::new(), deny: vec!["192.0.2.0/24".parse().unwrap()] };
        let door = CompiledDoor::compile(&Door { addresses, geo: None }, &mut Distinct::default());
        let mut headers = HeaderMap::new();
        assert_eq!(door.meet([192, 0, 2, 1].into(), &mut headers, &Known), Some(Reason::AddressDenied));
        assert_eq!(door.meet([192, 0, 3, 1].into(), &mut headers, &Known), None);
    }
}
