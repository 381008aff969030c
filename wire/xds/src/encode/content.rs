//! The filters for codings of bodies, and for how large a body may be, in Envoy's words.

use naru_spec::{CheckKind, Coder, Compressor, ContentCoding, Decompressor, OnEtag};

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
        CheckKind::Compress(said) if !said.is_enabled => Some(pack(&compressor::CompressorPerRoute {
            r#override: Some(compressor::compressor_per_route::Override::Disabled(true)),
        })),
        CheckKind::BodyLimit(max) => {
            use buffer::buffer_per_route::Override;
            let said =
                if *max == u64::MAX { Override::Disabled(true) } else { Override::Buffer(limit(*max)) };
            Some(pack(&buffer::BufferPerRoute { r#override: Some(said) }))
        }
        _ => None,
    }
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

fn compress(said: &Compressor) -> compressor::Compressor {
    use compressor::compressor::{CommonDirectionConfig, ResponseDirectionConfig};
    #[expect(deprecated, reason = "what takes its place matches more than it, and is not acted on")]
    let common = CommonDirectionConfig {
        enabled: Some(flag(said.is_enabled)),
        min_content_length: Some(value::number(said.length_min)),
        content_type: said.content_types.clone(),
        ..Default::default()
    };
    compressor::Compressor {
        compressor_library: match said.coder {
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
        },
        response_direction_config: Some(ResponseDirectionConfig {
            common_config: Some(common),
            disable_on_etag_header: said.etag == OnEtag::Leave,
            weaken_etag_on_compress: said.etag == OnEtag::Weaken,
            remove_accept_encoding_header: said.removes_accept_encoding,
            uncompressible_response_codes: said.statuses_not.iter().map(|code| u32::from(*code)).collect(),
            ..Default::default()
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
            ..Default::default()
        }),
        response_direction_config: Some(ResponseDirectionConfig { common_config: common(false, false) }),
    })
}
