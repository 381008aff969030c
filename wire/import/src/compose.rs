//! docker-compose's services as Deployments and Services.
//!
//! Source of the meanings: github.com/compose-spec/compose-spec, `spec.md` and `deploy.md`.

mod said;
mod amount;
mod ports;
mod health;
mod labels;

use naru_doc::tree::{Entry, Kind, Node, Position};
use naru_spec::suggest::did_you_mean;

use crate::kubernetes::{document, tell_renamed, valid};
use crate::notes::{Notes, code};
use crate::yaml::Map;
use crate::{Output, Services, field};
use said::{Reader, literal, plain, words};

/// A service that other files may name.
pub(crate) struct Known {
    /// What it is called here.
    pub name: String,
    /// Ports of its containers: those that it says, and those that nginx calls.
    pub ports: Vec<u16>,
}

/// The services of a compose file; none where it is another kind of document.
pub(crate) fn services(node: &Node) -> Option<&[Entry]> {
    match &field(node, "services")?.kind {
        Kind::Map(entries) if field(node, "apiVersion").is_none() => Some(entries),
        _ => None,
    }
}

/// Gathers the services of a file, before any is written.
pub(crate) fn collect(node: &Node, known: &mut Services) {
    for entry in services(node).unwrap_or_default() {
        if !is_balancer(&entry.node) {
            let ports = ports::of(&entry.node, None).iter().map(|port| port.container).collect();
            known.insert(entry.key.clone(), Known { name: valid(&entry.key), ports });
        }
    }
}

pub(crate) fn import(node: &Node, known: &Services, notes: &mut Notes<'_>, output: &mut Output) {
    tell_top(node, notes);
    for entry in services(node).unwrap_or_default() {
        service(entry, known, notes, output);
    }
}

/// nginx with a configuration of its own: what naru takes the place of.
fn is_balancer(service: &Node) -> bool {
    let image = field(service, "image").and_then(plain).unwrap_or_default();
    short(&image) == "nginx" && configuration(service).is_some()
}

/// The file that is mounted as nginx's configuration.
fn configuration(service: &Node) -> Option<String> {
    let Kind::List(volumes) = &field(service, "volumes")?.kind else { return None };
    volumes.iter().find_map(|volume| {
        let (source, target) = match &volume.kind {
            Kind::Text(text) => {
                let mut parts = text.split(':');
                (parts.next()?.to_owned(), parts.next()?.to_owned())
            }
            _ => (field(volume, "source").and_then(plain)?, field(volume, "target").and_then(plain)?),
        };
        target.starts_with("/etc/nginx").then_some(source)
    })
}

/// `postgres` of `docker.io/library/postgres:15`.
fn short(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name)
}

fn service(entry: &Entry, known: &Services, notes: &mut Notes<'_>, output: &mut Output) {
    let said = entry.key.as_str();
    let path = format!("services.{said}");
    let at = entry.key_position;
    if is_balancer(&entry.node) {
        let file = configuration(&entry.node).unwrap_or_default();
        let message = format!("'{said}' is nginx with '{file}': naru takes its place");
        let hint = "import that file too";
        return notes.note(code::TO_DO, at, &path, message, hint);
    }
    let Kind::Map(entries) = &entry.node.kind else {
        let message = format!("the service '{said}' is no mapping: it is left out");
        return notes.warning(code::NOT_CARRIED_OVER, at, &path, message, "");
    };
    let name = output.names.claim("Deployment", said);
    tell_renamed(said, &name, at, &path, notes);
    let mut reader = Reader { notes, path };
    let ports = container_ports(entry, known.get(said), &mut reader);
    let origin = reader.notes.origin(at, &format!("service {said}"));
    let deployment = deployment(&name, &entry.node, at, &ports, &mut reader);
    for entry in entries {
        tell(entry, &mut reader);
    }
    output.add("Deployment", name.clone(), origin.clone(), deployment);
    if ports.is_empty() {
        let message = format!("'{said}' says no port, so there is no Service for it");
        let hint = "say expose, or write a Service with the port that it listens on";
        return reader.warning(code::NOT_CARRIED_OVER, at, "ports", message, hint);
    }
    let port = |port: &ports::Port| {
        let map = Map::new().with("name", port.name()).with("port", port.container);
        let map = map.with("targetPort", port.container);
        map.with_some("protocol", port.is_udp.then_some("UDP"))
    };
    let spec = Map::new()
        .with("selector", Map::new().with("app", name.as_str()))
        .with("ports", ports.iter().map(port).collect::<Vec<_>>());
    let map = document("v1", "Service", &name, spec);
    output.hosts.entry(said.to_owned()).or_insert_with(|| name.clone());
    output.add("Service", name, origin, map);
}

/// What it says, what nginx calls, or what its image or its health check tells.
fn container_ports(entry: &Entry, known: Option<&Known>, reader: &mut Reader<'_, '_>) -> Vec<ports::Port> {
    let mut ports = ports::of(&entry.node, Some(reader));
    let at = entry.key_position;
    for number in known.map_or(&[][..], |known| &known.ports) {
        if !ports.iter().any(|port| port.container == *number) {
            let message = format!("port {number} is added: nginx calls it");
            reader.note(code::ASSUMED, at, "ports", message, "");
            ports.push(ports::Port::tcp(*number));
        }
    }
    if !ports.is_empty() {
        return ports;
    }
    let image = field(&entry.node, "image").and_then(plain).unwrap_or_default();
    let of_image = ports::of_image(short(&image)).map(|port| (port, format!("the image '{image}'")));
    let of_check = || health::port(&entry.node).map(|port| (port, "its health check".to_owned()));
    if let Some((number, source)) = of_image.or_else(of_check) {
        let message = format!("port {number} is assumed, from {source}");
        reader.note(code::ASSUMED, at, "ports", message, "say expose");
        ports.push(ports::Port::tcp(number));
    }
    ports
}

fn deployment(
    name: &str,
    service: &Node,
    at: Position,
    ports: &[ports::Port],
    reader: &mut Reader<'_, '_>,
) -> Map {
    let deploy = field(service, "deploy");
    let replicas = deploy.and_then(|deploy| field(deploy, "replicas")).or_else(|| field(service, "scale"));
    let replicas = replicas.and_then(|node| amount::count(node, "deploy.replicas", reader));
    let labels = labels::of(service, reader);
    let app = || Map::new().with("app", name);
    let meta =
        Map::new().with("labels", app().and(labels.valid)).with_some("annotations", Some(labels.others));
    let grace = field(service, "stop_grace_period")
        .and_then(|node| amount::seconds(node, "stop_grace_period", reader));
    let pod = Map::new()
        .with_some("terminationGracePeriodSeconds", grace)
        .with("containers", vec![container(name, service, at, ports, reader)]);
    let spec = Map::new()
        .with_some("replicas", replicas)
        .with("selector", Map::new().with("matchLabels", app()))
        .with("template", Map::new().with("metadata", meta).with("spec", pod));
    document("apps/v1", "Deployment", name, spec)
}

fn container(
    name: &str,
    service: &Node,
    at: Position,
    ports: &[ports::Port],
    reader: &mut Reader<'_, '_>,
) -> Map {
    let image = field(service, "image").and_then(|node| reader.text(node, "image"));
    if image.is_none() {
        let message = format!("'{name}' names no image: it is called '{name}:latest'");
        reader.note(code::TO_DO, at, "image", message, "build it under that name, or give it a command");
    }
    let command =
        field(service, "entrypoint").map(|node| list(node, "entrypoint", reader)).unwrap_or_default();
    let args = field(service, "command").map(|node| list(node, "command", reader)).unwrap_or_default();
    let message = if command.is_empty() {
        format!("naru runs no images: '{name}' does not run on this machine")
    } else {
        format!("the entrypoint of '{name}' is a program of its image: see that it runs on this machine")
    };
    let hint = "give its container a 'command' that does, such as the program that the image was built from";
    reader.note(code::TO_DO, at, "image", message, hint);
    let port = |port: &ports::Port| {
        let map = Map::new().with("name", port.name()).with("containerPort", port.container);
        map.with_some("protocol", port.is_udp.then_some("UDP"))
    };
    let working_dir = field(service, "working_dir").and_then(|node| reader.text(node, "working_dir"));
    Map::new()
        .with("name", name)
        .with("image", image.unwrap_or_else(|| format!("{name}:latest")))
        .with_some("command", Some(command))
        .with_some("args", Some(args))
        .with_some("workingDir", working_dir)
        .with_some("env", Some(environment(service, reader)))
        .with_some("ports", Some(ports.iter().map(port).collect::<Vec<_>>()))
        .with_some("resources", Some(amount::resources(service, reader)))
        .with_some("readinessProbe", health::probe(service, reader))
}

/// A command as a list of words, or as one line that a shell would split.
fn list(node: &Node, field: &str, reader: &mut Reader<'_, '_>) -> Vec<String> {
    match &node.kind {
        Kind::List(items) => {
            items.iter().filter_map(|item| reader.text(item, field)).map(|text| literal(&text)).collect()
        }
        _ => {
            let line = reader.text(node, field).unwrap_or_default();
            words(&line).iter().map(|word| literal(word)).collect()
        }
    }
}

/// `- NAME=value`, or a mapping.
fn environment(service: &Node, reader: &mut Reader<'_, '_>) -> Vec<Map> {
    let mut pairs: Vec<(String, Option<String>, Position)> = Vec::new();
    match field(service, "environment").map(|node| &node.kind) {
        Some(Kind::Map(entries)) => {
            for entry in entries {
                let value = reader.text(&entry.node, "environment");
                pairs.push((entry.key.clone(), value, entry.key_position));
            }
        }
        Some(Kind::List(items)) => {
            for item in items {
                let Some(text) = reader.text(item, "environment") else { continue };
                match text.split_once('=') {
                    Some((name, value)) => {
                        pairs.push((name.to_owned(), Some(value.to_owned()), item.position))
                    }
                    None => pairs.push((text, None, item.position)),
                }
            }
        }
        _ => {}
    }
    let mut env: Vec<(String, String)> = Vec::new();
    for (name, value, at) in pairs {
        let Some(value) = value else {
            let message = format!("the value of '{name}' is of the shell that starts compose");
            reader.warning(code::NOT_CARRIED_OVER, at, "environment", message, "write its value");
            continue;
        };
        // The last of a name counts.
        env.retain(|(known, _)| *known != name);
        env.push((name, literal(&value)));
    }
    env.into_iter().map(|(name, value)| Map::new().with("name", name).with("value", value)).collect()
}

/// Read elsewhere.
const READ: &[&str] = &[
    "command",
    "cpus",
    "deploy",
    "entrypoint",
    "environment",
    "expose",
    "healthcheck",
    "image",
    "labels",
    "mem_limit",
    "mem_reservation",
    "ports",
    "scale",
    "stop_grace_period",
    "working_dir",
];

/// What becomes nothing, without loss.
const UNNEEDED: &[(&str, &str)] = &[
    ("container_name", "a container is found by its Service"),
    ("depends_on", "everything starts at once: a program waits for what it needs, or is started again"),
    ("networks", "every Service can be reached from everywhere"),
    ("platform", "a process runs on this machine"),
    ("pull_policy", "nothing is pulled"),
    ("restart", "a Deployment's containers are always started again"),
    ("init", "naru is there for a process's children"),
];

/// What is lost.
const LOST: &[(&str, &str)] = &[
    ("build", "build the image, or give the container a command"),
    ("cap_add", ""),
    ("configs", "put the files where the program reads them"),
    ("devices", ""),
    ("env_file", "write its lines as environment"),
    ("extends", "write out what it extends"),
    ("extra_hosts", ""),
    ("hostname", "a container is found by its Service"),
    ("links", "call services by their names"),
    ("logging", "a process's output is naru's"),
    ("network_mode", ""),
    ("privileged", ""),
    ("profiles", "it is always there"),
    ("secrets", "write a Secret, and env with valueFrom"),
    ("security_opt", ""),
    ("stdin_open", ""),
    ("tmpfs", ""),
    ("tty", ""),
    ("ulimits", ""),
    ("user", "a process runs as naru does"),
    ("volumes", "a process sees the files of its machine: nothing is mounted"),
];

fn tell(entry: &Entry, reader: &mut Reader<'_, '_>) {
    let key = entry.key.as_str();
    if READ.contains(&key) || key.starts_with("x-") {
        return;
    }
    let at = entry.key_position;
    if let Some((_, why)) = UNNEEDED.iter().find(|(name, _)| *name == key) {
        return reader.note(code::BY_DEFAULT, at, key, format!("'{key}' is not needed: {why}"), "");
    }
    let hint = match LOST.iter().find(|(name, _)| *name == key) {
        Some((_, hint)) => (*hint).to_owned(),
        None => {
            let names = UNNEEDED.iter().chain(LOST).map(|(name, _)| *name);
            did_you_mean(key, READ.iter().copied().chain(names))
        }
    };
    let message = format!("'{key}' of a service is not carried over");
    reader.warning(code::NOT_CARRIED_OVER, at, key, message, &hint);
}

/// What stands beside `services`.
fn tell_top(node: &Node, notes: &mut Notes<'_>) {
    let Kind::Map(entries) = &node.kind else { return };
    for entry in entries {
        let (key, at) = (entry.key.as_str(), entry.key_position);
        match key {
            "services" => {}
            "version" | "name" | "networks" => {
                notes.note(code::BY_DEFAULT, at, key, format!("'{key}' has nothing to say to naru"), "");
            }
            key if key.starts_with("x-") => {}
            _ => {
                let hint = match key {
                    "volumes" => "a process sees the files of its machine",
                    "include" => "import those files too",
                    _ => "",
                };
                let message = format!("'{key}' is not carried over");
                notes.warning(code::NOT_CARRIED_OVER, at, key, message, hint);
            }
        }
    }
}
