//! What there is: documents, processes, and where processes call others.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use naru_discovery::{Documents, Identities};
use naru_doc::Loaded;
use naru_journey::Snapshot;
use naru_plan::{
    AcmeOrder, Client, Instance, InstancePort, Member, ProbeKind, Process, Surroundings, acme_orders,
    outbound_name, plan, processes,
};
use naru_proxy::Proxy;
use naru_resource::Resources;
use naru_spec::{AccessLog, Config, Format, LogFormat, LogSink, Overload, Surge};
use naru_workloads as run;

use crate::acme::Acme;
use crate::authority::{ACCOUNT, Authority, NAMESPACE};
use crate::check_command::{Checked, compile};
use crate::cli::UpArgs;
use crate::diff_command::as_written;
use crate::recent;
use crate::rechecked::Replanned;
use crate::up_command::state;

/// One line for every request: who was asked, what came of it and why, which rule did it, and its id.
pub const LOG_FORMAT: &str = "%START_TIME% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% \"%REQ(:METHOD)% \
%REQ(:AUTHORITY)%%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %REASON% \
%DURATION%ms %UPSTREAM_CLUSTER% %UPSTREAM_HOST% by '%ROUTE_NAME%' at %ROUTE_ORIGIN% id %REQ(X-REQUEST-ID)%\n";
/// As lines were before they told the reason and the id: logs of that time can be read, too.
pub const LOG_FORMAT_BEFORE: &str = "%START_TIME% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% \"%REQ(:METHOD)% \
%REQ(:AUTHORITY)%%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
%DURATION%ms %UPSTREAM_CLUSTER% %UPSTREAM_HOST% by '%ROUTE_NAME%' at %ROUTE_ORIGIN%\n";

/// Documents, and the processes of these.
pub type Replaced = (Loaded, Vec<Process>, Vec<Process>);

/// Between two looks at the certificate that others are shown: the calendar of a machine may be set.
const LOOKS_EVERY_MIN: Duration = Duration::from_secs(1);
const LOOKS_EVERY_MAX: Duration = Duration::from_secs(600);

pub struct Mesh {
    loaded: Loaded,
    processes: Vec<Process>,
    /// Processes that are not wanted any more, and not gone yet.
    leaving: Vec<Process>,
    instances: Vec<run::Instance>,
    /// Where the proxy of a workload listens.
    outbound: BTreeMap<String, SocketAddr>,
    surroundings: Surroundings,
    /// Who issues what is shown to other proxies of the mesh.
    authority: Authority,
    identities: Option<Arc<Identities>>,
    /// The last requests are kept.
    records: bool,
    planned: RefCell<Replanned>,
}

/// Documents before and after, to be compared as `naru diff` does: by what they ask for. What runs follows a save only
/// after a while.
pub struct Change {
    before: Resources,
    after: Resources,
    surroundings: Surroundings,
}

impl Change {
    pub fn new(before: Resources, after: Resources, surroundings: Surroundings) -> Change {
        Change { before, after, surroundings }
    }

    /// `None` where one of both cannot be.
    pub fn compile(self) -> Option<[(Config, Snapshot); 2]> {
        let Change { before, after, surroundings } = self;
        let (running_before, running_after) = as_written(&before, &after);
        let meaning = |resources: &Resources, instances| {
            let surroundings = Surroundings { instances, ..surroundings.clone() };
            let config = plan(resources, &surroundings).config;
            let snapshot = Snapshot::compile(config.clone()).ok()?;
            Some((config, snapshot))
        };
        Some([meaning(&before, running_before)?, meaning(&after, running_after)?])
    }
}

impl Mesh {
    pub fn new(args: &UpArgs, loaded: Loaded) -> anyhow::Result<Mesh> {
        let sink = match args.access_log.as_str() {
            "none" => None,
            "-" => Some(LogSink::Stdout),
            file => Some(LogSink::File(file.to_owned())),
        };
        let format = LogFormat::Text(Format::parse(LOG_FORMAT)?);
        let surroundings = Surroundings {
            admin: None,
            gateway_address: args.gateway_address,
            clients: Vec::new(),
            instances: Vec::new(),
            access_log: sink.into_iter().map(|sink| AccessLog { sink, format: format.clone() }).collect(),
            is_strict: true,
            overload: Some(Overload::edge()),
            ..Surroundings::default()
        };
        let processes = processes(&loaded.resources);
        Ok(Mesh {
            loaded,
            processes,
            leaving: Vec::new(),
            instances: Vec::new(),
            outbound: BTreeMap::new(),
            surroundings,
            authority: Authority::new(Some(state(args)), args.mesh.life(), !args.etcd.etcd.is_empty()),
            identities: None,
            records: args.recent_requests > 0,
            planned: RefCell::default(),
        })
    }

    /// What is had from issuers, for what there is now.
    pub fn surround(&mut self, acme: &mut Acme) -> anyhow::Result<()> {
        acme.surround(&acme_orders(&self.loaded.resources), &mut self.surroundings)?;
        self.identities = self.authority.identities(&self.loaded.resources)?;
        self.identify().map(drop)
    }

    /// Says whether another certificate than before is to be shown to other proxies.
    pub fn identify(&mut self) -> anyhow::Result<bool> {
        let identity =
            self.identities.as_ref().map(|identities| identities.of(NAMESPACE, ACCOUNT)).transpose()?;
        let is_other = self.surroundings.identity != identity;
        self.surroundings.identity = identity;
        Ok(is_other)
    }

    /// Until that may be so.
    pub fn identity_due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.identities.as_ref().map(|identities| identities.due_of(NAMESPACE, ACCOUNT));
        async move {
            match due {
                Some(due) => tokio::time::sleep(due.clamp(LOOKS_EVERY_MIN, LOOKS_EVERY_MAX)).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Certificates that are wanted.
    pub fn orders(&self) -> Vec<AcmeOrder> {
        acme_orders(&self.loaded.resources)
    }

    /// What there is for other proxies: whom it is for, and what is written down, is theirs to say.
    pub fn documents(&self) -> Documents {
        let instances = self.instances.iter().filter_map(|found| self.instance(found)).collect();
        let identities = self.identities.clone();
        let surroundings =
            Surroundings { instances, access_log: Vec::new(), identity: None, ..self.surroundings.clone() };
        Documents { resources: self.loaded.resources.clone(), surroundings, identities }
    }

    /// What all of it means now.
    pub fn check(&self) -> Checked {
        let mut surroundings = Surroundings { clients: self.clients(), ..self.surroundings.clone() };
        surroundings.instances = self.instances.iter().filter_map(|found| self.instance(found)).collect();
        let planned = self.planned.borrow_mut().plan(&self.loaded.resources, &surroundings);
        compile(planned, &self.loaded, |config| {
            if self.records {
                recent::record(config);
            }
        })
    }

    fn clients(&self) -> Vec<Client> {
        self.processes.iter().chain(&self.leaving).map(client).collect()
    }

    /// What is to be known of a change from other documents to these.
    pub fn changed_from(&self, before: Resources) -> Change {
        let surroundings = Surroundings { clients: self.clients(), ..self.surroundings.clone() };
        Change::new(before, self.loaded.resources.clone(), surroundings)
    }

    /// Other documents; returns those before.
    pub fn replace(&mut self, loaded: Loaded) -> (Loaded, Vec<Process>, Vec<Process>) {
        let processes = processes(&loaded.resources);
        let before = std::mem::replace(&mut self.processes, processes);
        let leaving = self.leaving.clone();
        let is_wanted = |process: &Process| self.processes.iter().any(|wanted| wanted.name == process.name);
        let gone: Vec<Process> = before.iter().filter(|process| !is_wanted(process)).cloned().collect();
        self.leaving.extend(gone);
        (std::mem::replace(&mut self.loaded, loaded), before, leaving)
    }

    pub fn restore(&mut self, (loaded, processes, leaving): Replaced) {
        self.loaded = loaded;
        self.processes = processes;
        self.leaving = leaving;
    }

    /// Whether it matters to who is called.
    pub fn on_instances(&mut self, now: &[run::Instance]) -> bool {
        let called = |list: &[run::Instance]| -> Vec<(String, SocketAddr)> {
            let ready = list.iter().filter(|instance| instance.is_ready);
            ready.map(|instance| (instance.workload.clone(), instance.address)).collect()
        };
        let matters = called(&self.instances) != called(now);
        self.instances = now.to_vec();
        self.leaving.retain(|process| now.iter().any(|instance| instance.workload == process.name));
        matters
    }

    /// Those who have joined groups; says whether they are others than before.
    pub fn on_members(&mut self, now: &[Member]) -> bool {
        let matters = self.surroundings.members != now;
        self.surroundings.members = now.to_vec();
        matters
    }

    pub fn members(&self) -> &[Member] {
        &self.surroundings.members
    }

    /// The documents that are in force.
    pub fn resources(&self) -> &Resources {
        &self.loaded.resources
    }

    /// The gateways are left out from now on.
    pub fn close_gateways(&mut self) {
        let resources = &mut self.loaded.resources;
        resources.gateways.clear();
        resources.api_gateways.clear();
        // Routes of Services stay.
        let is_of_service = |parent: &naru_resource::gateway_api::ParentRef| {
            parent.kind.as_ref().is_some_and(|kind| kind.value == "Service")
        };
        resources.http_routes.iter_mut().for_each(|route| route.spec.parent_refs.retain(is_of_service));
        resources.grpc_routes.iter_mut().for_each(|route| route.spec.parent_refs.retain(is_of_service));
        resources.tls_routes.clear();
        resources.tcp_routes.clear();
        for service in &mut self.loaded.resources.virtual_services {
            service.spec.gateways.retain(|name| name.value == "mesh");
        }
        // A VirtualService of gateways only would now be one of the mesh.
        self.loaded.resources.virtual_services.retain(|service| {
            !service.spec.http.is_empty()
                && (!service.spec.gateways.is_empty() || !service.spec.hosts.is_empty())
        });
    }

    /// Where the listeners are that processes call others through.
    pub fn learn_outbound(&mut self, proxy: &Proxy) {
        let snapshot = proxy.snapshot();
        let listeners = snapshot.listeners.iter().zip(proxy.addresses());
        self.outbound = listeners.map(|(listener, address)| (listener.name.clone(), address)).collect();
    }

    /// Those that run at a level of a `Surge`.
    pub fn workloads(&self, surge: Option<&Surge>, level: u32) -> Vec<run::Workload> {
        let all = self.processes.iter().map(|process| {
            let usual = process.replicas;
            let replicas = surge.map_or(usual, |surge| surge.replicas(&process.name, usual, level));
            run::Workload { replicas, ..self.workload(process) }
        });
        all.collect()
    }

    fn workload(&self, process: &Process) -> run::Workload {
        let mut env = Vec::new();
        if let Some(address) = self.outbound.get(&outbound_name(&client(process))) {
            env.extend(proxy_environment(*address));
        }
        // What a document says stands above what we say.
        for (name, value) in &process.env {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), value.clone()));
        }
        run::Workload {
            name: process.name.clone(),
            replicas: process.replicas,
            command: process.command.clone(),
            args: process.args.clone(),
            env,
            working_dir: process.working_dir.clone().map(Into::into),
            readiness: process.readiness.as_ref().map(probe),
            liveness: process.liveness.as_ref().map(probe),
            startup: process.startup.as_ref().map(probe),
            limits: run::Limits {
                cpu_millis: process.limits.cpu_millis,
                memory_bytes: process.limits.memory_bytes,
            },
            grace: process.grace,
        }
    }

    fn instance(&self, found: &run::Instance) -> Option<Instance> {
        let process = self.processes.iter().find(|process| process.name == found.workload)?;
        let (first, rest) = match process.ports.split_first() {
            Some((first, rest)) => (Some(first), rest),
            None => (None, &[][..]),
        };
        // The first port is where the process was told to listen; others are where they say.
        let mut ports = vec![InstancePort {
            name: first.and_then(|port| port.name.clone()),
            container_port: first.map_or(0, |port| port.container_port),
            port: found.address.port(),
        }];
        ports.extend(rest.iter().map(|port| InstancePort {
            name: port.name.clone(),
            container_port: port.container_port,
            port: port.container_port,
        }));
        found.is_ready.then(|| Instance {
            namespace: process.namespace.clone(),
            labels: process.labels.clone(),
            address: found.address.ip(),
            ports,
        })
    }

    /// What a newcomer wants to know first.
    pub fn greeting(&self, args: &UpArgs, source: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, address) in &self.outbound {
            if name.starts_with("gateway/") {
                lines.push(format!("gateway on http://{address}"));
            }
        }
        lines.push(format!("admin on http://{}", args.admin));
        lines.extend(args.xds.map(|address| format!("xDS for other proxies on {address}")));
        let count: u32 = self.processes.iter().map(|process| process.replicas).sum();
        let s = if count == 1 { "" } else { "es" };
        lines.push(format!("{count} process{s} of {} workloads", self.processes.len()));
        lines.push(format!("every valid save in '{source}' takes effect"));
        lines
    }
}

fn client(process: &Process) -> Client {
    let name = process.name.rsplit('/').next().unwrap_or(&process.name).to_owned();
    let labels = process.labels.clone();
    Client { name, namespace: process.namespace.clone(), labels, ..Client::unnamed() }
}

fn probe(probe: &naru_plan::Probe) -> run::Probe {
    run::Probe {
        kind: match &probe.kind {
            ProbeKind::Http { path, port, headers } => {
                run::ProbeKind::Http { path: path.clone(), port: *port, headers: headers.clone() }
            }
            ProbeKind::Tcp { port } => run::ProbeKind::Tcp { port: *port },
            ProbeKind::Grpc { port, service } => {
                run::ProbeKind::Grpc { port: *port, service: service.clone() }
            }
            ProbeKind::Exec { command } => run::ProbeKind::Exec { command: command.clone() },
        },
        initial_delay: probe.initial_delay,
        period: probe.period,
        timeout: probe.timeout,
        success_threshold: probe.success_threshold,
        failure_threshold: probe.failure_threshold,
    }
}

/// How programs are told of a proxy.
fn proxy_environment(address: SocketAddr) -> Vec<(String, String)> {
    let url = format!("http://{address}");
    let local = "localhost,127.0.0.1,::1";
    let java = format!(
        "-Dhttp.proxyHost={ip} -Dhttp.proxyPort={port} -Dhttps.proxyHost={ip} -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts=localhost|127.*|[::1]",
        ip = address.ip(),
        port = address.port()
    );
    let all = [
        ("http_proxy", url.as_str()),
        ("HTTP_PROXY", url.as_str()),
        ("https_proxy", url.as_str()),
        ("HTTPS_PROXY", url.as_str()),
        ("grpc_proxy", url.as_str()),
        ("no_proxy", local),
        ("NO_PROXY", local),
        ("JAVA_TOOL_OPTIONS", java.as_str()),
        ("NARU_OUTBOUND", url.as_str()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
