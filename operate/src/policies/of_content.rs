//! What becomes of bodies: codings, bounds, files.

use naru_spec::{Coder, Compressor, Decompressor, Links, StaticFiles};
use serde_json::json;

use super::Policy;

pub fn compressed(settings: &Compressor) -> Option<Policy> {
    let coding = settings.coder.coding().name();
    let level = match settings.coder {
        Coder::Gzip { level, .. } => level,
        Coder::Brotli { quality, .. } => Some(quality),
        Coder::Zstd { level, .. } => Some(level),
    };
    let hard = level.map(|level| format!(" at level {level}")).unwrap_or_default();
    let of = |types: &[String]| match types {
        [] => "all types".to_owned(),
        [one] => one.clone(),
        several => format!("{} types", several.len()),
    };
    let answers = settings.is_enabled.then(|| {
        let (of, least) = (of(&settings.content_types), settings.length_min);
        format!(
            "answers of {of} and {least} bytes or more are compressed in {coding}{hard} for who accepts it"
        )
    });
    let requests = settings.requests.as_ref().map(|requests| {
        let (of, least) = (of(&requests.content_types), requests.length_min);
        format!("requests of {of} and {least} bytes or more are compressed in {coding}{hard}")
    });
    let all: Vec<String> = answers.into_iter().chain(requests).collect();
    if all.is_empty() {
        return None;
    }
    let text = all.join("; ");
    let values = json!({
        "coding": coding,
        "level": level,
        "min_bytes": settings.length_min,
        "content_types": settings.content_types,
        "answers": settings.is_enabled,
        "requests": settings.requests.as_ref().map(|requests| json!({
            "min_bytes": requests.length_min,
            "content_types": requests.content_types,
        })),
    });
    Some(Policy::new("compression", text, values, None))
}

pub fn decompressed(settings: &Decompressor) -> Option<Policy> {
    let of = match (settings.is_enabled, settings.answers.is_some()) {
        (true, true) => "requests and answers",
        (true, false) => "requests",
        (false, true) => "answers",
        (false, false) => return None,
    };
    let codings: Vec<&str> = settings.codings.iter().map(|coding| coding.name()).collect();
    let most = match settings.bytes_max {
        u64::MAX => String::new(),
        most => format!("no more than {most} bytes, and "),
    };
    let text = format!(
        "bodies of {of} are read out of {}: {most}no more than {} bytes of each that comes",
        codings.join(", "),
        settings.ratio_max
    );
    let values = json!({
        "codings": codings,
        "max_bytes": (settings.bytes_max < u64::MAX).then_some(settings.bytes_max),
        "max_ratio": settings.ratio_max,
        "requests": settings.is_enabled,
        "answers": settings.answers.is_some(),
    });
    Some(Policy::new("decompression", text, values, None))
}

pub fn limited(max: u64) -> Option<Policy> {
    if max == u64::MAX {
        return None;
    }
    let text = format!("the body of a request has no more than {max} bytes");
    Some(Policy::new("maxRequestBytes", text, json!({ "bytes": max }), None))
}

pub fn files(settings: &StaticFiles, origin: Option<String>) -> Policy {
    let instead = match (&settings.fallback, &settings.not_found) {
        _ if settings.passes_on => "; what is no file goes on".to_owned(),
        (Some(page), _) => format!("; '{page}' in place of what is not there"),
        (None, Some(page)) => format!("; 404 with '{page}'"),
        (None, None) => String::new(),
    };
    let text = format!("GET and HEAD are answered from the files of {}{instead}", settings.root);
    let values = json!({
        "directory": settings.root,
        "strip_prefix": settings.prefix,
        "index": settings.index,
        "extensions": settings.endings,
        "fallback": settings.fallback,
        "not_found": settings.not_found,
        "forwards": settings.passes_on,
        "precompressed": settings.precompressed.iter().map(|coding| coding.name()).collect::<Vec<_>>(),
        "symlinks": match settings.links {
            Links::Refused => "refuse",
            Links::Within => "within",
            Links::Followed => "follow",
        },
        "hidden": settings.gives_hidden,
    });
    Policy::new("staticFiles", text, values, origin)
}
