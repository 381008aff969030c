//! The bootstrap file: read, refused, and what it names besides.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use naru_journey::Snapshot;
use naru_proxy::StartError;
use naru_spec::config::Place;
use naru_spec::{Certificate, Config, DataSource, Invalid, Problem};
use naru_xds::Loaded;
use naru_xds::discovery::Dynamic;

use crate::cli::{Failure, Output, ProxyArgs};
use crate::problems;

/// The file that was read, and what it is not refused for.
pub struct Document {
    pub file: String,
    pub text: Arc<str>,
    warnings: Vec<Problem>,
    output: Output,
    /// Files of certificates and keys that it names.
    pub certificates: Vec<PathBuf>,
    /// What does not stand in it, and who has it.
    pub dynamic: Option<Box<Dynamic>>,
}

impl Document {
    /// Reads it, and makes a snapshot of it. Everything that is wrong has been printed then.
    pub fn read(args: &ProxyArgs) -> Result<(Document, Snapshot), Failure> {
        let file = args.config.display().to_string();
        let text: Arc<str> =
            std::fs::read_to_string(&args.config).with_context(|| format!("'{file}' cannot be read"))?.into();
        let loaded = load_apart(&file, &text)
            .map_err(|found| problems::refuse(&found, &|_| Some(&text), args.output))?;
        let certificates = certificates(&loaded.config);
        let Loaded { config, warnings, dynamic } = loaded;
        let document = Document { file, text, warnings, output: args.output, certificates, dynamic };
        let snapshot = Snapshot::compile(config).map_err(|found| document.refuse(&found))?;
        // Reading the configuration took more memory than keeping it does.
        naru_memory::give_back();
        Ok((document, snapshot))
    }

    /// What it is not refused for.
    pub fn warn(&self) -> anyhow::Result<()> {
        problems::print(&self.warnings, &|_| Some(&self.text), self.output)
    }

    /// Prints everything that was found, the warnings first: in JSON that is one array.
    fn refuse(&self, found: &[(Place, Invalid)]) -> Failure {
        let mut all = self.warnings.clone();
        let located = naru_xds::locate(&self.file, &self.text, found);
        if located.is_empty()
            && let Some((_, first)) = found.first()
        {
            // It is of no place of this text.
            return anyhow::anyhow!("{first}").into();
        }
        all.extend(located);
        problems::refuse(&all, &|_| Some(&self.text), self.output)
    }

    pub fn refuse_to_start(&self, error: StartError) -> Failure {
        match error {
            StartError::Config(found) => self.refuse(&found),
            error => error.into(),
        }
    }
}

/// Reads it where nothing else lives. What is kept of a configuration are some thousand small blocks, strewn over all
/// that reading it took; a copy of it stands close together, and of the rest every page is given back.
pub fn load_apart(file: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    let read = std::thread::scope(|scope| scope.spawn(|| naru_xds::load(file, text)).join());
    let loaded = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let (config, warnings) = (loaded.config.clone(), loaded.warnings.clone());
    Ok(Loaded { config, warnings, dynamic: loaded.dynamic.clone() })
}

fn certificates(config: &Config) -> Vec<PathBuf> {
    let mut files = BTreeSet::new();
    let mut add = |source: &DataSource| {
        if let DataSource::File(path) = source {
            files.insert(PathBuf::from(path));
        }
    };
    for tls in
        config.listeners.iter().flat_map(|listener| &listener.chains).filter_map(|chain| chain.tls.as_ref())
    {
        tls.certificates.iter().flat_map(Certificate::sources).chain(tls.trust_sources()).for_each(&mut add);
    }
    for tls in config.clusters.iter().filter_map(|cluster| cluster.tls.as_ref()) {
        tls.certificate.iter().flat_map(Certificate::sources).chain(tls.trust_sources()).for_each(&mut add);
    }
    files.into_iter().collect()
}
