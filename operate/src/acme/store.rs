//! What is kept of an issuer: its account, the order that is under way, and the certificate with its key. Nobody else may
//! read it.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use naru_spec::{Certificate, DataSource};

use crate::private;

/// A chain and its key, PEM; one file, so that they are never of two times.
const CERTIFICATE: &str = "certificate.pem";
const ACCOUNT: &str = "account.json";
const ORDER: &str = "order.json";
const LOCK: &str = "lock";

#[derive(Debug)]
pub struct Store(PathBuf);

impl Store {
    /// Names of documents have no slashes.
    pub fn of(directory: &Path, issuer: &str) -> Store {
        Store(directory.join("acme").join(issuer.replace('/', "_")))
    }

    pub fn certificate(&self) -> Option<Certificate> {
        let pem = std::fs::read(self.0.join(CERTIFICATE)).ok()?;
        Some(Certificate::new(DataSource::Inline(pem.clone()), DataSource::Inline(pem)))
    }

    pub fn keep_certificate(&self, certificate: &Certificate) -> anyhow::Result<()> {
        let DataSource::Inline(pem) = &certificate.chain else { return Ok(()) };
        self.keep(CERTIFICATE, pem)
    }

    pub fn account(&self) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(ACCOUNT)).ok()
    }

    pub fn keep_account(&self, account: &[u8]) -> anyhow::Result<()> {
        self.keep(ACCOUNT, account)
    }

    /// What is under way, or was when the process before this one ended.
    pub fn order(&self) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(ORDER)).ok()
    }

    pub fn keep_order(&self, order: &[u8]) -> anyhow::Result<()> {
        self.keep(ORDER, order)
    }

    pub fn forget_order(&self) {
        // Mostly there is none.
        let _ = std::fs::remove_file(self.0.join(ORDER));
    }

    /// `None` where another process has it. It is given back when the file is closed.
    pub fn lock(&self) -> anyhow::Result<Option<File>> {
        private::make_directory(&self.0)?;
        let path = self.0.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.with_context(|| path.display().to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// The whole file or the one before.
    fn keep(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        private::write(&self.0.join(name), bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_for_nobody_else_and_is_there_again() {
        let directory = std::env::temp_dir().join(format!("naru-acme-{}", std::process::id()));
        let store = Store::of(&directory, "edge.default");
        assert!(store.certificate().is_none() && store.account().is_none());
        store.keep_account(b"one").unwrap();
        store.keep_account(b"two").unwrap();
        let pem = DataSource::Inline(b"pem".to_vec());
        store.keep_certificate(&Certificate::new(pem.clone(), pem.clone())).unwrap();
        let again = Store::of(&directory, "edge.default");
        assert_eq!(again.account().unwrap(), b"two");
        assert_eq!(again.certificate().unwrap().key, pem);
        for (path, mode) in
            [(store.0.clone(), 0o700), (store.0.join(ACCOUNT), 0o600), (store.0.join(CERTIFICATE), 0o600)]
        {
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{path:?}");
        }
        store.keep_order(b"three").unwrap();
        assert_eq!(again.order().unwrap(), b"three");
        again.forget_order();
        again.forget_order();
        assert!(store.order().is_none());
        assert_eq!(std::fs::read_dir(&store.0).unwrap().count(), 2, "nothing is left over");
        let lock = store.lock().unwrap();
        assert!(lock.is_some() && again.lock().unwrap().is_none());
        drop(lock);
        assert!(again.lock().unwrap().is_some());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
