//! `naru control`: documents of a directory or an etcd, told to proxies by xDS.
//!
//! A save is one transaction: what it makes of the whole is sent, or is told to be wrong, and what was there before goes
//! on, also in a process that begins anew: it is kept on disk. Proxies that are not reached keep what they have.

mod admin;
pub mod secured;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use naru_discovery::{ControlPlane, Documents, HeldBack};
use naru_plan::Surroundings;
use naru_sources::{Loader, Texts};
use serde_json::Value;

use crate::authority::Authority;
use crate::cli::{ControlArgs, Failure, Output};
use crate::history::History;
use crate::members;
use crate::problems;
use crate::proxy_command::Ends;
use crate::rechecked::Rechecked;
use crate::sources::Source;
use crate::up_command::{default_state, emptied};

/// An etcd has so long to say something before what was in force is used.
pub const KEPT_AFTER: Duration = Duration::from_secs(2);

pub fn run(args: &ControlArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(control(args))
}

async fn control(args: &ControlArgs) -> Result<(), Failure> {
    let mut source = Source::open(args.config.as_deref(), &args.etcd)?;
    let mut ends = Ends::listen()?;
    let state = match args.state.as_deref() {
        Some(none) if none == Path::new("none") => None,
        Some(state) => Some(state.to_owned()),
        None => Some(default_state()),
    };
    if let Some(state) = &state {
        source.keeps_apart(state)?;
    }
    let kept = state.as_deref().map(|state| History::open(state, &source.place()));
    let members = kept.as_ref().map(members::file);
    let told = Rc::new(RefCell::new(Told::default()));
    let authority = Authority::new(state, args.mesh.life(), source.is_remote());
    let reader = Reader { authority, loader: Loader::default(), checked: Rechecked::default() };
    let mut desk = Desk { reader, kept, told: Rc::clone(&told) };
    let Some(documents) = desk.begin(&mut source, &mut ends).await? else { return Ok(()) };
    let plane = secured::start(args.address, args.insecure, &args.tls)?;
    let admin = admin::bind(args.admin).await.with_context(|| {
        format!("the admin interface cannot listen on {}; choose another with --admin", args.admin)
    })?;
    if let Some(file) = members {
        plane.restore(members::read(&file));
        tokio::task::spawn_local(members::follow(plane.members(), file));
    }
    if let Some(settings) = source.etcd().cloned() {
        tokio::task::spawn_local(members::share(Rc::downgrade(&plane), settings));
    }
    // Nobody is connected yet, so that nobody is left out.
    drop(plane.put(documents));
    if let Some(why) = &told.borrow().refused {
        plane.is_wrong(source.shown(), why);
    }
    let quit = Rc::new(tokio::sync::Notify::new());
    let look = source.look();
    let of_source = Rc::new(move || {
        let mut value = look();
        let told = told.borrow();
        // An etcd that says the same again is what holds.
        let is_read = told.refused.is_none() && !value["revision"].is_null();
        value["is_from_disk"] = Value::from(told.is_from_disk && !is_read);
        value
    });
    tokio::task::spawn_local(admin::serve(admin, Rc::clone(&plane), of_source, Rc::clone(&quit)));
    naru_say::say!("naru: xDS on {}", plane.address());
    naru_say::say!("naru: admin on http://{}", args.admin);
    naru_say::say!("naru: every valid save in '{}' is sent", source.shown());
    loop {
        tokio::select! {
            biased;
            () = ends.asked() => return Ok(()),
            () = quit.notified() => return Ok(()),
            texts = source.changed() => match texts {
                Ok(texts) => desk.reload(&source, &plane, &texts),
                Err(error) => {
                    naru_say::say!("error: {error}\n  what was there before goes on");
                    plane.is_wrong(source.shown(), &error.to_string());
                }
            },
        }
    }
}

/// What people are told of the documents that are there.
#[derive(Debug, Default)]
struct Told {
    /// What is in force was so in a process before this one, and nothing else was read yet.
    is_from_disk: bool,
    /// Why what is there now is not in force.
    refused: Option<String>,
}

/// What is in force, and was.
struct Desk {
    reader: Reader,
    kept: Option<History>,
    told: Rc<RefCell<Told>>,
}

impl Desk {
    /// What is sent first: what there is; or, where that cannot be read or cannot be, what was in force when a process
    /// for it last ran. An etcd is waited for. `None` where somebody asks to end meanwhile.
    async fn begin(&mut self, source: &mut Source, ends: &mut Ends) -> Result<Option<Documents>, Failure> {
        let mut is_patient = false;
        loop {
            let first = tokio::select! {
                biased;
                () = ends.asked() => return Ok(None),
                first = source.first() => first,
                () = tokio::time::sleep(KEPT_AFTER), if !is_patient => {
                    is_patient = true;
                    if let Some(documents) = self.use_kept(source)? {
                        return Ok(Some(documents));
                    }
                    naru_say::say!("naru: '{}' says nothing yet; it is waited for", source.shown());
                    continue;
                }
            };
            match first {
                Ok(texts) => {
                    let why = match self.reader.read(&texts)? {
                        Ok(documents) => {
                            self.keep(source, &texts);
                            return Ok(Some(documents));
                        }
                        Err(why) => why,
                    };
                    if let Some(documents) = self.use_kept(source)? {
                        self.refuse(why);
                        return Ok(Some(documents));
                    }
                    if !source.is_remote() {
                        return Err(Failure::Told);
                    }
                    naru_say::say!("naru: '{}' cannot be; another revision is waited for", source.shown());
                }
                Err(error) if source.is_remote() => naru_say::say!("error: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What was in force last.
    fn use_kept(&mut self, source: &mut Source) -> anyhow::Result<Option<Documents>> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let Ok(texts) = kept.texts(kept.current()) else { return Ok(None) };
        let documents = self.reader.read(&texts)?.ok();
        if documents.is_some() {
            let (number, shown) = (kept.current(), source.shown());
            naru_say::say!(
                "naru: what '{shown}' said before goes on: version {number}, which was kept on disk"
            );
            self.told.borrow_mut().is_from_disk = true;
            source.knows(&texts);
        }
        Ok(documents)
    }

    fn refuse_now(&self, source: &Source, plane: &ControlPlane, why: String) {
        plane.is_wrong(source.shown(), &why);
        self.refuse(why);
    }

    fn refuse(&self, why: String) {
        self.told.borrow_mut().refused = Some(why);
    }

    /// These are in force. What cannot be kept is told, and stops nothing.
    fn keep(&mut self, source: &Source, texts: &Texts) {
        self.told.replace(Told::default());
        if let Some(kept) = &mut self.kept
            && let Err(error) = kept.put(texts, source.origin())
        {
            naru_say::say!("warning: the configuration in force cannot be kept: {error}");
        }
    }

    fn reload(&mut self, source: &Source, plane: &ControlPlane, texts: &Texts) {
        let shown = source.shown();
        if texts.files.is_empty() {
            naru_say::say!("error: {}", emptied(&shown));
            return self.refuse_now(
                source,
                plane,
                "there is no .yaml, .yml or .json file any more".to_owned(),
            );
        }
        match self.reader.read(texts) {
            Ok(Ok(documents)) => {
                tokio::task::spawn_local(tell_sent(shown.to_owned(), plane.put(documents)));
                self.keep(source, texts);
            }
            Ok(Err(why)) => {
                self.refuse_now(source, plane, why);
                naru_say::say!("naru: '{shown}' has changed and cannot be; what was there before goes on");
            }
            // Standard error that is gone is nobody's loss.
            Err(_) => {}
        }
    }
}

/// Once it is known to whom.
async fn tell_sent(directory: String, held_back: Answer) {
    // What was saved since is told of instead.
    let Ok(held_back) = held_back.await else { return };
    match held_back.len() {
        0 => naru_say::say!("naru: '{directory}' has changed; it is sent"),
        1 => naru_say::say!("naru: '{directory}' has changed; it is sent to all but one kind of proxies"),
        count => {
            naru_say::say!("naru: '{directory}' has changed; it is sent to all but {count} kinds of proxies")
        }
    }
    tell_held_back(&held_back);
}

/// Whom it is not sent to, and why.
pub fn tell_held_back(held_back: &[HeldBack]) {
    for HeldBack { whom, why } in held_back {
        naru_say::say!("warning: {whom} keep what they have: {why}");
    }
}

/// To which of the nodes that are connected something is not told.
type Answer = tokio::sync::oneshot::Receiver<Vec<HeldBack>>;

/// Reads documents again and again, most of which are as they were.
struct Reader {
    authority: Authority,
    loader: Loader,
    checked: Rechecked,
}

impl Reader {
    /// Or what is wrong, in a line. All of it has been told.
    fn read(&mut self, texts: &Texts) -> anyhow::Result<Result<Documents, String>> {
        let loaded = self.loader.load(texts);
        let surroundings = Surroundings { is_strict: true, ..Surroundings::default() };
        let identities = match self.authority.identities(&loaded.resources) {
            Ok(identities) => identities,
            Err(error) => {
                naru_say::say!("error: {error:#}");
                return Ok(Err(format!("{error:#}")));
            }
        };
        let found = self.checked.check(&loaded, &surroundings);
        problems::print(&found, &|file| texts.text(file), Output::Text)?;
        let mut errors = found.iter().filter(|problem| problem.is_error());
        if let Some(first) = errors.next() {
            let at = format!("{}:{}:{}", first.file, first.line, first.column);
            let more = match errors.count() {
                0 => String::new(),
                count => format!(" (and {count} more)"),
            };
            return Ok(Err(format!("{at}: {}{more}", first.message)));
        }
        Ok(Ok(Documents { resources: loaded.resources, surroundings, identities }))
    }
}
