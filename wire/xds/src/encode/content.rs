//! The filters for codings of bodies, and for how large a body may be, in Envoy's words.

use naru_spec::{
    CheckKind, Coder, CompressedRequests, Compressor, CompressorChange, ContentCoding, Decompressor, OnEtag,
};

use super::value;
use crate::proto::{
    Any, BoolValue, brotli, brotli_decompressor, buffer, compressor, core, decompressor, gzip,
    gzip_decompressor, zstd, zstd_decompressor,
};
use crate::schema::pack;

/// What is ours alone has no spelling: bounds of bytes, and several codings at once.
pub(super) fn filter(kind: &CheckKind) -> Option<Any> {
    match kind {
        CheckKind::Compress(said) => Some(pack(&compress(said))),
        CheckKind::Decompress(said) => decompress(said).map(|said| pack(&said)),
        CheckKind::BodyLimit(max) => Some(pack(&limit(*max))),
        _ => None,
    }
}

/// The same of a route.
pub(super) fn of_route(kind: &CheckKind) -> Option<Any> {
    match kind {
        CheckKind::BodyLimit(max) => {
            use buffer::buffer_per_route::Override;
            let said =
                if *max == u64::MAX { Override::Disabled(true) } else { Override::Buffer(limit(*max)) };
            Some(pack(&buffer::BufferPerRoute { r#override: Some(said) }))
        }
        _ => None,
    }
}

/// What a route says to who compresses.
pub(super) fn change(said: &CompressorChange) -> Any {
    use compressor::compressor_per_route::Override;
    let said = match said {
        CompressorChange { answers: Some(false), .. } => Override::Disabled(true),
        said => Override::Overrides(compressor::CompressorOverrides {
            response_direction_config: said.answers.map(|_| compressor::ResponseDirectionOverrides {
                remove_accept_encoding_header: said.removes_accept_encoding.map(|value| BoolValue { value }),
            }),
            compressor_library: said.coder.as_ref().and_then(coder),
        }),
    };
    pack(&compressor::CompressorPerRoute { r#override: Some(said) })
}

/// What Envoy has no room for is its most.
fn limit(max: u64) -> buffer::Buffer {
    let max = u32::try_from(max).unwrap_or(u32::MAX);
    buffer::Buffer { max_request_bytes: Some(value::number(max)) }
}

fn flag(is_on: bool) -> core::RuntimeFeatureFlag {
    core::RuntimeFeatureFlag {
        default_value: Some(BoolValue { value: is_on }),
        runtime_key: "none".to_owned(),
    }
}

fn library(name: &str, config: Any) -> Option<core::TypedExtensionConfig> {
    Some(core::TypedExtensionConfig { name: name.to_owned(), typed_config: Some(config) })
}

fn coder(said: &Coder) -> Option<core::TypedExtensionConfig> {
    match *said {
        Coder::Gzip { level, window_bits } => library(
            "gzip",
            pack(&gzip::Gzip {
                compression_level: level.and_then(|level| i32::try_from(level).ok()).unwrap_or(0),
                window_bits: Some(value::number(window_bits.into())),
                ..Default::default()
            }),
        ),
        Coder::Brotli { quality, window_bits } => library(
            "brotli",
            pack(&brotli::Brotli {
                quality: Some(value::number(quality)),
                window_bits: Some(value::number(window_bits)),
                ..Default::default()
            }),
        ),
        Coder::Zstd { level, has_checksum } => library(
            "zstd",
            pack(&zstd::Zstd {
                compression_level: Some(value::number(level)),
                enable_checksum: has_checksum,
                ..Default::default()
            }),
        ),
    }
}

fn compress(said: &Compressor) -> compressor::Compressor {
    use compressor::compressor::{CommonDirectionConfig, RequestDirectionConfig, ResponseDirectionConfig};
    #[expect(deprecated, reason = "what takes its place matches more than it, and is not acted on")]
    let common = |is_on: bool, length_min: u32, content_types: &[String]| {
        Some(CommonDirectionConfig {
            enabled: Some(flag(is_on)),
            min_content_length: Some(value::number(length_min)),
            content_type: content_types.to_vec(),
            ..Default::default()
        })
    };
    compressor::Compressor {
        compressor_library: coder(&said.coder),
        request_direction_config: said.requests.as_ref().map(
            |CompressedRequests { length_min, content_types }| RequestDirectionConfig {
                common_config: common(true, *length_min, content_types),
            },
        ),
        response_direction_config: Some(ResponseDirectionConfig {
            common_config: common(said.is_enabled, said.length_min, &said.content_types),
            disable_on_etag_header: said.etag == OnEtag::Leave,
            weaken_etag_on_compress: said.etag == OnEtag::Weaken,
            remove_accept_encoding_header: said.removes_accept_encoding,
            uncompressible_response_codes: said.statuses_not.iter().map(|code| u32::from(*code)).collect(),
            status_header_enabled: said.tells_status,
        }),
        choose_first: said.is_first,
        ..Default::default()
    }
}

fn decompress(said: &Decompressor) -> Option<decompressor::Decompressor> {
    use decompressor::decompressor::{
        CommonDirectionConfig, RequestDirectionConfig, ResponseDirectionConfig,
    };
    let [coding] = said.codings[..] else { return None };
    let common = |is_on: bool, ignores: bool| {
        Some(CommonDirectionConfig { enabled: Some(flag(is_on)), ignore_no_transform_header: ignores })
    };
    Some(decompressor::Decompressor {
        decompressor_library: match coding {
            ContentCoding::Gzip => library(
                "gzip",
                pack(&gzip_decompressor::Gzip {
                    max_inflate_ratio: Some(value::number(said.ratio_max)),
                    ..Default::default()
                }),
            ),
            ContentCoding::Brotli => library("brotli", pack(&brotli_decompressor::Brotli::default())),
            ContentCoding::Zstd => library("zstd", pack(&zstd_decompressor::Zstd::default())),
        },
        request_direction_config: Some(RequestDirectionConfig {
            common_config: common(said.is_enabled, said.ignores_no_transform),
            advertise_accept_encoding: said.answers.as_ref().map(|said| BoolValue { value: said.is_told }),
        }),
        response_direction_config: Some(ResponseDirectionConfig {
            common_config: common(
                said.answers.is_some(),
                said.answers.as_ref().is_some_and(|said| said.ignores_no_transform),
            ),
        }),
    })
}
