//! Databases of addresses, for all workers: read once, and again when their files change.

use std::net::IpAddr;
use std::sync::Arc;

use naru_journey::door::{GeoId, GeoPlace};
use naru_known::Places;
use naru_spec::Invalid;

use crate::watched::{Watched, WatchedHere};

/// Of a snapshot, by their ids.
pub type AllGeo = Arc<[(String, Arc<Watched<Places>>)]>;

/// # Errors
/// Databases that cannot be read, by their ids.
pub fn share(
    paths: &[String],
    older: Option<&AllGeo>,
    is_kept: bool,
) -> Result<AllGeo, Vec<(usize, Invalid)>> {
    let (mut shared, mut problems) = (Vec::new(), Vec::new());
    for (at, path) in paths.iter().enumerate() {
        let known = older.and_then(|older| older.iter().find(|(known, _)| known == path));
        let from = path.clone();
        let read = move || {
            let bytes = std::fs::read(&from).map_err(|error| error.to_string())?;
            Places::read(bytes).map_err(|fault| fault.to_string())
        };
        match known {
            Some((_, known)) => shared.push((path.clone(), Arc::clone(known))),
            None => match Watched::new(vec![path.clone()], is_kept, read) {
                Ok(places) => shared.push((path.clone(), places)),
                Err(why) => {
                    let message = format!("the database of addresses {path} cannot be read: {why}");
                    let hint = "a file of MaxMind's format, such as GeoLite2-Country.mmdb";
                    problems.push((at, Invalid::new(message).hint(hint)));
                }
            },
        }
    }
    if problems.is_empty() { Ok(shared.into()) } else { Err(problems) }
}

/// The same, as one worker sees them.
#[derive(Debug)]
pub struct GeoHere(Vec<WatchedHere<Places>>);

impl GeoHere {
    pub fn new(all: &AllGeo) -> GeoHere {
        GeoHere(all.iter().map(|(_, shared)| WatchedHere::new(shared)).collect())
    }

    pub fn find(&self, id: GeoId, address: IpAddr) -> GeoPlace {
        let Some(here) = self.0.get(id.index()) else { return GeoPlace::default() };
        let naru_known::Place { country, continent, region, city, asn } = here.get().0.find(address);
        GeoPlace { country, continent, region, city, asn }
    }
}
