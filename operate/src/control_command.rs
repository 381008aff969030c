//! `naru control`: a directory of documents, told to proxies by xDS.
//!
//! A save is one transaction: what it makes of the whole is sent, or is told to be wrong, and what was there before goes
//! on. Proxies that are not reached keep what they have.

mod admin;

use std::rc::Rc;

use anyhow::Context as _;
use naru_discovery::{ControlPlane, Documents, HeldBack};
use naru_plan::Surroundings;
use naru_sources::{Texts, Watch};

use crate::check_command::check_loaded;
use crate::cli::{ControlArgs, Failure, Output};
use crate::problems;
use crate::proxy_command::Ends;

pub fn run(args: &ControlArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(control(args))
}

async fn control(args: &ControlArgs) -> Result<(), Failure> {
    if !args.config.is_dir() {
        return Err(anyhow::anyhow!("'{}' is not a directory", args.config.display()).into());
    }
    let paths = vec![args.config.clone()];
    let texts = Texts::read(&paths)?;
    let Ok(documents) = read(&texts)? else { return Err(Failure::Told) };
    let mut ends = Ends::listen()?;
    let plane = Rc::new(start(args.address, args.insecure)?);
    let admin = admin::bind(args.admin).await.with_context(|| {
        format!("the admin interface cannot listen on {}; choose another with --admin", args.admin)
    })?;
    // Nobody is connected yet.
    drop(plane.put(documents));
    let quit = Rc::new(tokio::sync::Notify::new());
    tokio::task::spawn_local(admin::serve(admin, Rc::clone(&plane), Rc::clone(&quit)));
    eprintln!("naru: xDS on {}", plane.address());
    eprintln!("naru: admin on http://{}", args.admin);
    eprintln!("naru: every valid save in '{}' is sent", args.config.display());
    let mut watch = Watch::new(paths, texts);
    loop {
        tokio::select! {
            biased;
            () = ends.asked() => return Ok(()),
            () = quit.notified() => return Ok(()),
            texts = watch.changed() => match texts {
                Ok(texts) => reload(args, &plane, &texts),
                Err(error) => {
                    eprintln!("error: {error}\n  what was there before goes on");
                    plane.is_wrong(&args.config.display().to_string(), &error.to_string());
                }
            },
        }
    }
}

/// Listens. What is told holds private keys, so that it stays on this machine unless somebody insists.
pub fn start(address: std::net::SocketAddr, is_insecure: bool) -> anyhow::Result<ControlPlane> {
    if !address.ip().is_loopback() && !is_insecure {
        anyhow::bail!(
            "{address} can be reached from other machines, and what is told there is not encrypted, \
             private keys among it; choose an address of this machine, or say --insecure"
        );
    }
    ControlPlane::start(address).with_context(|| format!("the xDS server cannot listen on {address}"))
}

fn reload(args: &ControlArgs, plane: &Rc<ControlPlane>, texts: &Texts) {
    let directory = args.config.display().to_string();
    match read(texts) {
        Ok(Ok(documents)) => {
            tokio::task::spawn_local(tell_sent(directory, plane.put(documents)));
        }
        Ok(Err(problem)) => {
            plane.is_wrong(&directory, &problem);
            eprintln!("naru: '{directory}' has changed and cannot be; what was there before goes on");
        }
        // Standard error that is gone is nobody's loss.
        Err(_) => {}
    }
}

/// Once it is known to whom.
async fn tell_sent(directory: String, held_back: Answer) {
    // What was saved since is told of instead.
    let Ok(held_back) = held_back.await else { return };
    match held_back.len() {
        0 => eprintln!("naru: '{directory}' has changed; it is sent"),
        1 => eprintln!("naru: '{directory}' has changed; it is sent to all but one kind of proxies"),
        count => eprintln!("naru: '{directory}' has changed; it is sent to all but {count} kinds of proxies"),
    }
    tell_held_back(&held_back);
}

/// Whom it is not sent to, and why.
pub fn tell_held_back(held_back: &[HeldBack]) {
    for HeldBack { whom, why } in held_back {
        eprintln!("warning: {whom} keep what they have: {why}");
    }
}

/// To which of the nodes that are connected something is not told.
type Answer = tokio::sync::oneshot::Receiver<Vec<HeldBack>>;

/// Or what is wrong, in a line. All of it has been told.
fn read(texts: &Texts) -> anyhow::Result<Result<Documents, String>> {
    let loaded = texts.load();
    let surroundings = Surroundings { is_strict: true, ..Surroundings::default() };
    let checked = check_loaded(&loaded, &surroundings);
    problems::print(&checked.problems, &|file| texts.text(file), Output::Text)?;
    let mut errors = checked.problems.iter().filter(|problem| problem.is_error());
    if let Some(first) = errors.next() {
        let at = format!("{}:{}:{}", first.file, first.line, first.column);
        let more = match errors.count() {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        return Ok(Err(format!("{at}: {}{more}", first.message)));
    }
    if checked.compiled.is_none() {
        return Ok(Err("it cannot be put in force".to_owned()));
    }
    Ok(Ok(Documents { resources: loaded.resources, surroundings }))
}
