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
use naru_discovery::{ControlPlane, Documents};
use naru_plan::Surroundings;
use naru_sources::Texts;
use naru_spec::Problem;
use serde_json::Value;

use crate::check_command::check_loaded;
use crate::cli::{ControlArgs, Failure, Output};
use crate::history::History;
use crate::problems;
use crate::proxy_command::Ends;
use crate::sources::Source;
use crate::up_command::default_state;

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
    let kept = match args.state.as_deref() {
        Some(none) if none == Path::new("none") => None,
        Some(state) => Some(History::open(state, &source.place())),
        None => Some(History::open(&default_state(), &source.place())),
    };
    let told = Rc::new(RefCell::new(Told::default()));
    let mut desk = Desk { kept, told: Rc::clone(&told) };
    let Some(documents) = desk.begin(&mut source, &mut ends).await? else { return Ok(()) };
    let plane = secured::start(args.address, args.insecure, &args.tls)?;
    let admin = admin::bind(args.admin).await.with_context(|| {
        format!("the admin interface cannot listen on {}; choose another with --admin", args.admin)
    })?;
    plane.put(documents);
    let quit = Rc::new(tokio::sync::Notify::new());
    let look = source.look();
    let of_source = Rc::new(move || {
        let mut value = look();
        let told = told.borrow();
        // An etcd that says the same again is what holds.
        let is_read = told.refused.is_none() && !value["revision"].is_null();
        value["is_from_disk"] = Value::from(told.is_from_disk && !is_read);
        value["refused"] = Value::from(told.refused.clone());
        value
    });
    tokio::task::spawn_local(admin::serve(admin, Rc::clone(&plane), of_source, Rc::clone(&quit)));
    eprintln!("naru: xDS on {}", plane.address());
    eprintln!("naru: admin on http://{}", args.admin);
    eprintln!("naru: every valid save in '{}' is sent", source.shown());
    loop {
        tokio::select! {
            biased;
            () = ends.asked() => return Ok(()),
            () = quit.notified() => return Ok(()),
            texts = source.changed() => match texts {
                Ok(texts) => desk.reload(&source, &plane, &texts),
                Err(error) => eprintln!("error: {error}\n  what was there before goes on"),
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
                    eprintln!("naru: '{}' says nothing yet; it is waited for", source.shown());
                    continue;
                }
            };
            match first {
                Ok(texts) => {
                    if let Some(documents) = read(&texts)? {
                        self.keep(source, &texts);
                        return Ok(Some(documents));
                    }
                    if let Some(documents) = self.use_kept(source)? {
                        self.refuse();
                        return Ok(Some(documents));
                    }
                    if !source.is_remote() {
                        return Err(Failure::Told);
                    }
                    eprintln!("naru: '{}' cannot be; another revision is waited for", source.shown());
                }
                Err(error) if source.is_remote() => eprintln!("error: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What was in force last.
    fn use_kept(&mut self, source: &mut Source) -> anyhow::Result<Option<Documents>> {
        let Some(kept) = &self.kept else { return Ok(None) };
        let Ok(texts) = kept.texts(kept.current()) else { return Ok(None) };
        let documents = read(&texts)?;
        if documents.is_some() {
            let (number, shown) = (kept.current(), source.shown());
            eprintln!("naru: what '{shown}' said before goes on: version {number}, which was kept on disk");
            self.told.borrow_mut().is_from_disk = true;
            source.knows(&texts);
        }
        Ok(documents)
    }

    fn refuse(&self) {
        self.told.borrow_mut().refused = Some("it has errors".to_owned());
    }

    /// These are in force. What cannot be kept is told, and stops nothing.
    fn keep(&mut self, source: &Source, texts: &Texts) {
        self.told.replace(Told::default());
        if let Some(kept) = &mut self.kept
            && let Err(error) = kept.put(texts, source.origin())
        {
            eprintln!("warning: the configuration in force cannot be kept: {error}");
        }
    }

    fn reload(&mut self, source: &Source, plane: &ControlPlane, texts: &Texts) {
        let shown = source.shown();
        match read(texts) {
            Ok(Some(documents)) => {
                plane.put(documents);
                self.keep(source, texts);
                eprintln!("naru: '{shown}' has changed; it is sent");
            }
            Ok(None) => {
                self.refuse();
                eprintln!("naru: '{shown}' has changed and cannot be; what was there before goes on");
            }
            // Standard error that is gone is nobody's loss.
            Err(_) => {}
        }
    }
}

/// Nothing where a problem is an error. They have been told.
fn read(texts: &Texts) -> anyhow::Result<Option<Documents>> {
    let loaded = texts.load();
    let surroundings = Surroundings { is_strict: true, ..Surroundings::default() };
    let checked = check_loaded(&loaded, &surroundings);
    problems::print(&checked.problems, &|file| texts.text(file), Output::Text)?;
    let is_wrong = checked.problems.iter().any(Problem::is_error) || checked.compiled.is_none();
    Ok((!is_wrong).then_some(Documents { resources: loaded.resources, surroundings }))
}
