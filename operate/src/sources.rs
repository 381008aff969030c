//! Where do documents come from? A directory, or an etcd that several machines share.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{anyhow, bail};
use naru_sources::etcd::{Endpoint, Look, Settings};
use naru_sources::{Etcd, ReadError, Texts, Watch};
use serde_json::{Value, json};

use crate::cli::{EtcdArgs, Failure};

/// One that is followed.
pub struct Source {
    shown: String,
    kind: Kind,
}

enum Kind {
    /// Read, and from then on watched.
    Directory(PathBuf, Option<Watch>),
    Etcd(Etcd),
}

impl Source {
    /// One of both is said. A runtime is entered.
    pub fn open(directory: Option<&Path>, etcd: &EtcdArgs) -> Result<Source, Failure> {
        match directory {
            Some(directory) if !directory.is_dir() => {
                Err(anyhow!("'{}' is not a directory", directory.display()).into())
            }
            Some(directory) => Ok(Source {
                shown: directory.display().to_string(),
                kind: Kind::Directory(directory.to_owned(), None),
            }),
            None => {
                let settings = settings(etcd).map_err(Failure::Usage)?;
                Ok(Source { shown: settings.shown(), kind: Kind::Etcd(Etcd::follow(settings)) })
            }
        }
    }

    /// What is kept in `state` is no document.
    ///
    /// # Errors
    /// It would be read as one.
    pub fn keeps_apart(&self, state: &Path) -> Result<(), Failure> {
        let Kind::Directory(directory, _) = &self.kind else { return Ok(()) };
        let absolute = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
        let (Ok(directory), Ok(kept)) = (absolute(directory), absolute(state)) else { return Ok(()) };
        let Ok(below) = kept.strip_prefix(&directory) else { return Ok(()) };
        // What begins with a dot is not read.
        if below.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".")) {
            return Ok(());
        }
        let (state, shown) = (state.display(), self.shown());
        let why =
            format!("what is kept in '{state}' would be read as documents of '{shown}': say another --state");
        Err(Failure::Usage(anyhow!(why)))
    }

    /// What people call it.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Of documents that came from it.
    pub fn origin(&self) -> &'static str {
        match self.kind {
            Kind::Directory(..) => "the directory",
            Kind::Etcd(_) => "etcd",
        }
    }

    /// Whether it may be away for a while.
    pub fn is_remote(&self) -> bool {
        matches!(self.kind, Kind::Etcd(_))
    }

    /// By what is kept of its documents is found.
    pub fn place(&self) -> PathBuf {
        match &self.kind {
            Kind::Directory(path, _) => path.clone(),
            Kind::Etcd(etcd) => {
                let endpoints: Vec<String> =
                    etcd.settings().endpoints.iter().map(Endpoint::to_string).collect();
                PathBuf::from(format!("{}@{}", self.shown, endpoints.join(",")))
            }
        }
    }

    /// What is there now. May be dropped and called again.
    pub async fn first(&mut self) -> Result<Texts, ReadError> {
        match &mut self.kind {
            Kind::Directory(path, watch) => {
                let paths = vec![path.clone()];
                let texts = Texts::read(&paths)?;
                *watch = Some(Watch::new(paths, texts.clone()));
                Ok(texts)
            }
            Kind::Etcd(etcd) => etcd.changed().await,
        }
    }

    /// The texts, once they are others than before. May be dropped and called again.
    pub async fn changed(&mut self) -> Result<Texts, ReadError> {
        if let Kind::Directory(_, None) = self.kind {
            return self.first().await;
        }
        match &mut self.kind {
            Kind::Directory(_, Some(watch)) => watch.changed().await,
            Kind::Directory(_, None) => std::future::pending().await,
            Kind::Etcd(etcd) => etcd.changed().await,
        }
    }

    /// These documents are in force already, from before.
    pub fn knows(&mut self, texts: &Texts) {
        if let Kind::Etcd(etcd) = &mut self.kind {
            etcd.knows(texts.clone());
        }
    }

    /// Of an etcd, which several may follow.
    pub fn etcd(&self) -> Option<&Settings> {
        match &self.kind {
            Kind::Directory(..) => None,
            Kind::Etcd(etcd) => Some(etcd.settings()),
        }
    }

    /// How it stands, for people, whenever it is asked for.
    pub fn look(&self) -> Rc<dyn Fn() -> Value> {
        let shown = self.shown.clone();
        match &self.kind {
            Kind::Directory(..) => Rc::new(move || json!({ "name": shown })),
            Kind::Etcd(etcd) => {
                let look: Look = etcd.look();
                Rc::new(move || {
                    let standing = look.standing();
                    json!({
                        "name": shown,
                        "revision": standing.revision,
                        "endpoint": standing.endpoint,
                        "trouble": standing.trouble,
                    })
                })
            }
        }
    }
}

/// What is said of an etcd on the command line.
pub fn settings(args: &EtcdArgs) -> anyhow::Result<Settings> {
    if args.etcd.is_empty() {
        bail!("say where the etcd is: --etcd http://127.0.0.1:2379");
    }
    let mut prefix = args.prefix.clone();
    if !prefix.ends_with('/') {
        prefix.push('/');
    }
    for endpoint in &args.etcd {
        if endpoint.is_tls && args.etcd_ca.is_none() {
            bail!("{endpoint}: say whom to believe: --etcd-ca FILE");
        }
        if !endpoint.is_tls && !is_here(&endpoint.host) {
            if args.etcd_user.is_some() {
                bail!("{endpoint}: a password is not sent to another machine without TLS: write https://");
            }
            naru_say::say!(
                "warning: {endpoint}: what is read there is not encrypted; write https:// and --etcd-ca"
            );
        }
    }
    Ok(Settings {
        endpoints: args.etcd.clone(),
        prefix,
        user: args.etcd_user.clone().zip(args.etcd_password_file.clone()),
        ca: args.etcd_ca.clone(),
        certificate: args.etcd_certificate.clone().zip(args.etcd_key.clone()),
        seed: naru_proxy::seed(),
    })
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_not_read_as_documents() {
        let directory = std::env::temp_dir().join(format!("naru-sources-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("kept")).unwrap();
        let etcd = EtcdArgs {
            etcd: Vec::new(),
            prefix: String::new(),
            etcd_user: None,
            etcd_password_file: None,
            etcd_ca: None,
            etcd_certificate: None,
            etcd_key: None,
        };
        let source = Source::open(Some(&directory), &etcd).ok().unwrap();
        for (state, is_apart) in
            [("", false), ("kept", false), ("new", false), (".kept/a", true), ("..", true)]
        {
            assert_eq!(source.keeps_apart(&directory.join(state)).is_ok(), is_apart, "{state}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
