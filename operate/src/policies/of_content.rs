//! What becomes of bodies: codings, bounds, files.

use naru_spec::{Coder, Compressor, Decompressor, Links, StaticFiles};
use serde_json::json;

use super::Policy;

pub fn compressed(settings: &Compressor) -> Option<Policy> {
    if !settings.is_enabled {
        return None;
    }
    let coding = settings.coder.coding().name();
    let level = match settings.coder {
        Coder::Gzip { level, .. } => level,
        Coder::Brotli { quality, .. } => Some(quality),
        Coder::Zstd { level, .. } => Some(level),
    };
    let hard = level.map(|level| format!(" at level {level}")).unwrap_or_default();
    let of = match settings.content_types.len() {
        0 => "all types".to_owned(),
        1 => settings.content_types.concat(),
        count => format!("{count} types"),
    };
    let text = format!(
        "answers of {of} and {} bytes or more are compressed in {coding}{hard} for who accepts it",
        settings.length_min
    );
    let values = json!({
        "coding": coding,
        "level": level,
        "min_bytes": settings.length_min,
        "content_types": settings.content_types,
    });
    Some(Policy::new("compression", text, values, None))
}

pub fn decompressed(settings: &Decompressor) -> Option<Policy> {
    if !settings.is_enabled {
        return None;
    }
    let codings: Vec<&str> = settings.codings.iter().map(|coding| coding.name()).collect();
    let most = match settings.bytes_max {
        u64::MAX => String::new(),
        most => format!("no more than {most} bytes, and "),
    };
    let text = format!(
        "bodies of requests are read out of {}: {most}no more than {} bytes of each that comes",
        codings.join(", "),
        settings.ratio_max
    );
    let values = json!({
        "codings": codings,
        "max_bytes": (settings.bytes_max < u64::MAX).then_some(settings.bytes_max),
        "max_ratio": settings.ratio_max,
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
