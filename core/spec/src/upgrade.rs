//! Which changes of protocol clients may ask for. Envoy's `upgrade_configs`.

/// Names as `Upgrade` says them, in lower case, and whether each may be asked for; each once.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Upgrades(Vec<(String, bool)>);

impl Upgrades {
    /// Of names that stand twice the first counts.
    pub fn new(said: impl IntoIterator<Item = (String, bool)>) -> Upgrades {
        let mut all: Vec<(String, bool)> = Vec::new();
        for (name, is_allowed) in said {
            let name = name.to_ascii_lowercase();
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, is_allowed));
            }
        }
        Upgrades(all)
    }

    /// Istio's default.
    pub fn websocket() -> Upgrades {
        Upgrades::new([("websocket".to_owned(), true)])
    }

    /// `None` where nothing is said of it.
    pub fn says(&self, name: &[u8]) -> Option<bool> {
        let found = self.0.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        found.map(|(_, is_allowed)| *is_allowed)
    }

    /// What a route says goes before what its listener says. Envoy's `createUpgradeFilterChain`.
    pub fn allow(of_listener: &Upgrades, of_route: &Upgrades, name: &[u8]) -> bool {
        of_route.says(name).unwrap_or_else(|| of_listener.says(name) == Some(true))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(name, is_allowed)| (name.as_str(), *is_allowed))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_allows_and_forbids_what_its_listener_does_not() {
        let of =
            |said: &[(&str, bool)]| Upgrades::new(said.iter().map(|(name, is)| ((*name).to_owned(), *is)));
        let check = |listener: &[(&str, bool)], route: &[(&str, bool)], expected: bool| {
            let found = Upgrades::allow(&of(listener), &of(route), b"WebSocket");
            assert_eq!(found, expected, "{listener:?} {route:?}");
        };
        let (yes, no, other) = ([("websocket", true)], [("WebSocket", false)], [("foo", true)]);
        check(&[], &[], false);
        check(&yes, &[], true);
        check(&no, &[], false);
        check(&other, &[], false);
        check(&yes, &no, false);
        check(&no, &yes, true);
        check(&[], &yes, true);
        check(&yes, &other, true);
    }
}
