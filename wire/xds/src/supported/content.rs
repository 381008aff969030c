//! Of the filters `compressor`, `decompressor` and `buffer`: in which coding a body goes, and how much of it there may be.

pub(super) const SUPPORTED: &[(&str, &[&str])] = &[
    (
        "envoy.extensions.filters.http.compressor.v3.Compressor",
        &[
            "content_length",
            "content_type",
            "disable_on_etag_header",
            "remove_accept_encoding_header",
            "runtime_enabled",
            "compressor_library",
            "request_direction_config",
            "response_direction_config",
            "choose_first",
        ],
    ),
    (
        "envoy.extensions.filters.http.compressor.v3.Compressor.CommonDirectionConfig",
        &["enabled", "min_content_length", "content_type"],
    ),
    ("envoy.extensions.filters.http.compressor.v3.Compressor.RequestDirectionConfig", &["common_config"]),
    (
        "envoy.extensions.filters.http.compressor.v3.Compressor.ResponseDirectionConfig",
        &[
            "common_config",
            "disable_on_etag_header",
            "weaken_etag_on_compress",
            "remove_accept_encoding_header",
            "uncompressible_response_codes",
            "status_header_enabled",
        ],
    ),
    ("envoy.extensions.filters.http.compressor.v3.CompressorPerRoute", &["disabled", "overrides"]),
    (
        "envoy.extensions.filters.http.compressor.v3.CompressorOverrides",
        &["response_direction_config", "compressor_library"],
    ),
    (
        "envoy.extensions.filters.http.compressor.v3.ResponseDirectionOverrides",
        &["remove_accept_encoding_header"],
    ),
    // How much is compressed at a time is nothing that anybody sees: `chunk_size` holds as it is.
    (
        "envoy.extensions.compression.gzip.compressor.v3.Gzip",
        &["compression_level", "compression_strategy=DEFAULT_STRATEGY", "window_bits", "chunk_size*"],
    ),
    (
        "envoy.extensions.compression.brotli.compressor.v3.Brotli",
        &["quality", "encoder_mode=DEFAULT", "window_bits", "chunk_size*"],
    ),
    (
        "envoy.extensions.compression.zstd.compressor.v3.Zstd",
        &["compression_level", "enable_checksum", "strategy=DEFAULT", "chunk_size*"],
    ),
    (
        "envoy.extensions.filters.http.decompressor.v3.Decompressor",
        &["decompressor_library", "request_direction_config", "response_direction_config"],
    ),
    (
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.CommonDirectionConfig",
        &["enabled", "ignore_no_transform_header"],
    ),
    (
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.RequestDirectionConfig",
        &["common_config", "advertise_accept_encoding"],
    ),
    (
        "envoy.extensions.filters.http.decompressor.v3.Decompressor.ResponseDirectionConfig",
        &["common_config"],
    ),
    ("envoy.extensions.compression.gzip.decompressor.v3.Gzip", &["max_inflate_ratio", "chunk_size*"]),
    ("envoy.extensions.compression.brotli.decompressor.v3.Brotli", &["chunk_size*"]),
    ("envoy.extensions.compression.zstd.decompressor.v3.Zstd", &["chunk_size*"]),
    // There is no runtime that could say otherwise.
    ("envoy.config.core.v3.RuntimeFeatureFlag", &["default_value", "runtime_key"]),
    ("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", &["disabled", "buffer"]),
];
