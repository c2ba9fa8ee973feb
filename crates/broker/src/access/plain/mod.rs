//! Access control of RocketMQ 4.x: accounts in `conf/plain_acl.yml` and in files below `conf/acl/`
//! (spec: config.md §3.2).
//!
//! The files may be edited while the broker runs: they are taken over when they looked alike twice and can be read. Until
//! then, and when one of them cannot be read, what was read last goes on being used.

pub(crate) mod account;
pub(crate) mod file;
mod white_address;

use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use oxmq_protocol::body::{DataVersion, PlainAccountConfig, PlainAclConfig};
use oxmq_remoting::signing::{ACCESS_KEY, SIGNATURE};
use oxmq_store::config_file;
use oxmq_store::disk::RealDisk;
use parking_lot::Mutex;

use super::request::SignedRequest;
use account::{Account, AccountError, PlainRefusal};
use file::{AclFile, AclFileError, FILE_BYTES_MAX};
use white_address::WhiteAddress;

/// Files of accounts.
const FILES_MAX: usize = 1000;
/// Folders within each other below `conf/acl`.
const DEPTH_MAX: usize = 8;
/// What stands in an answer for a secret key.
const HIDDEN: &str = "******";

pub(crate) struct PlainAcl {
    folder: PathBuf,
    default_file: PathBuf,
    state: ArcSwap<State>,
    looks: Mutex<Looks>,
}

#[derive(Default)]
struct State {
    files: Vec<(PathBuf, AclFile)>,
    /// With the place of the file that has it. A key that comes in two files belongs to the first.
    accounts: HashMap<String, (Account, usize)>,
    white: Vec<WhiteAddress>,
}

/// How the files looked.
#[derive(Default)]
struct Looks {
    /// When they were read, whether or not they could be.
    read: Vec<Stamp>,
    last: Vec<Stamp>,
}

#[derive(Debug, PartialEq, Eq, Clone)]
struct Stamp {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// Why files of accounts were not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum PlainAclError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {error}")]
    File { path: PathBuf, error: AclFileError },
    #[error("more than {FILES_MAX} files below {0}")]
    TooMany(PathBuf),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error("{0} is no file of accounts of this broker")]
    NoAclFile(String),
}

impl From<AccountError> for Box<PlainAclError> {
    fn from(error: AccountError) -> Self {
        Box::new(error.into())
    }
}

impl PlainAcl {
    /// Reads the files. `default_file` is relative to the home folder.
    pub(crate) fn open(home: &Path, default_file: &str) -> Result<PlainAcl, Box<PlainAclError>> {
        let acl = PlainAcl {
            folder: home.join("conf/acl"),
            default_file: home.join(default_file.trim_start_matches('/')),
            state: ArcSwap::default(),
            looks: Mutex::default(),
        };
        acl.read_now(&mut acl.looks.lock())?;
        Ok(acl)
    }

    /// Takes over what has changed since it was read, once it has settled.
    pub(crate) fn look(&self) {
        let mut looks = self.looks.lock();
        let now = match self.stamps() {
            Ok(now) => now,
            Err(error) => return tracing::error!(%error, "the files of accounts cannot be looked at"),
        };
        let has_settled = now == looks.last;
        looks.last = now;
        if has_settled && looks.last != looks.read {
            match self.read_now(&mut looks) {
                Ok(()) => tracing::info!(accounts = self.state.load().accounts.len(), "accounts were read again"),
                Err(error) => tracing::error!(%error, "accounts stay as they were"),
            }
        }
    }

    fn read_now(&self, looks: &mut Looks) -> Result<(), Box<PlainAclError>> {
        let stamps = self.stamps()?;
        looks.read.clone_from(&stamps);
        let mut state = State::default();
        for Stamp { path, .. } in stamps {
            let refused = |error| PlainAclError::File {
                path: path.clone(),
                error,
            };
            let file = AclFile::parse(&read(&path)?).map_err(refused)?;
            state.white.extend(file.white_addresses().map_err(refused)?);
            for account in file.accounts().map_err(refused)? {
                let key = account.config.access_key.clone();
                if state.accounts.contains_key(&key) {
                    tracing::warn!(access_key = key, path = %path.display(), "this account was read before");
                    continue;
                }
                state.accounts.insert(key, (account, state.files.len()));
            }
            state.files.push((path, file));
        }
        self.state.store(Arc::new(state));
        Ok(())
    }

    /// Those below the folder, then the file that everybody has.
    fn stamps(&self) -> Result<Vec<Stamp>, Box<PlainAclError>> {
        let mut paths = Vec::new();
        list(&self.folder, DEPTH_MAX, &mut paths)?;
        paths.sort();
        if !paths.contains(&self.default_file) {
            paths.push(self.default_file.clone());
        }
        let mut stamps = Vec::new();
        for path in paths {
            match fs::metadata(&path) {
                Ok(found) => stamps.push(Stamp {
                    path,
                    bytes: found.len(),
                    modified: found.modified().ok(),
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(Box::new(PlainAclError::Io { path, source })),
            }
        }
        Ok(stamps)
    }

    /// Whether the request may pass. `content` is for use here.
    pub(super) fn check(
        &self,
        request: &SignedRequest<'_>,
        body: &[u8],
        from: IpAddr,
        content: &mut Vec<u8>,
    ) -> Result<(), PlainRefusal> {
        let state = self.state.load();
        if state.white.iter().any(|pattern| pattern.matches(from)) {
            return Ok(());
        }
        let access_key = request.get(ACCESS_KEY).ok_or(PlainRefusal::NoAccessKey)?;
        let account = state.accounts.get(&*access_key);
        let Some((account, _)) = account else {
            return Err(PlainRefusal::Unknown(access_key.into_owned()));
        };
        if account.is_welcome_from(from) {
            return Ok(());
        }
        request.write_content(body, content);
        let signature = request.get(SIGNATURE).unwrap_or_default();
        if !account.key.verify(content, signature.as_bytes()) {
            return Err(PlainRefusal::Signature(access_key.into_owned()));
        }
        account.permits(request, body)
    }

    /// Everything that the files say. Secret keys are left out: no request shall bring them to light (CVE-2024-23321).
    pub(crate) fn config(&self) -> PlainAclConfig {
        let state = self.state.load();
        let mut all = PlainAclConfig::default();
        for (at, (_, file)) in state.files.iter().enumerate() {
            all.global_white_addrs.extend(file.white_patterns().unwrap_or_default());
            let configs = file.configs().unwrap_or_default();
            let is_used = |config: &PlainAccountConfig| {
                let used = state.accounts.get(&config.access_key);
                used.is_some_and(|(_, file)| *file == at)
            };
            all.plain_access_configs
                .extend(configs.into_iter().filter(is_used).map(|config| PlainAccountConfig {
                    secret_key: Some(HIDDEN.into()),
                    ..config
                }));
        }
        all
    }

    /// For migration: with secret keys.
    pub(super) fn accounts(&self) -> Vec<PlainAccountConfig> {
        let state = self.state.load();
        let mut accounts: Vec<_> = state
            .accounts
            .values()
            .map(|(account, _)| account.config.clone())
            .collect();
        accounts.sort_by(|one, other| one.access_key.cmp(&other.access_key));
        accounts
    }

    /// The version of each file.
    pub(crate) fn versions(&self) -> Vec<(PathBuf, DataVersion)> {
        let state = self.state.load();
        let files = state.files.iter();
        files.map(|(path, file)| (path.clone(), file.version())).collect()
    }

    pub(crate) fn default_version(&self) -> DataVersion {
        let state = self.state.load();
        let default = state.files.iter().find(|(path, _)| *path == self.default_file);
        default.map(|(_, file)| file.version()).unwrap_or_default()
    }

    /// Creates the account in the default file, or changes it where it is.
    pub(crate) fn put(&self, config: &PlainAccountConfig, now: i64) -> Result<(), Box<PlainAclError>> {
        Account::check(config)?;
        self.change(|state| {
            let at = state.accounts.get(&config.access_key).map(|(_, at)| *at);
            let (path, file) = self.file(state, at);
            Ok((path, file.with_account(config, now)))
        })
    }

    /// False if there is no such account.
    pub(crate) fn remove(&self, access_key: &str, now: i64) -> Result<bool, Box<PlainAclError>> {
        let known = self.state.load().accounts.contains_key(access_key);
        if !known {
            return Ok(false);
        }
        self.change(|state| {
            let at = state.accounts.get(access_key).map(|(_, at)| *at);
            let (path, file) = self.file(state, at);
            Ok((path, file.without_account(access_key, now).unwrap_or(file)))
        })?;
        Ok(true)
    }

    /// Sets the white list of one file, the default one if none is named. No other file can be named than those that are
    /// read.
    pub(crate) fn set_white_addresses(
        &self,
        patterns: &[String],
        path: Option<&str>,
        now: i64,
    ) -> Result<(), Box<PlainAclError>> {
        for pattern in patterns {
            WhiteAddress::parse(pattern).map_err(AccountError::from)?;
        }
        self.change(|state| {
            let at = match path.filter(|path| !path.is_empty()) {
                None => None,
                Some(named) => {
                    let known = state.files.iter().position(|(path, _)| path == Path::new(named));
                    Some(known.ok_or_else(|| PlainAclError::NoAclFile(named.to_owned()))?)
                }
            };
            let (path, file) = self.file(state, at);
            Ok((path, file.with_white_addresses(patterns, now)))
        })
    }

    /// The file at this place, else the default one.
    fn file(&self, state: &State, at: Option<usize>) -> (PathBuf, AclFile) {
        let default = || state.files.iter().find(|(path, _)| *path == self.default_file);
        let found = at.map(|at| &state.files[at]).or_else(default);
        found
            .cloned()
            .unwrap_or_else(|| (self.default_file.clone(), AclFile::default()))
    }

    fn change(
        &self,
        change: impl FnOnce(&State) -> Result<(PathBuf, AclFile), Box<PlainAclError>>,
    ) -> Result<(), Box<PlainAclError>> {
        let mut looks = self.looks.lock();
        // Another may just have edited them by hand.
        self.read_now(&mut looks)?;
        let (path, file) = change(&self.state.load())?;
        config_file::save(&RealDisk, &path, file.to_yaml().as_bytes())
            .map_err(|source| PlainAclError::Io { path, source })?;
        self.read_now(&mut looks)
    }
}

fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Box<PlainAclError>> {
    let failed = |source| PlainAclError::Io {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Box::new(failed(error))),
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|kind| kind == "yml" || kind == "yaml") {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            list(&path, depth - 1, found)?;
        }
        if found.len() > FILES_MAX {
            return Err(Box::new(PlainAclError::TooMany(folder.to_path_buf())));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, PlainAclError> {
    let read = || {
        let mut text = String::new();
        fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|source| PlainAclError::Io {
        path: path.to_path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests;
