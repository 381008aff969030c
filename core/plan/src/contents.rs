//! What becomes of bodies: what `Compression` and `StaticFiles` documents mean.
//!
//! A Compression is for all gateways, for one of them, or for routes; the closest holds, whole. StaticFiles are for routes,
//! and so is the closest of them. Both become checks of a gate, which is where requests meet them.

use std::collections::BTreeMap;

use naru_resource::content::{
    Compression, CompressionRequests, CompressionResponses, FilesLinks, FilesOtherwise,
    StaticFiles as SaidFiles,
};
use naru_resource::traffic_policy::TargetRef;
use naru_resource::{Gateway, Meta, Number, Place, Resources, Text};
use naru_spec::{
    Check, CheckKind, Coder, Compressor, ContentCoding, Decompressor, GateChange, Lifetime, Links, Listener,
    OnEtag, Path, StaticFiles, code, defaults,
};

use crate::account::{Account, DOCUMENT, Idle, Said};
use crate::attached::{self, RouteKey, Target};
use crate::findings::Findings;
use crate::registry::Registry;

const COMPRESSION: &str = "compression";
const FILES: &str = "staticFiles";
/// What checks of a Compression are called, whichever document they are of: a closer one takes their place by name.
const NAMES: [&str; 4] = ["Compression/gzip", "Compression/br", "Compression/zstd", "Compression/requests"];

#[derive(Debug, Default)]
pub(crate) struct Contents<'a> {
    of_all: Option<(Place, Vec<Check>)>,
    of_gateways: Vec<(&'a Gateway, Place, Vec<Check>)>,
    of_routes: BTreeMap<RouteKey, (Place, Vec<Check>)>,
    files: BTreeMap<RouteKey, (Place, Check)>,
}

impl<'a> Contents<'a> {
    pub fn of(
        resources: &'a Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) -> Contents<'a> {
        let mut contents = Contents::default();
        for document in &resources.compressions {
            contents.compression(document, resources, registry, account, findings);
        }
        for document in &resources.static_files {
            contents.static_files(document, resources, registry, account, findings);
        }
        contents
    }

    fn compression(
        &mut self,
        document: &Compression,
        resources: &'a Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) {
        let (spec, meta, place) = (&document.spec, &document.meta, document.meta.name.place);
        let path = Path::ROOT.field("spec");
        if spec.responses.is_none() && spec.requests.is_none() {
            let message = "it says nothing of responses and nothing of requests";
            findings.error(code::MISSING_FIELD, spec.place, &path, message, "say responses: {}");
        }
        let mut checks = spec.responses.as_ref().map(|said| compressors(said, findings)).unwrap_or_default();
        checks.extend(spec.requests.as_ref().and_then(|said| decompressor(said, findings)));
        let before = match &spec.target_ref {
            None => self.of_all.replace((place, checks)).map(|(place, _)| place),
            Some(target) if target.kind.value == "Gateway" => {
                let Some(gateway) = gateway_of(target, meta, resources, findings) else { return };
                let known = self.of_gateways.iter().find(|(known, _, _)| std::ptr::eq(*known, gateway));
                let known = known.map(|(_, place, _)| *place);
                self.of_gateways.push((gateway, place, checks));
                known
            }
            Some(target) => {
                let of = "it can be attached to a Gateway, to a VirtualService, to one of its routes by \
                          sectionName, or to all gateways without a targetRef";
                let key = route_of(target, "Compression", of, meta, resources, registry, findings);
                let Some(key) = key else { return };
                expect(COMPRESSION, place, &key, account);
                self.of_routes.insert(key, (place, checks)).map(|(place, _)| place)
            }
        };
        twice(before, place, findings);
    }

    fn static_files(
        &mut self,
        document: &SaidFiles,
        resources: &Resources,
        registry: &Registry,
        account: &mut Account,
        findings: &mut Findings<'_>,
    ) {
        let (meta, place) = (&document.meta, document.meta.name.place);
        let files = files(document, findings);
        let of = "it can be attached to a VirtualService, or to one of its routes by sectionName";
        let target = &document.spec.target_ref;
        let Some(key) = route_of(target, "StaticFiles", of, meta, resources, registry, findings) else {
            return;
        };
        expect(FILES, place, &key, account);
        let name = format!("StaticFiles/{}/{}", meta.namespace(), meta.name.value);
        let check = Check { name, kind: CheckKind::Files(Box::new(files)) };
        let before = self.files.insert(key, (place, check)).map(|(place, _)| place);
        twice(before, place, findings);
    }

    /// Changes a listener of these gateways.
    pub fn change(&self, gateways: &[&Gateway], listener: &mut Listener) {
        let is_of = |known: &Gateway| gateways.iter().any(|gateway| std::ptr::eq(known, *gateway));
        let own = self.of_gateways.iter().find(|(known, _, _)| is_of(known)).map(|(_, _, checks)| checks);
        let checks = own.or(self.of_all.as_ref().map(|(_, checks)| checks));
        for chain in listener.chains.iter_mut().filter(|chain| chain.tcp.is_none()) {
            for check in checks.into_iter().flatten() {
                chain.http.gate.insert(check.clone());
            }
        }
    }

    /// What a route says otherwise than its listener.
    pub fn of_route(&self, keys: &[RouteKey], account: &mut Account) -> Vec<GateChange> {
        let mut changes = Vec::new();
        let mut found = keys.iter().filter_map(|key| self.of_routes.get(key));
        if let Some((place, checks)) = found.next() {
            account.take(*place, COMPRESSION);
            changes.extend(NAMES.iter().map(|name| GateChange::Without((*name).to_owned())));
            changes.extend(checks.iter().cloned().map(GateChange::Also));
        }
        found.for_each(|(other, _)| account.pass(*other, COMPRESSION, Idle::Outdone));
        let mut found = keys.iter().filter_map(|key| self.files.get(key));
        if let Some((place, check)) = found.next() {
            account.take(*place, FILES);
            changes.push(GateChange::Also(check.clone()));
        }
        found.for_each(|(other, _)| account.pass(*other, FILES, Idle::Outdone));
        changes
    }
}

fn expect(field: &'static str, place: Place, key: &RouteKey, account: &mut Account) {
    let (path, route) = (DOCUMENT.to_owned(), Some(key.clone()));
    account.expect(Said { place, field, path, route, otherwise: Idle::NoHttp });
}

fn twice(before: Option<Place>, place: Place, findings: &mut Findings<'_>) {
    if let Some(before) = before {
        let message = format!("two documents are for the same: the other is {}", findings.locate(before));
        findings.error(code::CONFLICT, place, &Path::ROOT.field("spec"), message, "join them");
    }
}

fn gateway_of<'a>(
    target: &TargetRef,
    meta: &Meta,
    resources: &'a Resources,
    findings: &mut Findings<'_>,
) -> Option<&'a Gateway> {
    let path = Path::ROOT.field("spec.targetRef");
    if let Some(section) = &target.section_name {
        let message = "a Gateway has no sections that this could be for";
        let path = path.field("sectionName");
        findings.error(code::UNSUPPORTED_FIELD, section.place, &path, message, "remove it");
    }
    let namespace = meta.namespace();
    let gateway = resources.gateways.iter().find(|gateway| {
        gateway.meta.name.value == target.name.value && gateway.meta.namespace() == namespace
    });
    if gateway.is_none() {
        let message = format!("there is no Gateway '{}' in {namespace}", target.name.value);
        findings.error(code::UNKNOWN_REFERENCE, target.name.place, &path.field("name"), message, "");
    }
    gateway
}

fn route_of(
    target: &TargetRef,
    kind: &str,
    hint: &str,
    meta: &Meta,
    resources: &Resources,
    registry: &Registry,
    findings: &mut Findings<'_>,
) -> Option<RouteKey> {
    if !attached::is_of_routes(&target.kind) {
        let message = format!("a {kind} cannot be attached to a {}", target.kind.value);
        let path = Path::ROOT.field("spec.targetRef.kind");
        findings.error(code::UNKNOWN_VALUE, target.kind.place, &path, message, hint);
        return None;
    }
    attached::check_group(target, findings);
    match Target::of(target, kind, meta.namespace(), resources, registry, findings)? {
        Target::Route(key) => Some(key),
        Target::Service(_) => None,
    }
}

/// Codings by their names; all of them where none is said.
fn codings(said: &[Text], path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<ContentCoding> {
    if said.is_empty() {
        return ContentCoding::ALL.to_vec();
    }
    let mut found = Vec::new();
    for (at, text) in said.iter().enumerate() {
        match ContentCoding::named(&text.value) {
            Some(coding) if found.contains(&coding) => {
                let message = format!("'{}' is there twice", text.value);
                findings.error(code::DUPLICATE, text.place, &path.at(at), message, "remove it");
            }
            Some(coding) => found.push(coding),
            None => {
                let message = format!("'{}' is no coding that naru knows", text.value);
                findings.error(code::UNKNOWN_VALUE, text.place, &path.at(at), message, "zstd, br or gzip");
            }
        }
    }
    found
}

/// Within these bounds; otherwise it is told.
fn number(
    said: Option<&Number>,
    least: u64,
    most: u64,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<u64> {
    let said = said?;
    let found = u64::try_from(said.value).ok().filter(|value| (least..=most).contains(value));
    if found.is_none() {
        let message = format!("{} is out of range: {least} to {most}", said.value);
        findings.error(code::INVALID_VALUE, said.place, path, message, "");
    }
    found
}

/// The one that is liked most stands last: among equals it goes first.
fn compressors(said: &CompressionResponses, findings: &mut Findings<'_>) -> Vec<Check> {
    let path = Path::ROOT.field("spec.responses");
    let codings = codings(&said.codings, &path.field("codings"), findings);
    let of_levels = path.field("levels");
    let levels = said.levels.as_ref();
    let mut level = |said: Option<&Number>, name: &'static str, most: u64| {
        let least = u64::from(name != "br");
        number(said, least, most, &of_levels.field(name), findings)
            .and_then(|level| u32::try_from(level).ok())
    };
    let zstd = level(levels.and_then(|said| said.zstd.as_ref()), "zstd", 19);
    let br = level(levels.and_then(|said| said.br.as_ref()), "br", 11);
    let gzip = level(levels.and_then(|said| said.gzip.as_ref()), "gzip", 9);
    let most = u64::from(u32::MAX);
    let length_min = number(said.min_bytes.as_ref(), 0, most, &path.field("minBytes"), findings);
    let length_min = length_min.and_then(|bytes| u32::try_from(bytes).ok());
    let usual = || defaults::COMPRESSED_TYPES.iter().chain(defaults::COMPRESSED_TYPES_MORE);
    let content_types: Vec<String> = match said.content_types.is_empty() {
        true => usual().map(|name| (*name).to_owned()).collect(),
        false => said.content_types.iter().map(|text| text.value.to_ascii_lowercase()).collect(),
    };
    let of_types = path.field("contentTypes");
    for (at, text) in said.content_types.iter().enumerate() {
        if !text.value.contains('/') || text.value.contains(';') {
            let message = format!("'{}' is no media type without parameters", text.value);
            findings.error(code::INVALID_VALUE, text.place, &of_types.at(at), message, "such as text/html");
        }
    }
    if said.disabled.is_some_and(|flag| flag.value) {
        return Vec::new();
    }
    let made = codings.into_iter().rev().map(|coding| {
        let coder = match (coding, Coder::usual(coding)) {
            (_, Coder::Gzip { window_bits, .. }) if gzip.is_some() => {
                Coder::Gzip { level: gzip, window_bits }
            }
            (_, Coder::Brotli { quality, window_bits }) => {
                Coder::Brotli { quality: br.unwrap_or(quality), window_bits }
            }
            (_, Coder::Zstd { level, has_checksum }) => {
                Coder::Zstd { level: zstd.unwrap_or(level), has_checksum }
            }
            (_, usual) => usual,
        };
        let compressor = Compressor {
            length_min: length_min.unwrap_or(defaults::COMPRESSION_BYTES_MIN),
            content_types: content_types.clone(),
            etag: OnEtag::Weaken,
            is_first: true,
            ..Compressor::new(coder)
        };
        let name = format!("Compression/{}", coding.name());
        Check { name, kind: CheckKind::Compress(Box::new(compressor)) }
    });
    made.collect()
}

fn decompressor(said: &CompressionRequests, findings: &mut Findings<'_>) -> Option<Check> {
    let path = Path::ROOT.field("spec.requests");
    let mut made = Decompressor::new(codings(&said.codings, &path.field("codings"), findings));
    let bytes = number(said.max_bytes.as_ref(), 1, u64::MAX, &path.field("maxBytes"), findings);
    made.bytes_max = bytes.unwrap_or(made.bytes_max);
    let ratio = number(said.max_ratio.as_ref(), 1, u64::from(u32::MAX), &path.field("maxRatio"), findings);
    made.ratio_max = ratio.and_then(|ratio| u32::try_from(ratio).ok()).unwrap_or(made.ratio_max);
    if said.disabled.is_some_and(|flag| flag.value) {
        return None;
    }
    Some(Check { name: "Compression/requests".to_owned(), kind: CheckKind::Decompress(Box::new(made)) })
}

fn files(document: &SaidFiles, findings: &mut Findings<'_>) -> StaticFiles {
    let said = &document.spec;
    let path = Path::ROOT.field("spec");
    let mut made = StaticFiles::new(said.directory.value.clone());
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    let texts = |texts: &[Text]| texts.iter().map(|text| text.value.clone()).collect::<Vec<_>>();
    if !said.directory.value.starts_with('/') {
        let message = format!("'{}' is not the whole path of a directory", said.directory.value);
        let hint = "begin it with a slash: /srv/www";
        findings.error(code::INVALID_VALUE, said.directory.place, &path.field("directory"), message, hint);
    }
    if let Some(prefix) = &said.strip_prefix {
        if !prefix.value.starts_with('/') {
            let message = format!("'{}' is no beginning of a path", prefix.value);
            let path = path.field("stripPrefix");
            findings.error(code::INVALID_VALUE, prefix.place, &path, message, "begin it with a slash");
        }
        made.prefix.clone_from(&prefix.value);
    }
    if !said.index.is_empty() {
        made.index = texts(&said.index);
    }
    let index = said.index.iter().map(|text| ("index", text));
    let pages = [("fallback", &said.fallback), ("notFound", &said.not_found)];
    let pages = pages.into_iter().filter_map(|(field, text)| Some((field, text.as_ref()?)));
    for (field, text) in index.chain(pages) {
        let mut names = text.value.split('/');
        if text.value.is_empty() || text.value.ends_with('/') || names.any(|name| name == "." || name == "..")
        {
            let message = format!("'{}' is no file below the directory", text.value);
            findings.error(code::INVALID_VALUE, text.place, &path.field(field), message, "");
        }
    }
    let of_extensions = path.field("extensions");
    for (at, text) in said.extensions.iter().enumerate() {
        if !text.value.starts_with('.') || text.value.contains('/') {
            let message = format!("'{}' is no extension", text.value);
            findings.error(code::INVALID_VALUE, text.place, &of_extensions.at(at), message, "such as .html");
        }
    }
    made.endings = texts(&said.extensions);
    made.fallback = text(&said.fallback);
    made.not_found = text(&said.not_found);
    if let (Some(first), Some(second)) = (&said.fallback, &said.not_found) {
        let message = "a page for what is not found is never given where there is a fallback";
        let hint = format!("'{}' is given instead: remove one", first.value);
        findings.error(code::CONFLICTING_FIELDS, second.place, &path.field("notFound"), message, hint);
    }
    made.passes_on = said.otherwise.is_some_and(|said| said.value == FilesOtherwise::Forward);
    let page = said.fallback.as_ref().or(said.not_found.as_ref());
    if let Some(page) = page.filter(|_| made.passes_on) {
        let message = "what has no file is forwarded: this page is never given";
        findings.error(code::CONFLICTING_FIELDS, page.place, &path.field("otherwise"), message, "remove one");
    }
    if !said.precompressed.is_empty() {
        made.precompressed = codings(&said.precompressed, &path.field("precompressed"), findings);
    }
    made.links = match said.symlinks.map(|said| said.value) {
        Some(FilesLinks::Refuse) => Links::Refused,
        Some(FilesLinks::Within) | None => Links::Within,
        Some(FilesLinks::Follow) => Links::Followed,
    };
    made.gives_hidden = said.hidden.is_some_and(|flag| flag.value);
    let lifetimes = said.cache_control.iter();
    made.lifetimes = lifetimes
        .map(|said| Lifetime { pattern: said.path.value.clone(), cache_control: said.value.value.clone() })
        .collect();
    let types = said.types.iter();
    made.types = types
        .map(|(name, said)| (name.value.trim_start_matches('.').to_ascii_lowercase(), said.value.clone()))
        .collect();
    if let Some(usual) = &said.default_type {
        made.usual_type.clone_from(&usual.value);
    }
    let values = said.cache_control.iter().map(|said| ("cacheControl", &said.value));
    let values = values.chain(said.types.iter().map(|(_, said)| ("types", said)));
    for (field, text) in values.chain(said.default_type.iter().map(|said| ("defaultType", said))) {
        if http::HeaderValue::from_str(&text.value).is_err() || text.value.is_empty() {
            let message = format!("'{}' cannot be the value of a header", text.value);
            findings.error(code::INVALID_VALUE, text.place, &path.field(field), message, "");
        }
    }
    made
}
