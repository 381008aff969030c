//! `naru up`: everything that a directory describes, in one process.
//!
//! The directory, or an etcd in its place, is watched. A save is one transaction: what it makes of the whole takes
//! effect, or is told to be wrong and changes nothing. Processes that come and go change only who is called.

mod desk;
mod mesh;
mod output;

use std::cell::RefCell;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use naru_discovery::ControlPlane;
use naru_doc::Loaded;
use naru_plan::Member;
use naru_proxy::{Options, Proxy, StartError};
use naru_resource::Resources;
use naru_sources::{Loader, Texts};
use naru_spec::{Config, Problem};
use naru_workloads::{Settings, Supervisor};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use crate::acme::{self, Acme};
use crate::admin::{self, Admin};
use crate::asking::Asked;
use crate::check_command::{Checked, unstartable};
use crate::cli::{Failure, Output, UpArgs};
use crate::control_command::{KEPT_AFTER, secured, tell_held_back};
use crate::history::History;
use crate::members;
use crate::pages::do_without_huge_pages;
use crate::problems;
use crate::proxy_command::Ends;
use crate::sources::Source;
use crate::takeover::Predecessors;
use crate::up_command::mesh::Mesh;

pub use crate::up_command::mesh::{LOG_FORMAT, LOG_FORMAT_BEFORE};

/// Between two looks at whether requests are still under way.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Before an address is asked for again that somebody else has.
const AGAIN_AFTER: Duration = Duration::from_secs(3);

pub fn run(args: &UpArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let is_without_huge_pages = do_without_huge_pages();
    runtime.block_on(up(args, is_without_huge_pages))
}

async fn up(args: &UpArgs, is_without_huge_pages: bool) -> Result<(), Failure> {
    if args.xds.is_none() && args.xds_tls.tls_certificate.is_some() {
        return Err(Failure::Usage(anyhow::anyhow!("--tls-certificate is that of --xds, which is not said")));
    }
    let frugal = naru_memory::be_frugal();
    let mut source = Source::open(args.directory.as_deref(), &args.etcd)?;
    source.keeps_apart(&state(args))?;
    let mut ends = Ends::listen()?;
    let mut history = History::open(&state(args), &source.place());
    let Some(directory) = first(&mut source, &history, &mut ends).await? else { return Ok(()) };
    let (mut acme, acme_events) = Acme::new(state(args));
    let mut loader = Loader::default();
    let (texts, mut mesh, checked) = begin(args, &source, &directory, &history, &mut acme, &mut loader)?;
    let Some((config, snapshot)) = checked.compiled else { return Err(Failure::Told) };
    if texts == directory {
        remember(history.put(&texts, source.origin()));
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.map_or(processors, usize::from);
    let admin_listener = admin::bind(args.admin).await.with_context(|| {
        format!("the admin interface cannot listen on {}; choose another with --admin", args.admin)
    })?;
    let control = args.xds.map(|address| secured::start(address, false, &args.xds_tls)).transpose()?;
    if let Some(control) = &control {
        control.restore(mesh.members().to_vec());
        if let Some(settings) = source.etcd().cloned() {
            tokio::task::spawn_local(members::share(Rc::downgrade(control), settings));
        }
    }
    drop(frugal);
    let proxy = Proxy::start(snapshot, &Options { workers, seed: None }).map_err(|error| {
        let found = unstartable::of_error(&error, &config, mesh.resources());
        refuse(error, &found, &texts)
    })?;
    let proxy = Rc::new(proxy);
    proxy.keep_recent(args.recent_requests as usize * 1_024);
    let (desk, asked) = tokio::sync::mpsc::unbounded_channel();
    let in_force = Rc::new(RefCell::new(config));
    let recalled = Rc::clone(&in_force);
    let statuses = Rc::new(RefCell::new(checked.statuses));
    let admin = Rc::new(Admin {
        discovery: None,
        proxy: Rc::clone(&proxy),
        file: source.shown().to_owned(),
        recall: RefCell::new(Box::new(move || Some(recalled.borrow().clone()))),
        workers,
        predecessors: Predecessors::default(),
        control: control.clone(),
        statuses: Rc::clone(&statuses),
        quit: Notify::new(),
        desk: Some(desk),
    });
    tokio::task::spawn_local(admin::serve(admin_listener, Rc::clone(&admin)));
    let sink = output::sink();
    let settings = Settings {
        launcher: std::env::current_exe().ok(),
        path_first: std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned())),
        restores_huge_pages: is_without_huge_pages,
        ..Settings::default()
    };
    let supervisor = Supervisor::start(settings, sink);
    mesh.learn_outbound(&proxy);
    let mut surge_levels = proxy.surge_levels();
    supervisor.apply(mesh.workloads(in_force.borrow().surge.as_ref(), *surge_levels.borrow_and_update()));
    if mesh.resources().names().is_empty() {
        let shown = source.shown();
        naru_say::say!("warning: '{shown}' says nothing yet: there is no document in it; it is waited for");
    }
    for line in mesh.greeting(args, source.shown()) {
        naru_say::say!("naru: {line}");
    }
    proxy.give_back_by(naru_memory::give_back);
    naru_memory::give_back();
    acme.follow(mesh.orders());
    let members = control.as_ref().map(|control| control.members());
    let mut running = Running {
        args,
        proxy,
        supervisor,
        mesh,
        in_force,
        statuses,
        acme,
        acme_events,
        surge_levels,
        control,
        members,
        history,
        source: source.shown().to_owned(),
        origin: source.origin(),
        directory,
        asked,
        loader,
        again: None,
    };
    running.tell_others();
    naru_memory::give_back_code();
    running.watch(source, &mut ends, &admin.quit).await;
    running.end(&mut ends).await;
    Ok(())
}

/// What the directory says, or an etcd, which may be away: then what was in force before, and where there is nothing, it
/// is waited for. `None` where somebody asks to end meanwhile.
async fn first(source: &mut Source, history: &History, ends: &mut Ends) -> Result<Option<Texts>, Failure> {
    let mut is_patient = false;
    loop {
        tokio::select! {
            biased;
            () = ends.asked() => return Ok(None),
            first = source.first() => match first {
                Ok(texts) => return Ok(Some(texts)),
                Err(error) if source.is_remote() => naru_say::say!("error: {error}"),
                Err(error) => return Err(error.into()),
            },
            () = sleep(KEPT_AFTER), if !is_patient => {
                is_patient = true;
                let Ok(texts) = history.texts(history.last_said()) else {
                    naru_say::say!("naru: '{}' says nothing yet; it is waited for", source.shown());
                    continue;
                };
                let (shown, number) = (source.shown(), history.last_said());
                naru_say::say!("naru: what '{shown}' said before goes on: version {number}, which was kept on disk");
                source.knows(&texts);
                return Ok(Some(texts));
            }
        }
    }
}

/// What the directory says, or, where that cannot be, what was in force when a process for it last ran.
fn begin(
    args: &UpArgs,
    source: &Source,
    directory: &Texts,
    history: &History,
    acme: &mut Acme,
    loader: &mut Loader,
) -> anyhow::Result<(Texts, Mesh, Checked)> {
    let shown = source.shown();
    let members = args.xds.map(|_| members::read(&members::file(history))).unwrap_or_default();
    let mut attempt = |texts: &Texts| -> anyhow::Result<(Mesh, Checked)> {
        let mut mesh = Mesh::new(args, loader.load(texts))?;
        mesh.on_members(&members);
        mesh.surround(acme)?;
        let checked = mesh.check();
        Ok((mesh, checked))
    };
    if let Some(number) = history.instead_of(directory)
        && let Ok(texts) = history.texts(number)
    {
        let (mesh, checked) = attempt(&texts)?;
        if checked.compiled.is_some() {
            tell(&checked.problems, &texts)?;
            naru_say::say!("naru: somebody went back from what '{shown}' says: version {number} is in force");
            return Ok((texts, mesh, checked));
        }
    }
    let (mesh, checked) = attempt(directory)?;
    tell(&checked.problems, directory)?;
    if (checked.compiled.is_none() || directory.files.is_empty())
        && let Ok(texts) = history.texts(history.current())
    {
        let (mesh, checked) = attempt(&texts)?;
        if checked.compiled.is_some() {
            let number = history.current();
            let why = if directory.files.is_empty() { "has no documents" } else { "cannot be" };
            naru_say::say!("naru: '{shown}' {why}; version {number}, which was in force before, goes on");
            return Ok((texts, mesh, checked));
        }
    }
    Ok((directory.clone(), mesh, checked))
}

/// What is said where no documents are left.
pub fn emptied(directory: &impl std::fmt::Display) -> String {
    format!(
        "there is no .yaml, .yml or .json file in '{directory}' any more\n  what was there before goes on"
    )
}

/// What cannot be kept is told, and stops nothing.
fn remember(kept: std::io::Result<u64>) -> Option<u64> {
    kept.map_err(|error| naru_say::say!("warning: the configuration in force cannot be kept: {error}")).ok()
}

/// Documents that are right, and that the proxy does not take over all the same.
struct NotStarted {
    error: StartError,
    /// The same with places, where it is about documents.
    found: Vec<Problem>,
}

impl std::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.error)
    }
}

/// Everything that runs.
struct Running<'a> {
    args: &'a UpArgs,
    proxy: Rc<Proxy>,
    supervisor: Supervisor,
    mesh: Mesh,
    /// What the proxy acts by, to be shown.
    in_force: Rc<RefCell<Config>>,
    /// Of documents of the Gateway API.
    statuses: admin::Statuses,
    acme: Acme,
    acme_events: UnboundedReceiver<acme::Event>,
    /// What is given up for the load.
    surge_levels: tokio::sync::watch::Receiver<u32>,
    /// Who tells other proxies the same.
    control: Option<Rc<ControlPlane>>,
    /// Those who have joined groups there.
    members: Option<watch::Receiver<Arc<[Member]>>>,
    history: History,
    /// What the directory is called, or the etcd that stands for it.
    source: String,
    origin: &'static str,
    /// What the directory says, whether it is in force or not.
    directory: Texts,
    asked: UnboundedReceiver<Asked>,
    loader: Loader,
    /// What could not be for an address that somebody else had, and when it is tried again: nobody says when it is free.
    again: Option<(Pin<Box<Sleep>>, Texts)>,
}

impl Running<'_> {
    /// Follows the directory and the processes until somebody asks to end.
    async fn watch(&mut self, mut source: Source, ends: &mut Ends, quit: &Notify) {
        let mut instances = self.supervisor.watch();
        loop {
            tokio::select! {
                biased;
                () = ends.asked() => return,
                () = quit.notified() => return,
                changed = instances.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = instances.borrow_and_update().clone();
                    if self.mesh.on_instances(&now)
                        && let Err(Some(error)) = self.put_in_force(self.mesh.check()).await
                    {
                        naru_say::say!("error: {error}");
                    }
                }
                Some(()) = other(&mut self.members) => self.on_members().await,
                Some(event) = self.acme_events.recv() => self.on_issuer(event).await,
                () = self.mesh.identity_due() => self.renew_identity().await,
                Ok(()) = self.surge_levels.changed() => self.run_workloads(),
                Some(asked) = self.asked.recv() => self.on_asked(asked).await,
                () = due(self.again.as_mut().map(|(pause, _)| pause)) => self.try_again().await,
                texts = source.changed() => match texts {
                    Ok(texts) => self.reload(&texts).await,
                    Err(error) => naru_say::say!("error: {error}\n  what was there before goes on"),
                },
            }
        }
    }

    /// Others have joined groups, or left them.
    async fn on_members(&mut self) {
        let Some(members) = &mut self.members else { return };
        let now = Arc::clone(&members.borrow_and_update());
        if self.mesh.on_members(&now)
            && let Err(Some(error)) = self.put_in_force(self.mesh.check()).await
        {
            naru_say::say!("error: {error}");
        }
        members::keep(members::file(&self.history), now).await;
    }

    /// A certificate, or what an issuer's server asks for, is put in force.
    async fn on_issuer(&mut self, event: acme::Event) {
        let waiting = self.acme.on_event(event);
        let surrounded = self.mesh.surround(&mut self.acme);
        let put = match surrounded {
            Ok(()) => self.put_in_force(self.mesh.check()).await,
            Err(error) => return naru_say::say!("error: {error:#}"),
        };
        if let Err(Some(error)) = put {
            naru_say::say!("error: {error}");
        }
        if let Some(waiting) = waiting {
            // Who does not wait any more has been told to end.
            let _ = waiting.send(());
        }
    }

    /// What other proxies are shown is put in force anew where it is time.
    async fn renew_identity(&mut self) {
        match self.mesh.identify() {
            Ok(false) => {}
            Ok(true) => {
                if let Err(Some(error)) = self.put_in_force(self.mesh.check()).await {
                    naru_say::say!("error: {error}");
                }
            }
            Err(error) => naru_say::say!("error: {error:#}"),
        }
    }

    /// With an error nothing has changed; without a word of it where problems have been told.
    async fn put_in_force(&self, checked: Checked) -> Result<(), Option<NotStarted>> {
        let (config, snapshot) = checked.compiled.ok_or(None)?;
        self.proxy.update(snapshot).await.map_err(|error| {
            let found = unstartable::of_error(&error, &config, self.mesh.resources());
            Some(NotStarted { error, found })
        })?;
        self.in_force.replace(config);
        self.statuses.replace(checked.statuses);
        self.tell_others();
        Ok(())
    }

    fn tell_others(&self) {
        if let Some(control) = &self.control {
            let held_back = control.put(self.mesh.documents());
            tokio::task::spawn_local(async move {
                if let Ok(held_back) = held_back.await {
                    tell_held_back(&held_back);
                }
            });
        }
    }

    /// As many of each as the load calls for.
    fn run_workloads(&mut self) {
        let level = *self.surge_levels.borrow_and_update();
        self.supervisor.apply(self.mesh.workloads(self.in_force.borrow().surge.as_ref(), level));
    }

    /// A save takes effect, or changes nothing.
    async fn reload(&mut self, texts: &Texts) {
        let directory = self.source.clone();
        if texts.files.is_empty() {
            // As where the directory itself is gone: that is most often a slip, and would end everything.
            return naru_say::say!("error: {}", emptied(&directory));
        }
        self.directory = texts.clone();
        self.again = None;
        let (problems, changed) = self.change(texts).await;
        // Standard error that is gone is nobody's loss.
        let _ = tell(&problems, texts);
        match changed {
            Ok(before) => self.took_effect(texts, before),
            Err(error) => {
                let found = match error {
                    Some(NotStarted { error, found }) => {
                        match found.is_empty() {
                            true => naru_say::say!("error: {error}"),
                            false => drop(tell(&found, texts)),
                        }
                        if error.is_taken() {
                            self.again = Some((Box::pin(sleep(AGAIN_AFTER)), texts.clone()));
                        }
                        found
                    }
                    None => Vec::new(),
                };
                let again = match self.again {
                    Some(_) => "; it is tried again until that address is free",
                    None => "",
                };
                naru_say::say!(
                    "naru: '{directory}' has changed and cannot be; what was there before goes on{again}"
                );
                if let Some(control) = &self.control {
                    let first = problems.iter().chain(&found).find(|problem| problem.is_error());
                    let why = first.map_or("it cannot be put in force", |problem| problem.message.as_str());
                    control.is_wrong(&directory.to_string(), why);
                }
            }
        }
    }

    fn took_effect(&mut self, texts: &Texts, before: Resources) {
        remember(self.history.put(texts, self.origin));
        naru_say::say!("naru: '{}' has changed; it is in effect", self.source);
        let summary = self.summary(before);
        tokio::task::spawn_local(async move {
            for line in summary.await {
                naru_say::say!("naru: {line}");
            }
        });
    }

    /// Without a word for as long as the address is not free.
    async fn try_again(&mut self) {
        let Some((_, texts)) = self.again.take() else { return };
        match self.change(&texts).await {
            (_, Ok(before)) => self.took_effect(&texts, before),
            (_, Err(Some(NotStarted { error, .. }))) if error.is_taken() => {
                self.again = Some((Box::pin(sleep(AGAIN_AFTER)), texts));
            }
            // Something else is wrong by now.
            _ => self.reload(&texts).await,
        }
    }

    /// Other documents take effect, and those before are returned; or nothing has changed; without a word of it where
    /// problems say why.
    async fn change(&mut self, texts: &Texts) -> (Vec<Problem>, Result<Resources, Option<NotStarted>>) {
        let before = self.mesh.replace(self.loader.load(texts));
        if let Err(error) = self.mesh.surround(&mut self.acme) {
            naru_say::say!("error: {error:#}");
            self.put_back(before);
            return (Vec::new(), Err(None));
        }
        let mut checked = self.mesh.check();
        let problems = std::mem::take(&mut checked.problems);
        let changed = match self.put_in_force(checked).await {
            Ok(()) => {
                self.mesh.learn_outbound(&self.proxy);
                self.run_workloads();
                self.acme.follow(self.mesh.orders());
                let (Loaded { resources, .. }, ..) = before;
                Ok(resources)
            }
            Err(error) => {
                self.put_back(before);
                Err(error)
            }
        };
        (problems, changed)
    }

    /// The documents from before, and the certificates that they ask for.
    fn put_back(&mut self, before: mesh::Replaced) {
        self.mesh.restore(before);
        if let Err(error) = self.mesh.surround(&mut self.acme) {
            naru_say::say!("error: {error:#}");
        }
    }

    /// Gateways take no more, requests under way are finished, then processes end.
    async fn end(&mut self, ends: &mut Ends) {
        naru_say::say!("naru: ending; a second signal ends at once");
        // Others keep what they have.
        self.control = None;
        self.mesh.close_gateways();
        let gently = async {
            // Where that fails, requests under way are finished all the same.
            let _ = self.put_in_force(self.mesh.check()).await;
            while self.proxy.report().await.downstream.requests_active > 0 {
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = gently => {}
            () = ends.asked() => std::process::exit(1),
            () = sleep(Duration::from_secs(self.args.drain_time)) => {
                naru_say::say!("naru: the drain time is over");
            }
        }
        self.proxy.drain();
        tokio::select! {
            () = self.supervisor.stop() => {}
            () = ends.asked() => std::process::exit(1),
        }
        let ended = async {
            while !self.proxy.has_ended() {
                sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(1), ended).await.is_err() {
            // Clients that keep their connections open keep nobody else.
            std::process::exit(0);
        }
    }
}

/// Once they are others.
async fn other<T>(watched: &mut Option<watch::Receiver<T>>) -> Option<()> {
    match watched {
        Some(watched) => watched.changed().await.ok(),
        None => None,
    }
}

async fn due(pause: Option<&mut Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.await,
        None => std::future::pending().await,
    }
}

/// Where what outlives a process is kept.
fn state(args: &UpArgs) -> PathBuf {
    args.state.clone().unwrap_or_else(default_state)
}

/// Where it is kept where nothing is said.
pub fn default_state() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let own = variable("XDG_STATE_HOME").map(|path| path.join("naru"));
    let own = own.or_else(|| Some(variable("HOME")?.join(".local/state/naru")));
    own.unwrap_or_else(|| PathBuf::from("/var/lib/naru"))
}

fn tell(found: &[Problem], texts: &Texts) -> anyhow::Result<()> {
    problems::print(found, &|file| texts.text(file), Output::Text)
}

/// With the places that it is about, where there are some.
fn refuse(error: StartError, found: &[Problem], texts: &Texts) -> Failure {
    if found.is_empty() {
        return error.into();
    }
    problems::refuse(found, &|file| texts.text(file), Output::Text)
}
