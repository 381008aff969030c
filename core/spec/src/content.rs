//! What becomes of bodies: in which coding they go, how much of them is read, which files are given.
//!
//! All of it stands in the [gate](crate::Gate), as what requests pass: there a listener and a route say it alike.

use crate::{Invalid, defaults};

/// A content coding (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    Gzip,
    Brotli,
    Zstd,
}

impl ContentCoding {
    pub const ALL: [ContentCoding; 3] = [ContentCoding::Zstd, ContentCoding::Brotli, ContentCoding::Gzip];

    /// As `Content-Encoding` says it.
    pub fn name(self) -> &'static str {
        match self {
            ContentCoding::Gzip => "gzip",
            ContentCoding::Brotli => "br",
            ContentCoding::Zstd => "zstd",
        }
    }

    /// What stands behind the name of a file that is in it.
    pub fn ending(self) -> &'static str {
        match self {
            ContentCoding::Gzip => ".gz",
            ContentCoding::Brotli => ".br",
            ContentCoding::Zstd => ".zst",
        }
    }

    pub fn named(name: &str) -> Option<ContentCoding> {
        ContentCoding::ALL.into_iter().find(|coding| coding.name() == name)
    }
}

/// A coding, and how hard it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coder {
    /// `level` is 1 to 9, or the library's own; `window_bits` 9 to 15.
    Gzip { level: Option<u32>, window_bits: u8 },
    /// `quality` is 0 to 11, `window_bits` 10 to 24.
    Brotli { quality: u32, window_bits: u32 },
    /// `level` is 1 to 19.
    Zstd { level: u32, has_checksum: bool },
}

impl Coder {
    pub fn coding(&self) -> ContentCoding {
        match self {
            Coder::Gzip { .. } => ContentCoding::Gzip,
            Coder::Brotli { .. } => ContentCoding::Brotli,
            Coder::Zstd { .. } => ContentCoding::Zstd,
        }
    }

    fn problems(&self) -> Vec<Invalid> {
        let (what, most, said) = match *self {
            Coder::Gzip { level, .. } => ("gzip", 9, level.unwrap_or(1)),
            Coder::Brotli { quality, .. } => ("brotli", 11, quality),
            Coder::Zstd { level, .. } => ("zstd", 19, level),
        };
        let problem = (said > most)
            .then(|| Invalid::new(format!("{said} is no level of {what}")).hint(format!("at most {most}")));
        problem.into_iter().collect()
    }

    /// Of a coding whose settings nobody says.
    pub fn usual(coding: ContentCoding) -> Coder {
        match coding {
            ContentCoding::Gzip => Coder::Gzip { level: None, window_bits: defaults::GZIP_WINDOW_BITS },
            ContentCoding::Brotli => {
                Coder::Brotli { quality: defaults::BROTLI_QUALITY, window_bits: defaults::BROTLI_WINDOW_BITS }
            }
            ContentCoding::Zstd => Coder::Zstd { level: defaults::ZSTD_LEVEL, has_checksum: false },
        }
    }
}

/// One way in which answers are compressed: Envoy's filter `compressor`. Several that stand beside each other choose by
/// what a client accepts; one answer is compressed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compressor {
    pub coder: Coder,
    /// Answers are compressed; else it only stands there for routes to say so.
    pub is_enabled: bool,
    /// Of an answer that says its length.
    pub length_min: u32,
    /// Without parameters, in small letters. Empty: all types.
    pub content_types: Vec<String>,
    pub etag: OnEtag,
    /// The request asks the upstream for no coding.
    pub removes_accept_encoding: bool,
    /// Answers with these are not compressed.
    pub statuses_not: Vec<u16>,
    /// Before those that the client accepts as gladly.
    pub is_first: bool,
    /// `x-envoy-compression-status` says of each answer what became of it.
    pub tells_status: bool,
    /// Requests are compressed on their way to upstreams.
    pub requests: Option<CompressedRequests>,
}

/// Which requests a [`Compressor`] compresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedRequests {
    /// Of a request that says its length.
    pub length_min: u32,
    /// Without parameters, in small letters. Empty: all types.
    pub content_types: Vec<String>,
}

/// What a route says to a [`Compressor`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CompressorChange {
    /// Whether answers are compressed.
    pub answers: Option<bool>,
    pub removes_accept_encoding: Option<bool>,
    pub coder: Option<Coder>,
}

/// What becomes of the strong ETag of an answer that is compressed: its bytes are others than the ETag is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEtag {
    Remove,
    Weaken,
    /// Answers with any ETag are not compressed.
    Leave,
}

impl Compressor {
    pub fn new(coder: Coder) -> Compressor {
        Compressor {
            coder,
            is_enabled: true,
            length_min: defaults::COMPRESSED_BYTES_MIN,
            content_types: defaults::COMPRESSED_TYPES.iter().map(|name| (*name).to_owned()).collect(),
            etag: OnEtag::Remove,
            removes_accept_encoding: false,
            statuses_not: Vec::new(),
            is_first: false,
            tells_status: false,
            requests: None,
        }
    }

    pub fn changed(&self, change: &CompressorChange) -> Compressor {
        let mut changed = self.clone();
        changed.is_enabled = change.answers.unwrap_or(self.is_enabled);
        changed.removes_accept_encoding =
            change.removes_accept_encoding.unwrap_or(self.removes_accept_encoding);
        changed.coder = change.coder.unwrap_or(self.coder);
        changed
    }

    pub fn problems(&self) -> Vec<Invalid> {
        self.coder.problems()
    }
}

impl CompressorChange {
    pub fn problems(&self) -> Vec<Invalid> {
        self.coder.iter().flat_map(Coder::problems).collect()
    }
}

/// Bodies are read out of their coding, within bounds: Envoy's filter `decompressor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decompressor {
    pub codings: Vec<ContentCoding>,
    /// Those of requests.
    pub is_enabled: bool,
    /// Also where `Cache-Control: no-transform` of a request says otherwise.
    pub ignores_no_transform: bool,
    /// Those of answers.
    pub answers: Option<DecompressedAnswers>,
    /// Of what comes out.
    pub bytes_max: u64,
    /// So many bytes come out of one, on the whole. What is small may grow by more.
    pub ratio_max: u32,
}

impl Decompressor {
    pub fn new(codings: Vec<ContentCoding>) -> Decompressor {
        Decompressor {
            codings,
            is_enabled: true,
            ignores_no_transform: false,
            answers: None,
            bytes_max: defaults::INFLATED_BYTES_MAX,
            ratio_max: defaults::INFLATED_RATIO_MAX,
        }
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let is_nothing = self.bytes_max == 0 || self.ratio_max == 0;
        let problem = is_nothing.then(|| Invalid::new("nothing may come out of a body").hint("1 or more"));
        problem.into_iter().collect()
    }
}

/// Which answers a [`Decompressor`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecompressedAnswers {
    /// Also where `Cache-Control: no-transform` of an answer says otherwise.
    pub ignores_no_transform: bool,
    /// Upstreams are told in `Accept-Encoding` that answers may be in these codings.
    pub is_told: bool,
}

/// Files that are given in an upstream's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticFiles {
    /// A directory.
    pub root: String,
    /// Taken away from the beginning of a path before it is looked for.
    pub prefix: String,
    /// What a path with a slash at its end means.
    pub index: Vec<String>,
    /// What may be left out of a path: `.html`.
    pub endings: Vec<String>,
    /// Given, with 200, where there is no file: a path below the root.
    pub fallback: Option<String>,
    /// Given, with 404, where there is none.
    pub not_found: Option<String>,
    /// Where there is no file, the request goes where its rule says.
    pub passes_on: bool,
    /// Files beside a file that are the same in a coding, and are given to who accepts it.
    pub precompressed: Vec<ContentCoding>,
    pub links: Links,
    /// Names that begin with a dot.
    pub gives_hidden: bool,
    /// `Cache-Control` of names: the first that fits.
    pub lifetimes: Vec<Lifetime>,
    /// By what stands behind the last dot of a name, before those that naru knows.
    pub types: Vec<(String, String)>,
    /// Of names whose ending nobody knows.
    pub usual_type: String,
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// None is followed.
    Refused,
    /// Those are followed that stay below the root.
    Within,
    /// Wherever they lead.
    Followed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Of a path below the root, `*` for any number of characters.
    pub pattern: String,
    pub cache_control: String,
}

impl StaticFiles {
    pub fn new(root: impl Into<String>) -> StaticFiles {
        StaticFiles {
            root: root.into(),
            prefix: String::new(),
            index: vec![defaults::FILES_INDEX.to_owned()],
            endings: Vec::new(),
            fallback: None,
            not_found: None,
            passes_on: false,
            precompressed: Vec::new(),
            links: Links::Within,
            gives_hidden: false,
            lifetimes: Vec::new(),
            types: Vec::new(),
            usual_type: defaults::FILES_TYPE.to_owned(),
        }
    }

    pub fn problems(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        if !self.root.starts_with('/') {
            let text = format!("'{}' is no directory that begins with a slash", self.root);
            found.push(Invalid::new(text).hint("say all of its path"));
        }
        let lifetimes = self.lifetimes.iter().map(|lifetime| ("cacheControl", &lifetime.cache_control));
        let types = self.types.iter().map(|(_, said)| ("types", said));
        for (field, value) in lifetimes.chain(types).chain([("defaultType", &self.usual_type)]) {
            if ::http::HeaderValue::from_str(value).is_err() || value.is_empty() {
                found.push(Invalid::new(format!("'{value}' of {field} cannot be the value of a header")));
            }
        }
        found
    }
}
