//! Makes `descriptors/envoy.bin`: the part of Envoy's protobuf descriptors that this crate needs.
//!
//! Comes in: the descriptor set in the published `envoy-types` crate (`src/generated/types.bin`,
//! found through `cargo metadata`). Goes out: the files of [`ROOTS`] and all that they import, in
//! the same order, without source info (comments and positions). It works on the wire format, since
//! prost's own `FileDescriptorProto` would drop the options that carry Envoy's validation rules.
//!
//! `cargo run -p naru-xds --example trim_descriptors` writes the file; a test proves it fresh.

#![allow(clippy::print_stderr, reason = "it is run by a person or a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

/// What a bootstrap file may hold, beside what these import.
const ROOTS: &[&str] = &[
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/compression/brotli/compressor/v3/brotli.proto",
    "envoy/extensions/compression/brotli/decompressor/v3/brotli.proto",
    "envoy/extensions/compression/gzip/compressor/v3/gzip.proto",
    "envoy/extensions/compression/gzip/decompressor/v3/gzip.proto",
    "envoy/extensions/compression/zstd/compressor/v3/zstd.proto",
    "envoy/extensions/compression/zstd/decompressor/v3/zstd.proto",
    "envoy/extensions/filters/http/api_key_auth/v3/api_key_auth.proto",
    "envoy/extensions/filters/http/basic_auth/v3/basic_auth.proto",
    "envoy/extensions/filters/http/buffer/v3/buffer.proto",
    "envoy/extensions/filters/http/compressor/v3/compressor.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/csrf/v3/csrf.proto",
    "envoy/extensions/filters/http/decompressor/v3/decompressor.proto",
    "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_web/v3/grpc_web.proto",
    "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
    "envoy/extensions/filters/http/ratelimit/v3/rate_limit.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/connection_limit/v3/connection_limit.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/filters/udp/udp_proxy/v3/route.proto",
    "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.proto",
    "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
    "envoy/extensions/resource_monitors/cgroup_memory/v3/cgroup_memory.proto",
    "envoy/extensions/resource_monitors/cpu_utilization/v3/cpu_utilization.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.proto",
    "envoy/extensions/resource_monitors/injected_resource/v3/injected_resource.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
    "envoy/extensions/transport_sockets/quic/v3/quic_transport.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/wrappers.proto",
    "validate/validate.proto",
];

/// Numbers of fields in `google/protobuf/descriptor.proto`.
const SET_FILE: u64 = 1;
const FILE_NAME: u64 = 1;
const FILE_DEPENDENCY: u64 = 3;
const FILE_SOURCE_CODE_INFO: u64 = 9;

#[allow(dead_code)]
fn main() -> Result<(), String> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("descriptors/envoy.bin");
    let bytes = trimmed()?;
    std::fs::write(&target, &bytes).map_err(|e| format!("{}: {e}", target.display()))?;
    eprintln!("{}: {} bytes", target.display(), bytes.len());
    Ok(())
}

/// The bytes that `descriptors/envoy.bin` should hold.
pub fn trimmed() -> Result<Vec<u8>, String> {
    let source = source()?;
    let bytes = std::fs::read(&source).map_err(|e| format!("{}: {e}", source.display()))?;
    trim(&bytes).ok_or_else(|| format!("{}: not a descriptor set", source.display()))
}

/// Where cargo keeps the descriptor set of `envoy-types`.
fn source() -> Result<PathBuf, String> {
    let version = run("rustc", &["-vV"])?;
    let version = String::from_utf8_lossy(&version);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    // Without the filter cargo asks for crates that only other platforms need.
    let arguments = [
        "metadata",
        "--format-version",
        "1",
        "--offline",
        "--filter-platform",
        host,
        "--manifest-path",
        manifest,
    ];
    let metadata: serde_json::Value =
        serde_json::from_slice(&run(&cargo, &arguments)?).map_err(|e| format!("cargo metadata: {e}"))?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata names no envoy-types")?;
    Ok(PathBuf::from(manifest).with_file_name("src/generated/types.bin"))
}

fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

struct File<'a> {
    name: &'a str,
    dependencies: Vec<&'a str>,
    /// Every field but the source info, as encoded.
    body: Vec<u8>,
}

fn trim(set: &[u8]) -> Option<Vec<u8>> {
    let mut files = Vec::new();
    for field in Fields(set) {
        let field = field?;
        if field.number == SET_FILE {
            files.push(file(field.payload)?);
        }
    }
    let by_name: BTreeMap<&str, &File<'_>> = files.iter().map(|f| (f.name, f)).collect();
    let mut wanted = BTreeSet::new();
    let mut left: Vec<&str> = ROOTS.to_vec();
    while let Some(name) = left.pop() {
        let file = by_name.get(name)?;
        if wanted.insert(file.name) {
            left.extend(&file.dependencies);
        }
    }
    let mut out = Vec::new();
    for file in files.iter().filter(|f| wanted.contains(f.name)) {
        write_number(&mut out, (SET_FILE << 3) | 2);
        write_number(&mut out, file.body.len() as u64);
        out.extend_from_slice(&file.body);
    }
    Some(out)
}

fn file(bytes: &[u8]) -> Option<File<'_>> {
    let mut file = File { name: "", dependencies: Vec::new(), body: Vec::new() };
    for field in Fields(bytes) {
        let field = field?;
        match field.number {
            FILE_NAME => file.name = std::str::from_utf8(field.payload).ok()?,
            FILE_DEPENDENCY => file.dependencies.push(std::str::from_utf8(field.payload).ok()?),
            _ => {}
        }
        if field.number != FILE_SOURCE_CODE_INFO {
            file.body.extend_from_slice(field.whole);
        }
    }
    Some(file)
}

/// The fields of one encoded message; `None` where the bytes are not one.
struct Fields<'a>(&'a [u8]);

struct Field<'a> {
    number: u64,
    /// Of a length-delimited field; empty for the others.
    payload: &'a [u8],
    /// Tag and all.
    whole: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Option<Field<'a>>> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<Field<'a>> {
        let start = self.0;
        let tag = self.number()?;
        let payload = match tag & 7 {
            0 => {
                self.number()?;
                &[][..]
            }
            1 => {
                self.take(8)?;
                &[][..]
            }
            2 => {
                let length = self.number()?;
                self.take(usize::try_from(length).ok()?)?
            }
            5 => {
                self.take(4)?;
                &[][..]
            }
            _ => return None,
        };
        let whole = start.get(..start.len() - self.0.len())?;
        Some(Field { number: tag >> 3, payload, whole })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
