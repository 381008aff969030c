//! `allow` and `deny`: who may call a location.

use std::net::IpAddr;

use super::scope::Scope;
use crate::notes::{Notes, code};

/// Some clients, and whether they may call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gate {
    pub is_open: bool,
    /// Everybody where it is empty.
    pub sources: Vec<String>,
}

/// Gates in the order in which they are asked; the last is for everybody.
pub(super) fn of(scope: &Scope<'_>, notes: &mut Notes<'_>) -> Vec<Gate> {
    let mut gates: Vec<Gate> = Vec::new();
    for directive in scope.list(&["allow", "deny"]) {
        let is_open = directive.name == "allow";
        let source = directive.arg(0).unwrap_or_default();
        if source == "all" {
            gates.push(Gate { is_open, sources: Vec::new() });
            return gates;
        }
        if !is_network(source) {
            let message = format!("'{source}' is no range of addresses: the line is left out");
            notes.warning(code::NOT_CARRIED_OVER, directive.at, &scope.path_to(&directive.name), message, "");
            continue;
        }
        match gates.last_mut().filter(|last| last.is_open == is_open) {
            Some(last) => last.sources.push(source.to_owned()),
            None => gates.push(Gate { is_open, sources: vec![source.to_owned()] }),
        }
    }
    // Who is not spoken of may call.
    gates.push(Gate { is_open: true, sources: Vec::new() });
    gates
}

fn is_network(text: &str) -> bool {
    let (address, length) = text.split_once('/').unwrap_or((text, "0"));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    length.parse::<u8>().is_ok_and(|length| length <= if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_call_is_asked_in_the_order_of_the_file() {
        let check = |text: &str, expected: &str| {
            let parsed = super::super::parse("f", text);
            let gates = of(&Scope::top(&parsed.directives), &mut Notes::new("f"));
            let shown: Vec<String> = gates
                .iter()
                .map(|gate| format!("{}{}", if gate.is_open { "+" } else { "-" }, gate.sources.join(",")))
                .collect();
            assert_eq!(shown.join(" "), expected, "{text}");
        };
        check("", "+");
        check("deny all;", "-");
        check("allow 10.0.0.0/8; allow ::1; deny all;", "+10.0.0.0/8,::1 -");
        check("deny 1.2.3.4; allow 1.2.3.0/24; deny all; allow all;", "-1.2.3.4 +1.2.3.0/24 -");
        check("deny 1.2.3.4;", "-1.2.3.4 +");
        check("allow unix:; deny 1.2.3.4/99;", "+");
    }
}
