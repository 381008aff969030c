//! The filters for codings of bodies, and for how large a body may be.

use naru_spec::{
    Check, CheckKind, Coder, CompressedRequests, Compressor, CompressorChange, ContentCoding,
    DecompressedAnswers, Decompressor, GateChange, Http, OnEtag, Path, defaults,
};

use crate::findings::{Findings, code};
use crate::proto::{
    Any, UInt32Value, brotli, brotli_decompressor, buffer, compressor, core, decompressor, gzip,
    gzip_decompressor, zstd, zstd_decompressor,
};
use crate::schema::{type_name, unpack};

/// What a filter says, where it is one of these.
pub(super) fn check(any: &Any, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<CheckKind> {
    if let Some(said) = unpack::<compressor::Compressor>(any) {
        return compress(&said, path, findings).map(|found| CheckKind::Compress(Box::new(found)));
    }
    let said = unpack::<decompressor::Decompressor>(any)?;
    decompress(&said, path, findings).map(|found| CheckKind::Decompress(Box::new(found)))
}

pub(super) fn is_one(any: &Any) -> bool {
    unpack::<compressor::Compressor>(any).is_some() || unpack::<decompressor::Decompressor>(any).is_some()
}

/// What a route says to such a filter.
pub(super) fn change(
    name: &str,
    any: &Any,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<GateChange> {
    if let Some(said) = unpack::<compressor::CompressorPerRoute>(any) {
        let change = compress_of_route(said.r#override?, path, findings);
        return Some(GateChange::Compress(name.to_owned(), Box::new(change)));
    }
    let said = unpack::<buffer::BufferPerRoute>(any)?;
    let kind = match said.r#override? {
        buffer::buffer_per_route::Override::Disabled(_) => CheckKind::BodyLimit(u64::MAX),
        buffer::buffer_per_route::Override::Buffer(buffer) => {
            CheckKind::BodyLimit(u64::from(buffer.max_request_bytes?.value))
        }
    };
    Some(GateChange::Instead(Check { name: name.to_owned(), kind }))
}

/// As in Envoy, it is of answers, but for the library.
fn compress_of_route(
    said: compressor::compressor_per_route::Override,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> CompressorChange {
    use compressor::compressor_per_route::Override;
    match said {
        Override::Disabled(is_off) => {
            CompressorChange { answers: is_off.then_some(false), ..CompressorChange::default() }
        }
        Override::Overrides(said) => {
            let library = said.compressor_library.as_ref();
            let answers = said.response_direction_config.as_ref();
            CompressorChange {
                answers: answers.map(|_| true),
                removes_accept_encoding: answers
                    .and_then(|answers| answers.remove_accept_encoding_header.as_ref())
                    .map(|said| said.value),
                coder: library.and_then(|_| coder(library, &path.field("overrides"), findings)),
            }
        }
    }
}

/// Where a route says otherwise than the listener how large a body may be, both are asked once the route is known.
pub(super) fn settle_limit(http: &mut Http, name: Option<String>) {
    let (Some(max), Some(name)) = (http.body_bytes_max, name) else { return };
    let rules = http.routes.virtual_hosts.iter().flat_map(|host| &host.rules);
    let mut changes = rules.flat_map(|rule| rule.changes());
    let is_changed = changes.any(|change| {
        matches!(change, GateChange::Instead(Check { name: other, kind: CheckKind::BodyLimit(_) }) if *other == name)
    });
    if is_changed {
        http.body_bytes_max = None;
        http.gate.checks.insert(0, Check { name, kind: CheckKind::BodyLimit(max) });
    }
}

fn is_on(flag: Option<&core::RuntimeFeatureFlag>) -> bool {
    flag.and_then(|flag| flag.default_value.as_ref()).is_none_or(|value| value.value)
}

fn number(said: &Option<UInt32Value>) -> Option<u32> {
    said.as_ref().map(|said| said.value)
}

#[expect(deprecated, reason = "what stands in the older places acts as in Envoy")]
fn compress(
    said: &compressor::Compressor,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Compressor> {
    let mut made = Compressor::new(coder(said.compressor_library.as_ref(), path, findings)?);
    let direction = said.response_direction_config.as_ref();
    let common = direction.and_then(|direction| direction.common_config.as_ref());
    // As in Envoy, what is said in the older place is asked where the newer is not there at all.
    match direction {
        Some(direction) => {
            made.is_enabled = is_on(common.and_then(|common| common.enabled.as_ref()));
            made.length_min =
                common.and_then(|common| number(&common.min_content_length)).unwrap_or(made.length_min);
            made.etag = match (direction.weaken_etag_on_compress, direction.disable_on_etag_header) {
                (true, _) => OnEtag::Weaken,
                (false, true) => OnEtag::Leave,
                (false, false) => OnEtag::Remove,
            };
            made.removes_accept_encoding = direction.remove_accept_encoding_header;
            made.tells_status = direction.status_header_enabled;
            let codes = direction.uncompressible_response_codes.iter();
            made.statuses_not = codes.filter_map(|code| u16::try_from(*code).ok()).collect();
        }
        None => {
            made.is_enabled = is_on(said.runtime_enabled.as_ref());
            made.length_min = number(&said.content_length).unwrap_or(made.length_min);
            made.etag = if said.disable_on_etag_header { OnEtag::Leave } else { OnEtag::Remove };
            made.removes_accept_encoding = said.remove_accept_encoding_header;
        }
    }
    let types = common.map_or(&said.content_type, |common| &common.content_type);
    if !types.is_empty() {
        made.content_types = types.iter().map(|name| name.to_ascii_lowercase()).collect();
    }
    made.is_first = said.choose_first;
    made.requests =
        said.request_direction_config.as_ref().and_then(|said| requests(said.common_config.as_ref()));
    Some(made)
}

/// Requests are compressed where this is there, unless it says otherwise.
#[expect(deprecated, reason = "what stands in the older places acts as in Envoy")]
fn requests(common: Option<&compressor::compressor::CommonDirectionConfig>) -> Option<CompressedRequests> {
    if !is_on(common.and_then(|common| common.enabled.as_ref())) {
        return None;
    }
    let types = common.map_or(&[][..], |common| &common.content_type);
    let usual = || defaults::COMPRESSED_TYPES.iter().map(|name| (*name).to_owned()).collect();
    Some(CompressedRequests {
        length_min: common
            .and_then(|common| number(&common.min_content_length))
            .unwrap_or(defaults::COMPRESSED_BYTES_MIN),
        content_types: match types {
            [] => usual(),
            types => types.iter().map(|name| name.to_ascii_lowercase()).collect(),
        },
    })
}

fn library<'a>(
    said: Option<&'a core::TypedExtensionConfig>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<&'a Any> {
    let any = said.and_then(|said| said.typed_config.as_ref());
    if any.is_none() {
        findings.missing(path, "the filter needs a library with a typed_config");
    }
    any
}

fn unknown(any: &Any, path: &Path<'_>, findings: &mut Findings<'_>) {
    let text = format!("the library '{}' is not supported", type_name(&any.type_url));
    let path = path.field("typed_config");
    let hint = "those for gzip, brotli and zstd are";
    findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
}

fn coder(
    said: Option<&core::TypedExtensionConfig>,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Coder> {
    let path = path.field("compressor_library");
    let any = library(said, &path, findings)?;
    if let Some(said) = unpack::<gzip::Gzip>(any) {
        let level = u32::try_from(said.compression_level).ok().filter(|level| *level > 0);
        let window_bits = number(&said.window_bits).and_then(|bits| u8::try_from(bits).ok());
        let window_bits = window_bits.unwrap_or(defaults::ENVOY_GZIP_WINDOW_BITS);
        return Some(Coder::Gzip { level, window_bits });
    }
    if let Some(said) = unpack::<brotli::Brotli>(any) {
        return Some(Coder::Brotli {
            quality: number(&said.quality).unwrap_or(defaults::ENVOY_BROTLI_QUALITY),
            window_bits: number(&said.window_bits).unwrap_or(defaults::BROTLI_WINDOW_BITS),
        });
    }
    let Some(said) = unpack::<zstd::Zstd>(any) else {
        unknown(any, &path, findings);
        return None;
    };
    let level = number(&said.compression_level).unwrap_or(defaults::ZSTD_LEVEL);
    if level == 0 || level > 19 {
        let text = format!("{level} is no level of zstd that readers have room for: 1 to 19");
        let path = path.field("typed_config");
        findings.error(&path.field("compression_level"), code::INVALID_VALUE, text, "");
    }
    Some(Coder::Zstd { level, has_checksum: said.enable_checksum })
}

fn decompress(
    said: &decompressor::Decompressor,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<Decompressor> {
    let of_library = path.field("decompressor_library");
    let any = library(said.decompressor_library.as_ref(), &of_library, findings)?;
    let mut made = if let Some(said) = unpack::<gzip_decompressor::Gzip>(any) {
        let mut made = Decompressor::new(vec![ContentCoding::Gzip]);
        made.ratio_max = number(&said.max_inflate_ratio).unwrap_or(made.ratio_max);
        made
    } else if unpack::<brotli_decompressor::Brotli>(any).is_some() {
        Decompressor::new(vec![ContentCoding::Brotli])
    } else if unpack::<zstd_decompressor::Zstd>(any).is_some() {
        Decompressor::new(vec![ContentCoding::Zstd])
    } else {
        unknown(any, &of_library, findings);
        return None;
    };
    // Envoy has no bound of bytes; bodies pass as they come.
    made.bytes_max = u64::MAX;
    let common = said.request_direction_config.as_ref().and_then(|said| said.common_config.as_ref());
    made.is_enabled = is_on(common.and_then(|common| common.enabled.as_ref()));
    made.ignores_no_transform = common.is_some_and(|common| common.ignore_no_transform_header);
    let answers = said.response_direction_config.as_ref().and_then(|said| said.common_config.as_ref());
    let told =
        said.request_direction_config.as_ref().and_then(|said| said.advertise_accept_encoding.as_ref());
    made.answers = is_on(answers.and_then(|common| common.enabled.as_ref())).then(|| DecompressedAnswers {
        ignores_no_transform: answers.is_some_and(|common| common.ignore_no_transform_header),
        is_told: told.is_none_or(|said| said.value),
    });
    Some(made)
}
