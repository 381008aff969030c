//! Amounts: memory, processors, times, replicas.

use naru_doc::tree::Node;

use super::said::Reader;
use crate::field;
use crate::notes::code;
use crate::yaml::Map;

/// `deploy.resources`, or the older fields of the service.
pub(super) fn resources(service: &Node, reader: &mut Reader<'_, '_>) -> Map {
    let of_deploy = |kind: &str| {
        field(service, "deploy").and_then(|node| field(node, "resources")).and_then(|node| field(node, kind))
    };
    let mut side = |kind: &str, cpus: Option<&Node>, memory: Option<&Node>| {
        let path = format!("deploy.resources.{kind}");
        let cpus = of_deploy(kind).and_then(|node| field(node, "cpus")).or(cpus);
        let memory = of_deploy(kind).and_then(|node| field(node, "memory")).or(memory);
        let cpu = cpus.and_then(|node| read(node, &path, reader, cpu));
        let memory = memory.and_then(|node| read(node, &path, reader, memory_of));
        Map::new().with_some("cpu", cpu).with_some("memory", memory)
    };
    let limits = side("limits", field(service, "cpus"), field(service, "mem_limit"));
    let requests = side("reservations", None, field(service, "mem_reservation"));
    Map::new().with_some("limits", Some(limits)).with_some("requests", Some(requests))
}

pub(super) fn count(node: &Node, path: &str, reader: &mut Reader<'_, '_>) -> Option<u32> {
    read(node, path, reader, |text| text.parse().ok())
}

/// Whole seconds; a part of one is a whole one.
pub(super) fn seconds(node: &Node, path: &str, reader: &mut Reader<'_, '_>) -> Option<u32> {
    read(node, path, reader, |text| u32::try_from(micros(text)?.div_ceil(1_000_000)).ok())
}

fn read<T>(
    node: &Node,
    path: &str,
    reader: &mut Reader<'_, '_>,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let text = reader.text(node, path)?;
    let value = parse(text.trim());
    if value.is_none() {
        let message = format!("'{text}' cannot be read: it is left out");
        reader.warning(code::NOT_CARRIED_OVER, node.position, path, message, "");
    }
    value
}

/// `0.5` is `500m`; a part of a thousandth is a whole one.
fn cpu(text: &str) -> Option<String> {
    let millis = scaled(text, 1_000)?;
    if millis == 0 {
        return None;
    }
    Some(if millis.is_multiple_of(1_000) { (millis / 1_000).to_string() } else { format!("{millis}m") })
}

/// Compose's units are powers of 1024, whatever they are called; Kubernetes' `M` is not.
fn memory_of(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    let bytes = scaled(number, factor)?;
    if bytes == 0 {
        return None;
    }
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let unit = units.into_iter().find(|(size, _)| bytes.is_multiple_of(*size));
    Some(unit.map_or_else(|| bytes.to_string(), |(size, name)| format!("{}{name}", bytes / size)))
}

/// `300ms`, `1m30s`, `1h5m`, in microseconds.
fn micros(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let factor = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" => 60_000_000,
            "h" => 3_600_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, factor)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// A decimal number times a factor, rounded up.
fn scaled(text: &str, factor: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() && part.is_empty() || !is_digits(whole) || !is_digits(part) || part.len() > 9 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let tenths = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    let part = (part * u128::from(factor)).div_ceil(tenths);
    whole.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_its_size() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(memory_of(text).as_deref(), expected, "{text}");
        check("512M", Some("512Mi"));
        check("512m", Some("512Mi"));
        check("1gb", Some("1Gi"));
        check("1.5G", Some("1536Mi"));
        check("64k", Some("64Ki"));
        check("1048576", Some("1Mi"));
        check("1000b", Some("1000"));
        check("0", None);
        check("much", None);
        check("1.5.5g", None);
        check("99999999999999g", None);
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(cpu(text).as_deref(), expected, "{text}");
        check("0.5", Some("500m"));
        check("2", Some("2"));
        check("1.0", Some("1"));
        check(".25", Some("250m"));
        check("0.0001", Some("1m"));
        check("0", None);
        check("-1", None);
        check("", None);
    }

    #[test]
    fn times_are_read() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(micros(text), expected, "{text}");
        check("10s", Some(10_000_000));
        check("1m30s", Some(90_000_000));
        check("1.5s", Some(1_500_000));
        check("300ms", Some(300_000));
        check("10", None);
        check("s", None);
        check("", None);
        check("99999999999999999999h", None);
    }
}
