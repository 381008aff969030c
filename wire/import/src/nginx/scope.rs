//! Where a directive stands, and what it inherits.

use std::rc::Rc;

use naru_doc::tree::Position;

use super::parse::Directive;

/// A block within those around it.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    /// The outermost first.
    levels: Vec<Level<'a>>,
    /// `server[0].location["/api"]`
    pub path: String,
    pub at: Position,
}

#[derive(Clone)]
struct Level<'a> {
    all: &'a [Directive],
    /// Those without a block, which is what may be inherited: a server may have thousands of locations.
    settings: Rc<[&'a Directive]>,
}

impl<'a> Level<'a> {
    fn of(all: &'a [Directive]) -> Level<'a> {
        Level { all, settings: all.iter().filter(|directive| directive.block.is_none()).collect() }
    }
}

impl<'a> Scope<'a> {
    pub fn top(directives: &'a [Directive]) -> Scope<'a> {
        Scope { levels: vec![Level::of(directives)], path: String::new(), at: Position::default() }
    }

    pub fn within(&self, step: &str, directive: &'a Directive) -> Scope<'a> {
        let mut levels = self.levels.clone();
        levels.push(Level::of(directive.children()));
        Scope { levels, path: joined(&self.path, step), at: directive.at }
    }

    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// What stands in the block itself.
    pub fn innermost(&self) -> &'a [Directive] {
        self.levels.last().map_or(&[], |level| level.all)
    }

    /// What stands in the block itself, by its name: what is not inherited.
    pub fn own(&self, name: &str) -> impl Iterator<Item = &'a Directive> {
        self.innermost().iter().filter(move |directive| directive.name == name)
    }

    /// A setting: the innermost that says it.
    pub fn setting(&self, name: &str) -> Option<&'a Directive> {
        let said = |level: &Level<'a>| level.settings.iter().copied().find(|setting| setting.name == name);
        self.levels.iter().rev().find_map(said)
    }

    /// Settings that are lists: those of the innermost block that has any.
    pub fn list(&self, names: &[&str]) -> Vec<&'a Directive> {
        let of = |level: &Level<'a>| -> Vec<&'a Directive> {
            let settings = level.settings.iter().copied();
            settings.filter(|setting| names.contains(&setting.name.as_str())).collect()
        };
        self.levels.iter().rev().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The way to a directive of it.
    pub fn path_to(&self, name: &str) -> String {
        joined(&self.path, name)
    }
}

fn joined(path: &str, step: &str) -> String {
    if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") }
}

/// nginx's times, in milliseconds: `30`, `30s`, `1m30s`, `500ms`.
pub(super) fn millis(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(rest.len());
        let unit = match &rest[..unit_end] {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "M" => 30 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        rest = rest[unit_end..].trim_start_matches(' ');
        total = total.checked_add(number.checked_mul(unit)?)?;
    }
    Some(total)
}

/// As Istio writes it: `10s`, `500ms`.
pub(super) fn seconds(millis: u64) -> String {
    if millis.is_multiple_of(1_000) { format!("{}s", millis / 1_000) } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_nginx_reads_them() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(millis(text), expected, "{text}");
        check("30", Some(30_000));
        check("30s", Some(30_000));
        check("1m30s", Some(90_000));
        check("1h 30m", Some(5_400_000));
        check("500ms", Some(500));
        check("1d", Some(86_400_000));
        check("", None);
        check("s", None);
        check("5x", None);
        check("99999999999999999999", None);
        check("9999999999999999999y", None);
        assert_eq!(seconds(90_000), "90s");
        assert_eq!(seconds(1_500), "1500ms");
    }
}
