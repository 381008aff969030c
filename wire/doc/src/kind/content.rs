//! In which coding bodies go, and files in an upstream's place.

use naru_resource::content::{self, FilesLinks, FilesOtherwise};

use crate::kind::document;
use crate::read::{record, words};

document!(content::Compression { spec: "spec" });
record!(content::CompressionSpec { target_ref: "targetRef", responses: "responses", requests: "requests" });
record!(content::CompressionResponses {
    disabled: "disabled",
    codings: "codings",
    levels: "levels",
    min_bytes: "minBytes",
    content_types: "contentTypes",
});
record!(content::CompressionLevels { zstd: "zstd", br: "br", gzip: "gzip" });
record!(content::CompressionRequests {
    disabled: "disabled",
    codings: "codings",
    max_bytes: "maxBytes",
    max_ratio: "maxRatio",
});
document!(content::StaticFiles { spec: "spec" });
record!(content::StaticFilesSpec {
    target_ref: "targetRef",
    directory: "directory",
    strip_prefix: "stripPrefix",
    index: "index",
    extensions: "extensions",
    fallback: "fallback",
    not_found: "notFound",
    otherwise: "otherwise",
    precompressed: "precompressed",
    symlinks: "symlinks",
    hidden: "hidden",
    cache_control: "cacheControl",
    types: "types",
    default_type: "defaultType",
});
record!(content::FilesLifetime { path: "path", value: "value" });
words!(FilesOtherwise {
    "notFound" => FilesOtherwise::NotFound,
    "forward" => FilesOtherwise::Forward,
});
words!(FilesLinks {
    "refuse" => FilesLinks::Refuse,
    "within" => FilesLinks::Within,
    "follow" => FilesLinks::Follow,
});
