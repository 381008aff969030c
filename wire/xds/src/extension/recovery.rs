//! What Envoy has no words for of retries, timeouts, faults and mirrors. Under `recovery` in a route's
//! metadata; lengths of time are nanoseconds as text, since a number there has only 53 bits:
//!
//! `{unsafe: true, backoff: {kind: fixed|linear|exponential, first, max, factor_percent, jitter_percent},
//! auto_timeout: {permille, factor_percent, min, max}, fault: upstream, mirrors: [{at, writes: skip, mark: HEADER,
//! compare: {ignored: [..], bytes}}]}`

use std::time::Duration;

use http::HeaderName;
use naru_spec::{AutoTimeout, Backoff, Comparison, FaultScope, Forward, MirrorWrites, Repeats};

use super::{as_list, as_object, as_text, list, object, sorted, text};
use crate::proto::{Struct, Value, value};

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Recovery {
    repeats_unsafe: bool,
    backoff: Option<Backoff>,
    auto_timeout: Option<AutoTimeout>,
    is_fault_upstream: bool,
    mirrors: Vec<MirrorExtension>,
}

#[derive(Debug, PartialEq)]
struct MirrorExtension {
    at: u32,
    writes: MirrorWrites,
    comparison: Option<Comparison>,
}

const SKIP: &str = "skip";

impl Recovery {
    pub fn of(forward: &Forward) -> Recovery {
        let retry = forward.retry.as_ref();
        let mirrors = (0..).zip(&forward.mirrors).filter_map(|(at, mirror)| {
            let is_plain = mirror.writes == MirrorWrites::Sent && mirror.comparison.is_none();
            let (writes, comparison) = (mirror.writes.clone(), mirror.comparison.clone());
            (!is_plain).then_some(MirrorExtension { at, writes, comparison })
        });
        Recovery {
            repeats_unsafe: retry.is_some_and(|retry| retry.repeats == Repeats::Everything),
            backoff: retry.map(|retry| retry.backoff).filter(|b| !matches!(b, Backoff::Jittered { .. })),
            auto_timeout: forward.auto_timeout,
            is_fault_upstream: forward
                .fault
                .as_ref()
                .is_some_and(|fault| fault.scope == FaultScope::Upstream),
            mirrors: mirrors.collect(),
        }
    }

    /// Says to a route that was read without it what it adds.
    pub fn apply(self, forward: &mut Forward) -> Result<(), String> {
        const NOTHING: &str = "recovery says more of retries, faults or mirrors than the route has";
        match (&mut forward.retry, self.repeats_unsafe || self.backoff.is_some()) {
            (Some(retry), _) => {
                if self.repeats_unsafe {
                    retry.repeats = Repeats::Everything;
                }
                retry.backoff = self.backoff.unwrap_or(retry.backoff);
            }
            (None, true) => return Err(NOTHING.to_owned()),
            (None, false) => {}
        }
        forward.auto_timeout = self.auto_timeout;
        match (&mut forward.fault, self.is_fault_upstream) {
            (Some(fault), true) => fault.scope = FaultScope::Upstream,
            (None, true) => return Err(NOTHING.to_owned()),
            (_, false) => {}
        }
        for said in self.mirrors {
            let mirror = forward.mirrors.get_mut(said.at as usize).ok_or(NOTHING)?;
            (mirror.writes, mirror.comparison) = (said.writes, said.comparison);
        }
        Ok(())
    }

    pub fn write(&self) -> Option<Value> {
        let mut whole = Vec::new();
        if self.repeats_unsafe {
            whole.push(("unsafe", flag()));
        }
        if let Some(backoff) = &self.backoff {
            whole.push(("backoff", write_backoff(backoff)));
        }
        if let Some(auto) = &self.auto_timeout {
            let fields = vec![
                ("permille", number(auto.quantile_permille)),
                ("factor_percent", number(auto.factor_percent)),
                ("min", nanos(auto.min)),
                ("max", nanos(auto.max)),
            ];
            whole.push(("auto_timeout", object(fields)));
        }
        if self.is_fault_upstream {
            whole.push(("fault", text("upstream")));
        }
        if !self.mirrors.is_empty() {
            whole.push(("mirrors", list(self.mirrors.iter().map(write_mirror).collect())));
        }
        (!whole.is_empty()).then(|| object(whole))
    }

    /// `Err` holds what is not understood.
    pub fn read(said: &Value) -> Result<Recovery, String> {
        let mut recovery = Recovery::default();
        for (key, value) in sorted(as_object("recovery", said)?) {
            match key.as_str() {
                "unsafe" => recovery.repeats_unsafe = as_flag(key, value)?,
                "backoff" => recovery.backoff = Some(read_backoff(as_object(key, value)?)?),
                "auto_timeout" => recovery.auto_timeout = Some(read_auto(as_object(key, value)?)?),
                "fault" if as_text(key, value)? == "upstream" => recovery.is_fault_upstream = true,
                "mirrors" => {
                    for item in as_list(key, value)? {
                        recovery.mirrors.push(read_mirror(as_object(key, item)?)?);
                    }
                }
                other => return Err(format!("recovery.{other} is not known, or not so")),
            }
        }
        Ok(recovery)
    }
}

fn write_backoff(backoff: &Backoff) -> Value {
    let (kind, first, max, factor, jitter) = match *backoff {
        Backoff::Jittered { base, max } => ("jittered", base, max, 0, 0),
        Backoff::Fixed { wait, jitter_percent } => ("fixed", wait, wait, 0, jitter_percent),
        Backoff::Linear { step, max, jitter_percent } => ("linear", step, max, 0, jitter_percent),
        Backoff::Exponential { first, factor_percent, max, jitter_percent } => {
            ("exponential", first, max, factor_percent, jitter_percent)
        }
    };
    object(vec![
        ("kind", text(kind)),
        ("first", nanos(first)),
        ("max", nanos(max)),
        ("factor_percent", number(factor)),
        ("jitter_percent", number(jitter.into())),
    ])
}

fn read_backoff(said: &Struct) -> Result<Backoff, String> {
    let (mut kind, mut first, mut max, mut factor_percent, mut jitter) =
        ("", Duration::ZERO, Duration::ZERO, 0, 0);
    for (key, value) in sorted(said) {
        match key.as_str() {
            "kind" => kind = as_text(key, value)?,
            "first" => first = as_nanos(key, value)?,
            "max" => max = as_nanos(key, value)?,
            "factor_percent" => factor_percent = as_number(key, value)?,
            "jitter_percent" => jitter = as_number(key, value)?,
            other => return Err(format!("recovery.backoff.{other} is not known")),
        }
    }
    let jitter_percent = u8::try_from(jitter).map_err(|_| format!("{jitter}% is not a jitter"))?;
    match kind {
        "fixed" => Ok(Backoff::Fixed { wait: first, jitter_percent }),
        "linear" => Ok(Backoff::Linear { step: first, max, jitter_percent }),
        "exponential" => Ok(Backoff::Exponential { first, factor_percent, max, jitter_percent }),
        other => Err(format!("'{other}' is no kind of backoff")),
    }
}

fn read_auto(said: &Struct) -> Result<AutoTimeout, String> {
    let mut auto = AutoTimeout::default();
    for (key, value) in sorted(said) {
        match key.as_str() {
            "permille" => auto.quantile_permille = as_number(key, value)?,
            "factor_percent" => auto.factor_percent = as_number(key, value)?,
            "min" => auto.min = as_nanos(key, value)?,
            "max" => auto.max = as_nanos(key, value)?,
            other => return Err(format!("recovery.auto_timeout.{other} is not known")),
        }
    }
    match auto.problems().into_iter().next() {
        None => Ok(auto),
        Some(invalid) => Err(invalid.message),
    }
}

fn write_mirror(said: &MirrorExtension) -> Value {
    let mut fields = vec![("at", number(said.at))];
    match &said.writes {
        MirrorWrites::Sent => {}
        MirrorWrites::NotSent => fields.push(("writes", text(SKIP))),
        MirrorWrites::Marked(name) => fields.push(("mark", text(name.as_str()))),
    }
    if let Some(comparison) = &said.comparison {
        let names = comparison.ignored_headers.iter().map(|name| text(name.as_str())).collect();
        let bytes = u32::try_from(comparison.body_bytes_max).unwrap_or(u32::MAX);
        fields.push(("compare", object(vec![("ignored", list(names)), ("bytes", number(bytes))])));
    }
    object(fields)
}

fn read_mirror(said: &Struct) -> Result<MirrorExtension, String> {
    let name = |key: &str, value: &Value| {
        HeaderName::from_bytes(as_text(key, value)?.as_bytes()).map_err(|_| format!("'{key}' names a header"))
    };
    let mut found = MirrorExtension { at: 0, writes: MirrorWrites::Sent, comparison: None };
    for (key, value) in sorted(said) {
        match key.as_str() {
            "at" => found.at = as_number(key, value)?,
            "writes" if as_text(key, value)? == SKIP => found.writes = MirrorWrites::NotSent,
            "mark" => found.writes = MirrorWrites::Marked(name(key, value)?),
            "compare" => {
                let mut comparison = Comparison::default();
                for (key, value) in sorted(as_object(key, value)?) {
                    match key.as_str() {
                        "bytes" => comparison.body_bytes_max = as_number(key, value)? as usize,
                        "ignored" => {
                            for item in as_list(key, value)? {
                                comparison.ignored_headers.push(name(key, item)?);
                            }
                        }
                        other => return Err(format!("recovery.mirrors.compare.{other} is not known")),
                    }
                }
                found.comparison = Some(comparison);
            }
            other => return Err(format!("recovery.mirrors.{other} is not known, or not so")),
        }
    }
    Ok(found)
}

fn flag() -> Value {
    Value { kind: Some(value::Kind::BoolValue(true)) }
}

fn as_flag(name: &str, value: &Value) -> Result<bool, String> {
    match value.kind {
        Some(value::Kind::BoolValue(flag)) => Ok(flag),
        _ => Err(format!("'{name}' is true or false")),
    }
}

fn number(number: u32) -> Value {
    Value { kind: Some(value::Kind::NumberValue(number.into())) }
}

fn as_number(name: &str, value: &Value) -> Result<u32, String> {
    match value.kind {
        Some(value::Kind::NumberValue(number))
            if number.fract() == 0.0 && (0.0..=4_294_967_295.0).contains(&number) =>
        {
            Ok(number as u32)
        }
        _ => Err(format!("'{name}' is a whole number")),
    }
}

pub(super) fn nanos(duration: Duration) -> Value {
    text(&duration.as_nanos().to_string())
}

pub(super) fn as_nanos(name: &str, value: &Value) -> Result<Duration, String> {
    const SECOND: u128 = 1_000_000_000;
    let nanos = as_text(name, value)?.parse::<u128>().ok();
    let duration = nanos.and_then(|nanos| {
        let seconds = u64::try_from(nanos / SECOND).ok()?;
        Some(Duration::new(seconds, u32::try_from(nanos % SECOND).ok()?))
    });
    duration.ok_or_else(|| format!("'{name}' is a length of time in nanoseconds"))
}
