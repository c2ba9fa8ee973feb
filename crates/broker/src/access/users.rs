//! The users of this broker and what they may do. Owns `config/auth.json`.
//!
//! The original keeps both in RocksDB. Here they are one file, so that a user and its policies come and go together. A
//! change is in memory when the call returns, and on disk after [`Users::persist`], which administrative requests wait for.
//! Readers take a snapshot: a decision sees all of a change or nothing of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use hashbrown::HashMap;
use oxmq_protocol::body::{AclInfo, DataVersion, PolicyInfo, UserInfo};
use oxmq_remoting::signing::SigningKey;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::policy::{self, Policy, PolicyError, PolicyType, Resource, Rules};
use crate::config_file::{ConfigFile, Unsaved};

/// Users of one broker.
const USERS_MAX: usize = 100_000;
/// Entries of one user's policies.
const ENTRIES_MAX: usize = 10_000;

/// Values with the names of the wire.
macro_rules! named {
    ($enum:ident { $($variant:ident = $name:literal),* }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $enum { $($variant),* }

        impl $enum {
            fn name(self) -> &'static str {
                match self { $($enum::$variant => $name),* }
            }

            fn parse(name: &str) -> Option<$enum> {
                [$($enum::$variant),*].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
            }
        }
    };
}

named!(UserType { Super = "Super", Normal = "Normal" });
named!(UserStatus { Enable = "enable", Disable = "disable" });

/// What an administrator said of a user: what is absent stays as it is.
#[derive(Clone, Default)]
pub(crate) struct UserChange {
    pub(crate) password: Option<String>,
    pub(crate) user_type: Option<UserType>,
    pub(crate) status: Option<UserStatus>,
}

pub(crate) struct User {
    name: String,
    password: String,
    pub(crate) user_type: UserType,
    pub(crate) status: UserStatus,
    /// Nothing if there was never any policy.
    policies: Option<Vec<Policy>>,
    pub(crate) key: SigningKey,
    pub(crate) rules: Rules,
}

/// Why users or policies were not changed, in the words of the original.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("username can not be blank")]
    NameBlank,
    #[error("password can not be blank")]
    PasswordBlank,
    #[error("The user is existed")]
    Exists,
    #[error("The user is not exist")]
    NoUser,
    #[error("The subject is null.")]
    NoSubject,
    #[error("The subject is not exist.")]
    SubjectUnknown,
    #[error("The subject of User:{0} is not exist.")]
    SubjectOfUnknown(String),
    #[error("The acl is not exist.")]
    NoAcl,
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("there are {USERS_MAX} users already")]
    TooManyUsers,
    #[error("the user has {ENTRIES_MAX} policy entries already")]
    TooManyEntries,
}

pub(crate) struct Users {
    file: ConfigFile,
    unsaved: Unsaved,
    snapshot: ArcSwap<Snapshot>,
    changing: Mutex<()>,
}

#[derive(Default, Clone)]
pub(crate) struct Snapshot {
    /// Tells snapshots apart.
    pub(crate) number: u64,
    version: DataVersion,
    users: HashMap<String, Arc<User>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    data_version: DataVersion,
    users: BTreeMap<String, StoredUser>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StoredUser {
    #[serde(flatten)]
    user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<Vec<PolicyInfo>>,
}

impl UserChange {
    /// Unknown names of types and states are taken for absent.
    pub(crate) fn of(info: &UserInfo) -> UserChange {
        UserChange {
            password: info.password.clone(),
            user_type: info.user_type.as_deref().and_then(UserType::parse),
            status: info.user_status.as_deref().and_then(UserStatus::parse),
        }
    }
}

impl User {
    fn new(
        name: &str,
        password: String,
        user_type: UserType,
        status: UserStatus,
        policies: Option<Vec<Policy>>,
    ) -> User {
        User {
            name: name.to_owned(),
            user_type,
            status,
            key: SigningKey::new(&password),
            rules: Rules::of(policies.as_deref().unwrap_or_default()),
            policies,
            password,
        }
    }

    fn read(name: &str, stored: StoredUser) -> Result<User, UserError> {
        let UserChange {
            password,
            user_type,
            status,
        } = UserChange::of(&stored.user);
        let policies = stored.policies.as_deref().map(Policy::read_all).transpose()?;
        Ok(User::new(
            name,
            password.ok_or(UserError::PasswordBlank)?,
            user_type.unwrap_or(UserType::Normal),
            // What cannot be read must not let anybody in.
            status.unwrap_or(UserStatus::Disable),
            policies,
        ))
    }

    fn changed(&self, change: UserChange) -> User {
        let password = change.password.filter(|password| !password.trim().is_empty());
        User::new(
            &self.name,
            password.unwrap_or_else(|| self.password.clone()),
            change.user_type.unwrap_or(self.user_type),
            change.status.unwrap_or(self.status),
            self.policies.clone(),
        )
    }

    fn with_policies(&self, policies: Option<Vec<Policy>>) -> User {
        User::new(&self.name, self.password.clone(), self.user_type, self.status, policies)
    }

    /// With the password, which `copyUser` needs.
    pub(crate) fn info(&self) -> UserInfo {
        UserInfo {
            password: Some(self.password.clone()),
            user_status: Some(self.status.name().to_owned()),
            user_type: Some(self.user_type.name().to_owned()),
            username: Some(self.name.clone()),
        }
    }

    pub(crate) fn acl(&self) -> Option<AclInfo> {
        let policies = self.policies.as_ref()?;
        Some(AclInfo {
            policies: Some(policies.iter().map(Policy::info).collect()),
            subject: Some(format!("User:{}", self.name)),
        })
    }
}

impl Snapshot {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// Those whose name has this in it, by name.
    fn list(&self, filter: &str) -> Vec<&Arc<User>> {
        let mut found: Vec<_> = self.users.values().filter(|user| user.name.contains(filter)).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }
}

impl Users {
    /// Reads `config/auth.json`. A user that cannot be read ends the start: nobody's rights are to be guessed.
    pub(crate) fn open(file: ConfigFile) -> io::Result<Users> {
        let stored: AuthFile = file.load()?.unwrap_or_default();
        let mut snapshot = Snapshot {
            version: stored.data_version,
            ..Snapshot::default()
        };
        for (name, stored) in stored.users {
            let user = User::read(&name, stored).map_err(|error| {
                let message = format!("the user {name} cannot be read: {error}");
                io::Error::new(io::ErrorKind::InvalidData, message)
            })?;
            snapshot.users.insert(name, Arc::new(user));
        }
        Ok(Users {
            file,
            unsaved: Unsaved::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            changing: Mutex::default(),
        })
    }

    #[inline]
    pub(crate) fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Writes the file if anything changed since it was written.
    pub(crate) fn persist(&self) -> io::Result<()> {
        self.unsaved.save(|| {
            let snapshot = self.snapshot.load();
            let stored = snapshot.users.values().map(|user| {
                let policies = user.acl().and_then(|acl| acl.policies);
                let user_info = user.info();
                (
                    user.name.clone(),
                    StoredUser {
                        user: user_info,
                        policies,
                    },
                )
            });
            self.file.save(&AuthFile {
                data_version: snapshot.version,
                users: stored.collect(),
            })
        })
    }

    pub(crate) fn create(&self, name: &str, new: UserChange, now: i64) -> Result<(), UserError> {
        if name.trim().is_empty() {
            return Err(UserError::NameBlank);
        }
        let password = new.password.filter(|password| !password.trim().is_empty());
        let password = password.ok_or(UserError::PasswordBlank)?;
        let user_type = new.user_type.unwrap_or(UserType::Normal);
        let user = User::new(
            name,
            password,
            user_type,
            new.status.unwrap_or(UserStatus::Enable),
            None,
        );
        self.change(now, |users| {
            if users.contains_key(name) {
                return Err(UserError::Exists);
            }
            if users.len() >= USERS_MAX {
                return Err(UserError::TooManyUsers);
            }
            users.insert(name.to_owned(), Arc::new(user));
            Ok(())
        })
    }

    pub(crate) fn update(&self, name: &str, change: UserChange, now: i64) -> Result<(), UserError> {
        self.change(now, |users| {
            let user = users.get_mut(name).ok_or(UserError::NoUser)?;
            *user = Arc::new(user.changed(change));
            Ok(())
        })
    }

    /// Removes the user with its policies, if there is such a user.
    pub(crate) fn delete(&self, name: &str, now: i64) -> Result<(), UserError> {
        self.change(now, |users| {
            users.remove(name);
            Ok(())
        })
    }

    /// Those whose name has this in it, by name.
    pub(crate) fn list(&self, filter: Option<&str>) -> Vec<UserInfo> {
        let snapshot = self.snapshot.load();
        let found = snapshot.list(filter.map(str::trim).unwrap_or_default());
        found.into_iter().map(|user| user.info()).collect()
    }

    /// Adds policies; an entry replaces the one for the same resource.
    pub(crate) fn put_acl(&self, subject: Option<&str>, infos: &[PolicyInfo], now: i64) -> Result<(), UserError> {
        let name = subject.and_then(user_of).ok_or(UserError::NoSubject)?;
        let new = Policy::read_all(infos)?;
        self.change(now, |users| {
            let unknown = || UserError::SubjectOfUnknown(name.to_owned());
            let user = users.get_mut(name).ok_or_else(unknown)?;
            let policies = match user.policies.clone() {
                None => new,
                Some(mut policies) => {
                    policy::merge(&mut policies, new);
                    policies
                }
            };
            if policies.iter().map(|policy| policy.entries.len()).sum::<usize>() > ENTRIES_MAX {
                return Err(UserError::TooManyEntries);
            }
            *user = Arc::new(user.with_policies(Some(policies)));
            Ok(())
        })
    }

    /// Removes the entry of a resource, or all policies of the subject where no resource is given.
    pub(crate) fn delete_acl(
        &self,
        subject: Option<&str>,
        policy_type: Option<&str>,
        resource: Option<&str>,
        now: i64,
    ) -> Result<(), UserError> {
        let name = subject.and_then(user_of).ok_or(UserError::NoSubject)?;
        let policy_type = policy_type.and_then(PolicyType::parse).unwrap_or(PolicyType::Custom);
        // The original takes a resource that it cannot read for none, and removes everything.
        let resource = resource.filter(|key| !key.trim().is_empty());
        let resource = resource.map(|key| Resource::parse(key).ok_or(PolicyError::Resource));
        let resource = resource.transpose()?;
        self.change(now, |users| {
            let user = users.get_mut(name).ok_or(UserError::SubjectUnknown)?;
            let mut policies = user.policies.clone().ok_or(UserError::NoAcl)?;
            match &resource {
                None => policies.clear(),
                Some(resource) => policy::remove(&mut policies, policy_type, resource),
            }
            let left = (!policies.is_empty()).then_some(policies);
            *user = Arc::new(user.with_policies(left));
            Ok(())
        })
    }

    pub(crate) fn acl(&self, subject: Option<&str>) -> Result<Option<AclInfo>, UserError> {
        let name = subject.and_then(user_of).ok_or(UserError::NoSubject)?;
        let snapshot = self.snapshot.load();
        let user = snapshot.get(name).ok_or(UserError::SubjectUnknown)?;
        Ok(user.acl())
    }

    /// Subjects that have `subject_filter` in them, with the entries whose resource has `resource_filter` in it; all entries
    /// of a subject that has `resource_filter` in it itself.
    pub(crate) fn list_acls(&self, subject_filter: Option<&str>, resource_filter: Option<&str>) -> Vec<AclInfo> {
        let not_blank = |filter: Option<&str>| filter.filter(|filter| !filter.trim().is_empty()).map(str::to_owned);
        let (subject_filter, resource_filter) = (not_blank(subject_filter), not_blank(resource_filter));
        let snapshot = self.snapshot.load();
        let mut found = Vec::new();
        for mut acl in snapshot.list("").into_iter().filter_map(|user| user.acl()) {
            let subject = acl.subject.clone().unwrap_or_default();
            if subject_filter.as_ref().is_some_and(|filter| !subject.contains(filter)) {
                continue;
            }
            if let Some(filter) = resource_filter.as_ref().filter(|filter| !subject.contains(*filter)) {
                let policies = acl.policies.get_or_insert_default();
                for policy in policies.iter_mut() {
                    let entries = policy.entries.get_or_insert_default();
                    entries.retain(|entry| entry.resource.as_ref().is_some_and(|key| key.contains(filter)));
                }
                policies.retain(|policy| policy.entries.as_ref().is_some_and(|entries| !entries.is_empty()));
            }
            if acl.policies.as_ref().is_some_and(|policies| !policies.is_empty()) {
                found.push(acl);
            }
        }
        found
    }

    fn change(
        &self,
        now: i64,
        change: impl FnOnce(&mut HashMap<String, Arc<User>>) -> Result<(), UserError>,
    ) -> Result<(), UserError> {
        let _one_at_a_time = self.changing.lock();
        let mut next = Snapshot::clone(&self.snapshot.load());
        change(&mut next.users)?;
        next.number += 1;
        next.version.advance(now);
        self.snapshot.store(Arc::new(next));
        self.unsaved.mark();
        Ok(())
    }
}

/// The name in `User:name`.
fn user_of(subject: &str) -> Option<&str> {
    let (kind, name) = subject.split_once(':').unwrap_or((subject, ""));
    kind.eq_ignore_ascii_case("User").then_some(name)
}

#[cfg(test)]
mod tests;
