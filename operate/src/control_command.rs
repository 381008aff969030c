//! `naru control`: a directory of documents, told to proxies by xDS.
//!
//! A save is one transaction: what it makes of the whole is sent, or is told to be wrong, and what was there before goes
//! on. Proxies that are not reached keep what they have.

mod admin;

use std::rc::Rc;

use anyhow::Context as _;
use naru_discovery::{ControlPlane, Documents};
use naru_plan::Surroundings;
use naru_sources::{Texts, Watch};
use naru_spec::Problem;

use crate::check_command::check_loaded;
use crate::cli::{ControlArgs, Failure, Output};
use crate::problems;
use crate::proxy_command::Ends;
use crate::up_command::emptied;

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
    let Some(documents) = read(&texts)? else { return Err(Failure::Told) };
    let mut ends = Ends::listen()?;
    let plane = Rc::new(start(args.address, args.insecure)?);
    let admin = admin::bind(args.admin).await.with_context(|| {
        format!("the admin interface cannot listen on {}; choose another with --admin", args.admin)
    })?;
    plane.put(documents);
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
                Err(error) => eprintln!("error: {error}\n  what was there before goes on"),
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

fn reload(args: &ControlArgs, plane: &ControlPlane, texts: &Texts) {
    let directory = args.config.display();
    if texts.files.is_empty() {
        return eprintln!("error: {}", emptied(&directory));
    }
    match read(texts) {
        Ok(Some(documents)) => {
            plane.put(documents);
            eprintln!("naru: '{directory}' has changed; it is sent");
        }
        Ok(None) => {
            eprintln!("naru: '{directory}' has changed and cannot be; what was there before goes on");
        }
        // Standard error that is gone is nobody's loss.
        Err(_) => {}
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
