//! The words of the command line.
//!
//! Exit codes: 0 fine, 1 problems found, 2 usage.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use naru_sources::etcd::{self, Endpoint};

use crate::say::say;
use crate::{
    check_command, config_command, control_command, defaults_command, diff_command, explain_command,
    import_command, lsp_command, proxy_command, sessions_command, simulate_command, status_command,
    up_command, workload_command,
};

#[derive(Parser)]
#[command(
    name = "naru",
    version,
    about = "An edge gateway and service mesh in one binary",
    max_term_width = 100
)]
struct Naru {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that a directory describes: gateways, mesh and workloads, in one process
    Up(UpArgs),
    /// Say what is wrong with Istio and Kubernetes documents: every problem with its place
    Check(CheckArgs),
    /// Say where a request would go, and why: every rule that was considered
    Explain(ExplainArgs),
    /// Say what another configuration changes, and which requests of an access log it would send elsewhere
    Diff(DiffArgs),
    /// Answer an editor: problems of a directory of documents as they are typed (Language Server Protocol, on standard
    /// input and output)
    Lsp(LspArgs),
    /// Configurations that were in force in a 'naru up' that runs, or that an etcd had: list them, show one, go back to
    /// one, write another; what a proxy is started with
    Config(ConfigArgs),
    /// Write nginx and docker-compose files as Istio's and Kubernetes' documents; tell what is lost
    Import(ImportArgs),
    /// Carry traffic as an Envoy v3 bootstrap file says (YAML or JSON)
    #[command(after_help = PROXY_SIGNALS)]
    Proxy(ProxyArgs),
    /// Tell proxies by xDS what a directory describes: naru, Envoy, clients of gRPC
    Control(ControlArgs),
    /// Say which proxies a control plane has, what each has, what it lacks, and how old that is
    Status(StatusArgs),
    /// Login sessions of a 'naru up' or 'naru proxy' that runs: how they are, and end one, or all of somebody
    Sessions(SessionsArgs),
    /// Run services, load and faults on virtual time; the same seed gives the same transcript
    Simulate(SimulateArgs),
    /// A small service with settable latency, errors, body and calls, for examples and tests
    Workload(naru_workload::WorkloadArgs),
    /// Print every default, with its value and where it comes from
    Defaults(DefaultsArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Print the version
    Version(VersionArgs),
}

const PROXY_SIGNALS: &str = "Signals:
  HUP         read the file again; all of it takes effect, or nothing
  USR2        start this program anew, from where it lies, and let that process take over
  TERM, INT   take no more, finish what has begun, end; a second one ends at once";

#[derive(Args)]
pub struct UpArgs {
    /// The directory of documents; every valid save in it takes effect
    #[arg(value_name = "DIR", required_unless_present = "etcd", conflicts_with = "etcd")]
    pub directory: Option<PathBuf>,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Threads that carry requests [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Where the admin interface listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15000")]
    pub admin: std::net::SocketAddr,
    /// Where gateways listen that do not say it
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub gateway_address: std::net::IpAddr,
    /// Where a line for every request goes: '-' for standard output, 'none', or a file
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub access_log: String,
    /// Seconds that requests under way may take to finish at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub drain_time: u64,
    /// Tell other proxies, too, what the directory describes: where they connect by xDS
    #[arg(long, value_name = "ADDRESS")]
    pub xds: Option<std::net::SocketAddr>,
    #[command(flatten)]
    pub xds_tls: XdsTlsArgs,
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// So much of the last requests is kept in memory, for 'naru explain --id' and for what a save changes; 0 for
    /// nothing
    #[arg(long, value_name = "KIB", default_value_t = 4_096)]
    pub recent_requests: u32,
    /// Where accounts and certificates of issuers, and configurations that were in force, are kept [default: $XDG_STATE_HOME/naru, ~/.local/state/naru]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// Where a control plane is found, unless it is said otherwise.
const XDS: &str = "127.0.0.1:15010";
const CONTROL_ADMIN: &str = "127.0.0.1:15014";

#[derive(Args)]
pub struct ControlArgs {
    /// The directory of documents; every valid save in it is sent
    #[arg(long, value_name = "DIR", required_unless_present = "etcd", conflicts_with = "etcd")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Where proxies connect
    #[arg(long, value_name = "ADDRESS", default_value = XDS)]
    pub address: std::net::SocketAddr,
    /// Where the admin interface listens
    #[arg(long, value_name = "ADDRESS", default_value = CONTROL_ADMIN)]
    pub admin: std::net::SocketAddr,
    #[command(flatten)]
    pub tls: XdsTlsArgs,
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// Listen where other machines can connect, without --client-ca: to whoever does, everything is told, private keys
    /// among it
    #[arg(long)]
    pub insecure: bool,
    /// Where documents that were in force are kept, for when they cannot be read; 'none' for nowhere [default:
    /// $XDG_STATE_HOME/naru, ~/.local/state/naru]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// An etcd that several machines share.
#[derive(Args, Clone)]
pub struct EtcdArgs {
    /// The endpoints of an etcd; each key below --prefix is a file of documents
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<Endpoint>,
    /// What keys begin with; a slash at the end is added
    #[arg(long, value_name = "KEY", default_value = etcd::PREFIX, requires = "etcd")]
    pub prefix: String,
    /// Who logs in there
    #[arg(long, value_name = "NAME", requires_all = ["etcd", "etcd_password_file"])]
    pub etcd_user: Option<String>,
    /// The file with the password
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    pub etcd_password_file: Option<PathBuf>,
    /// Certificates that those of https:// endpoints are checked against (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd")]
    pub etcd_ca: Option<PathBuf>,
    /// The certificate that is shown to etcd
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_key"])]
    pub etcd_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "etcd_certificate")]
    pub etcd_key: Option<PathBuf>,
}

/// Whom the xDS server speaks with.
#[derive(Args)]
pub struct XdsTlsArgs {
    /// xDS by TLS: the certificate that proxies are shown (PEM); read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Proxies show certificates, which are checked against these
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub client_ca: Option<PathBuf>,
    /// A proxy's node.id is one of the DNS names or URIs of its certificate, and its namespace that of its SPIFFE id
    #[arg(long, requires = "client_ca")]
    pub check_nodes: bool,
}

/// What proxies show to each other.
#[derive(Args)]
pub struct MeshArgs {
    /// For so long a certificate holds that a proxy shows to others of the mesh (ISTIO_MUTUAL); there is another one when
    /// half of it is over
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(4..))]
    pub workload_cert_ttl: u64,
}

impl MeshArgs {
    pub fn life(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.workload_cert_ttl)
    }
}

#[derive(Args)]
pub struct StatusArgs {
    /// The admin interface of 'naru control', or of 'naru up --xds'; http:// may stand before it
    #[arg(long, value_name = "ADDRESS", default_value = CONTROL_ADMIN)]
    pub admin: http::Uri,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct SessionsArgs {
    #[command(subcommand)]
    pub command: Option<SessionsCommand>,
    /// The admin interface of what runs
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15000", global = true)]
    pub admin: http::Uri,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Output::Text, global = true)]
    pub output: Output,
}

#[derive(Subcommand)]
pub enum SessionsCommand {
    /// End a token, a session, or all sessions of somebody: here at once, at gateways that share a store a moment later
    #[command(group = clap::ArgGroup::new("whose").required(true))]
    End {
        /// The jti of a token, or the sid of a session: 32 hexadecimal digits
        #[arg(long, group = "whose", value_name = "ID")]
        id: Option<String>,
        /// Whose sessions all end: the sub of his tokens
        #[arg(long, group = "whose", value_name = "SUB")]
        user: Option<String>,
        /// Of which SessionAuth, as NAME.NAMESPACE, where there are several
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("reader").required(true))]
pub struct BootstrapArgs {
    /// For Envoy: `envoy -c FILE`
    #[arg(long, group = "reader")]
    pub envoy: bool,
    /// For naru: `naru proxy -c FILE`
    #[arg(long, group = "reader")]
    pub naru: bool,
    /// For clients of gRPC that resolve xds:///SERVICE: GRPC_XDS_BOOTSTRAP=FILE
    #[arg(long, group = "reader")]
    pub grpc: bool,
    /// What the control plane knows the proxy by [default: what it is]
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,
    /// A gateway, or the proxy of one workload's calls
    #[arg(long, value_enum, default_value_t = ProxyRole::Gateway, conflicts_with = "grpc")]
    pub role: ProxyRole,
    /// Whose calls it takes, or the namespace that it calls from
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// Who it is to other proxies of the mesh (ISTIO_MUTUAL): an account of its namespace [default: that of its certificate,
    /// else default]
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<String>,
    /// Labels of the workload; of a gateway, those that Gateways select it by [default: none, and all Gateways]
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Where a gateway listens whose document does not say it [default: everywhere]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "grpc")]
    pub gateway_address: Option<std::net::IpAddr>,
    /// Where a sidecar takes calls [default: 127.0.0.1:15001]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "grpc")]
    pub outbound_address: Option<std::net::SocketAddr>,
    /// Where a sidecar listens for who calls its workload, at the ports of `ingress` without a bind [default: everywhere]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "grpc")]
    pub inbound_address: Option<std::net::IpAddr>,
    /// The WorkloadGroup of its namespace that it joins: it is called as a workload of that, at its address
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Where others call it that has joined a group [default: the address that it connects from]
    #[arg(long, value_name = "ADDRESS", requires = "group")]
    pub instance_address: Option<std::net::IpAddr>,
    /// Where its own admin interface listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15000", conflicts_with = "grpc")]
    pub admin: std::net::SocketAddr,
    /// The control plane: HOST:PORT
    #[arg(long, value_name = "ADDRESS", default_value = XDS)]
    pub xds: http::uri::Authority,
    /// It speaks TLS, with a certificate that these stand for (PEM); a file of the machine that the proxy runs on
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// What its certificate is for [default: the host of --xds]
    #[arg(long, value_name = "NAME", requires = "tls_ca", conflicts_with = "grpc")]
    pub tls_name: Option<String>,
    /// The certificate that the proxy shows it
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProxyRole {
    Gateway,
    Sidecar,
}

fn label(said: &str) -> Result<(String, String), String> {
    let (name, value) = said.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Args)]
pub struct CheckArgs {
    /// Files, or directories of files, that are read together
    #[arg(required_unless_present = "explain", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Prints what a controller of the Gateway API would write into the documents' status, and of problems only errors
    #[arg(long)]
    pub status: bool,
    /// Say what a code means, instead: IST0101, KIA1104, unknown-host
    #[arg(long, value_name = "CODE", conflicts_with = "paths")]
    pub explain: Option<String>,
    /// What makes the command fail, with exit code 1
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    pub fail_on: FailOn,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = CheckOutput::Text)]
    pub output: CheckOutput,
}

/// The least that is a failure.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    Error,
    Warning,
    Note,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    Text,
    Json,
    /// SARIF 2.1.0, for tools that show problems beside a change
    Sarif,
}

#[derive(Args)]
pub struct ExplainArgs {
    /// The method of the request
    #[arg(value_name = "METHOD", required_unless_present = "id")]
    pub method: Option<http::Method>,
    /// Where it is sent: http://reviews:9080/path
    #[arg(value_name = "URL", required_unless_present = "id")]
    pub url: Option<http::Uri>,
    /// A header of it; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Files, or directories of files, that are read together
    #[arg(long, required_unless_present = "admin", value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// Ask a 'naru up' that runs, at its admin interface: what is in force there, and how its endpoints are
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = ["config", "claims", "token", "key", "user", "session", "session_is"]
    )]
    pub admin: Option<http::Uri>,
    /// One of the last requests there, by its x-request-id: what became of it, and why
    #[arg(long, value_name = "X-REQUEST-ID", requires = "admin", conflicts_with_all = ["method", "url", "headers"])]
    pub id: Option<String>,
    /// The workload that calls: the name of a Deployment [default: one without labels]
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// The address that the client comes from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub source: std::net::IpAddr,
    /// A claim of the token that it would show; may be given several times. A value of JSON is taken as such
    #[arg(long = "as", value_name = "CLAIM=VALUE")]
    pub claims: Vec<String>,
    /// What that token is worth [default: signed]
    #[arg(long, value_name = "WHAT", value_parser = ["signed", "expired", "early", "forged", "garbled", "keys_away"])]
    pub token: Option<String>,
    /// The client whose API key it would show
    #[arg(long, value_name = "CLIENT")]
    pub key: Option<String>,
    /// The name that it would show the right password for
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// A claim of the token of its login session; may be given several times
    #[arg(long, value_name = "CLAIM=VALUE")]
    pub session: Vec<String>,
    /// What that session is worth [default: live]
    #[arg(
        long,
        value_name = "WHAT",
        value_parser = ["live", "stale", "expired", "key_rotated", "logged_out", "forged"]
    )]
    pub session_is: Option<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct DiffArgs {
    /// A file, or a directory of files: the configuration that is there
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The one that would be
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// An access log of requests that were sent: lines of naru's own format, of Envoy's default format, or objects of
    /// JSON; '-' for standard input
    #[arg(long, value_name = "ACCESS_LOG")]
    pub replay: Option<PathBuf>,
    /// The format of its lines, where they have one of their own: '%REQ(:METHOD)% %REQ(:AUTHORITY)%%REQ(:PATH)%'
    #[arg(long, value_name = "FORMAT", requires = "replay")]
    pub log_format: Option<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct LspArgs {
    /// Editors say it; standard input and output are used in any case
    #[arg(long)]
    pub stdio: bool,
}

#[derive(Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// List the versions that were in force, and which of them is
    History(RunningArgs),
    /// Print the documents of a version
    Show(NumberedArgs),
    /// Put a version in force again
    Rollback(NumberedArgs),
    /// Put the documents of files or directories in force, all of them or none
    Apply(ApplyArgs),
    /// The file that a proxy is started with
    Bootstrap(BootstrapArgs),
    /// A new authority for the proxies of a mesh: the Secret 'cacerts', with its key
    Authority(AuthorityArgs),
}

#[derive(Args)]
pub struct AuthorityArgs {
    /// What the mesh is called, as MeshConfig has it
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,
}

/// A naru that runs.
#[derive(Args)]
pub struct RunningArgs {
    /// Its admin interface
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15000", conflicts_with = "etcd")]
    pub admin: http::Uri,
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct NumberedArgs {
    /// Its number
    #[arg(value_name = "VERSION")]
    pub number: u64,
    #[command(flatten)]
    pub running: RunningArgs,
}

#[derive(Args)]
pub struct ApplyArgs {
    /// Files, or directories of files: all that is to be in force
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only if the etcd says what it said at this revision
    #[arg(long, value_name = "REVISION", requires = "etcd", value_parser = clap::value_parser!(i64).range(1..))]
    pub since: Option<i64>,
    /// Say what would go, come and change, and change nothing
    #[arg(long, conflicts_with = "etcd")]
    pub dry_run: bool,
    #[command(flatten)]
    pub running: RunningArgs,
}

#[derive(Args)]
pub struct ImportArgs {
    /// Files that belong together: nginx.conf, docker-compose.yaml
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write a file for each document into this directory, instead of all to standard output
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long, requires = "out")]
    pub force: bool,
    /// How documents and notes are printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct ProxyArgs {
    /// The Envoy bootstrap file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Threads that carry requests [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Seconds that requests under way may take to finish after SIGTERM, or when another process has taken over
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub drain_time: u64,
    /// Take the listening sockets over from the process that runs with this file, which then finishes what it has
    /// begun; where none runs, start like any other
    #[arg(long)]
    pub takeover: bool,
    /// The Unix socket where this process takes over, and can be taken over itself; 'none' for neither [default: one
    /// for each configuration file, below $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR or /tmp]
    #[arg(long, value_name = "PATH")]
    pub takeover_path: Option<PathBuf>,
    /// Where what a control plane says is kept, for when it is away; 'none' for nowhere [default: $XDG_STATE_HOME/naru,
    /// ~/.local/state/naru]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Where all chance comes from; for tests that must be repeatable
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Only read the file and say what is wrong with it
    #[arg(long)]
    pub check: bool,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Args)]
pub struct SimulateArgs {
    /// The scenario file
    #[arg(value_name = "SCENARIO")]
    pub scenario: PathBuf,
    /// Where all chance comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How the transcript is printed
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Where a timeline is drawn as SVG: load, errors, latencies, changes of state
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Where every request through every proxy is written, a line of JSON each; for small runs
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
}

#[derive(Args)]
struct DefaultsArgs {
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Args)]
struct CompletionsArgs {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[derive(Args)]
struct VersionArgs {
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

pub fn run() -> ExitCode {
    // Usage errors are answered by clap, with exit code 2.
    let result = match Naru::parse().command {
        Command::Up(args) => up_command::run(&args),
        Command::Check(args) => check_command::run(&args),
        Command::Explain(args) => explain_command::run(&args),
        Command::Diff(args) => diff_command::run(&args),
        Command::Lsp(_) => lsp_command::run(),
        Command::Config(args) => config_command::run(&args),
        Command::Import(args) => import_command::run(&args),
        Command::Proxy(args) => proxy_command::run(&args),
        Command::Control(args) => control_command::run(&args),
        Command::Status(args) => status_command::run(&args),
        Command::Sessions(args) => sessions_command::run(&args),
        Command::Simulate(args) => simulate_command::run(&args),
        Command::Workload(args) => workload_command::run(args),
        Command::Defaults(args) => defaults_command::run(args.output),
        Command::Completions(args) => complete(args.shell),
        Command::Version(args) => say_version(args.output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Told) => ExitCode::FAILURE,
        Err(Failure::Usage(error)) => {
            naru_say::say!("error: {error:#}");
            ExitCode::from(2)
        }
        Err(Failure::Error(error)) => {
            naru_say::say!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command did not do what it was asked.
pub enum Failure {
    /// It has been printed.
    Told,
    /// What was asked for makes no sense.
    Usage(anyhow::Error),
    Error(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Error(error.into())
    }
}

fn complete(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Naru::command(), "naru", &mut script);
    Ok(say(&String::from_utf8_lossy(&script))?)
}

fn say_version(output: Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(match output {
        Output::Text => say(&format!("naru {version}\n")),
        Output::Json => say(&format!("{}\n", serde_json::json!({ "name": "naru", "version": version }))),
    }?)
}
