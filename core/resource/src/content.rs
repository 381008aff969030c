//! Our own kinds `Compression` and `StaticFiles`: in which coding bodies go, and files in an upstream's place.

use crate::traffic_policy::TargetRef;
use crate::{Flag, Meta, Number, Place, Placed, Text, Texts};

objects! {
    Compression {
        meta: Meta,
        spec: CompressionSpec,
    }

    CompressionSpec {
        /// A Gateway, a VirtualService, or one of its routes; without it, all gateways.
        target_ref: Option<TargetRef>,
        responses: Option<CompressionResponses>,
        requests: Option<CompressionRequests>,
    }

    CompressionResponses {
        disabled: Option<Flag>,
        /// `zstd`, `br`, `gzip`: the one that is liked most first.
        codings: Texts,
        levels: Option<CompressionLevels>,
        min_bytes: Option<Number>,
        content_types: Texts,
    }

    CompressionLevels {
        zstd: Option<Number>,
        br: Option<Number>,
        gzip: Option<Number>,
    }

    /// Read out of their codings.
    CompressionRequests {
        disabled: Option<Flag>,
        codings: Texts,
        max_bytes: Option<Number>,
        max_ratio: Option<Number>,
    }

    StaticFiles {
        meta: Meta,
        spec: StaticFilesSpec,
    }

    StaticFilesSpec {
        /// A VirtualService, or one of its routes.
        target_ref: TargetRef,
        directory: Text,
        strip_prefix: Option<Text>,
        index: Texts,
        /// `.html`: what may be left out of a path.
        extensions: Texts,
        fallback: Option<Text>,
        not_found: Option<Text>,
        otherwise: Option<Placed<FilesOtherwise>>,
        /// `zstd`, `br`, `gzip`
        precompressed: Texts,
        symlinks: Option<Placed<FilesLinks>>,
        hidden: Option<Flag>,
        cache_control: Vec<FilesLifetime>,
        /// By extension, without its dot.
        types: Vec<(Text, Text)>,
        default_type: Option<Text>,
    }

    FilesLifetime {
        path: Text,
        value: Text,
    }
}

/// What is done where there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesOtherwise {
    NotFound,
    Forward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilesLinks {
    Refuse,
    Within,
    Follow,
}
