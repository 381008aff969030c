//! What stands at a place of a text: its key, the keys above it, and the names that could stand there.

use naru_resource::Resources;

/// A column in characters, in the units of the protocol.
pub fn utf16(line: &str, column: usize) -> usize {
    line.chars().take(column).map(char::len_utf16).sum()
}

/// Where the word ends that begins there.
pub fn end_of_value(line: &str, from: usize) -> usize {
    let mut at = 0;
    let mut end = from;
    for c in line.chars() {
        if at >= from && matches!(c, ' ' | ',' | '}' | ']' | '#') {
            break;
        }
        at += c.len_utf16();
        end = end.max(at);
    }
    end.max(from + 1).min(utf16(line, usize::MAX).max(from + 1))
}

/// How far a line is moved in, and its key; the dash of a list counts as space.
fn key(line: &str) -> Option<(usize, String)> {
    let inner = line.trim_start_matches([' ', '-']);
    let indent = line.len() - inner.len();
    if inner.is_empty() || inner.starts_with('#') {
        return None;
    }
    let (name, _) = inner.split_once(':')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let is_key = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '-' | '_'));
    is_key.then(|| (indent, name.to_owned()))
}

/// The kind of the document, and the way to the key of a line: `spec.http.route.weight`.
pub fn field_at(text: &str, line: usize) -> Option<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut indent, last) = key(lines.get(line)?)?;
    let mut path = vec![last];
    let first = lines.iter().take(line).rposition(|line| line.starts_with("---")).map_or(0, |at| at + 1);
    for above in lines.get(first..line)?.iter().rev() {
        if let Some((outer, name)) = key(above)
            && outer < indent
        {
            path.push(name);
            indent = outer;
        }
    }
    path.reverse();
    let mut document = lines.get(first..)?.iter().take_while(|line| !line.starts_with("---"));
    let kind = document.find_map(|line| line.strip_prefix("kind:"))?.trim();
    Some((kind.to_owned(), path.join(".")))
}

/// The key of a line, or of the list that it is in.
pub fn key_of_line(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let of = lines.get(line).copied().unwrap_or("");
    if let Some((_, name)) = key(of) {
        return name;
    }
    let indent = of.len() - of.trim_start_matches([' ', '-']).len();
    let above = lines.iter().take(line).rev().filter_map(|line| key(line));
    above.into_iter().find(|(outer, _)| *outer < indent).map_or_else(String::new, |(_, name)| name)
}

/// Names that can stand for a key, each with what it is.
/// `host` is whose subsets are meant, where that stands beside.
pub fn names(key: &str, host: Option<&str>, resources: &Resources) -> Vec<(String, &'static str)> {
    let mut all = match key {
        "host" | "hosts" => {
            let services = resources.services.iter().map(|service| service.meta.name.value.clone());
            let entries = resources.service_entries.iter().flat_map(|entry| &entry.spec.hosts);
            services
                .map(|name| (name, "Service"))
                .chain(entries.map(|host| (host.value.clone(), "ServiceEntry")))
                .collect()
        }
        "subset" => {
            let rules = resources.destination_rules.iter().filter(|rule| {
                host.is_none_or(|host| {
                    let short = |host: &str| host.split('.').next().unwrap_or("").to_owned();
                    short(host) == short(&rule.spec.host)
                })
            });
            let subsets = rules.flat_map(|rule| &rule.spec.subsets);
            subsets.map(|subset| (subset.name.value.clone(), "subset")).collect()
        }
        "gateways" => {
            let name = |meta: &naru_resource::Meta| format!("{}/{}", meta.namespace(), meta.name.value);
            let gateways = resources.gateways.iter().map(|gateway| (name(&gateway.meta), "Gateway"));
            gateways.chain([("mesh".to_owned(), "calls of workloads")]).collect()
        }
        "credentialName" => {
            resources.secrets.iter().map(|secret| (secret.meta.name.value.clone(), "Secret")).collect()
        }
        _ => Vec::new(),
    };
    all.sort();
    all.dedup();
    all
}

/// The value of another key of the same mapping, in the lines around.
pub fn beside(text: &str, line: usize, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let (indent, _) = key(lines.get(line)?)?;
    let value = |of: &&&str| {
        let (other, found) = key(of)?;
        (other == indent && found == name)
            .then(|| of.split_once(':').map(|(_, value)| value.trim().to_owned()))?
    };
    let is_inside = |of: &&&str| key(of).is_none_or(|(other, _)| other >= indent);
    let above = lines.iter().take(line).rev().take_while(is_inside).find_map(|of| value(&of));
    above.or_else(|| lines.iter().skip(line + 1).take_while(is_inside).find_map(|of| value(&of)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: Service\n---\nkind: VirtualService\nspec:\n  gateways:\n  - edge\n  http:\n  - match:\n    - uri:\n        prefix: /\n    route:\n    - destination:\n        host: reviews\n        subset: v1\n      weight: 10\n";

    #[test]
    fn the_way_to_a_key_is_found_by_its_indent() {
        for (line, expected) in [
            (3, Some("spec")),
            (4, Some("spec.gateways")),
            (5, None),
            (9, Some("spec.http.match.uri.prefix")),
            (13, Some("spec.http.route.destination.subset")),
            (14, Some("spec.http.route.weight")),
        ] {
            let expected = expected.map(|path| ("VirtualService".to_owned(), path.to_owned()));
            assert_eq!(field_at(TEXT, line), expected, "{line}");
        }
        assert_eq!(key_of_line(TEXT, 5), "gateways");
        assert_eq!(beside(TEXT, 13, "host").as_deref(), Some("reviews"));
    }

    #[test]
    fn columns_are_counted_as_the_protocol_does() {
        assert_eq!(utf16("a\u{1f600}나b", 3), 4);
        assert_eq!(end_of_value("host: reviews, x", 6), 13);
        assert_eq!(end_of_value("", 0), 1);
    }
}
