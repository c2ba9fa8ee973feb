//! Accounts of plain_acl.yml become users with policies (spec: config.md §3.4, `migrateAuthFromV1Enabled`).
//!
//! Accounts whose name is a user's already are left out, so it may stay switched on. Addresses do not move: white lists let
//! requests pass unsigned, which policies cannot say.

use std::path::Path;

use oxmq_protocol::body::PlainAccountConfig;
use oxmq_protocol::topic;

use super::plain::PlainAcl;
use super::policy::{Action, Decision, Policy, PolicyEntry, PolicyType, Resource, ResourceKind};
use super::users::{UserChange, UserError, UserType};
use super::{Access, AccessError};
use crate::config::BrokerConfig;

impl Access {
    pub(super) fn migrate(&self, config: &BrokerConfig, now: i64) -> Result<(), AccessError> {
        let key = "migrateAuthFromV1Enabled";
        let users = self.policies().ok_or_else(|| AccessError::Setting {
            key,
            why: "authenticationMetadataProvider and authorizationMetadataProvider have to be set".into(),
        })?;
        let home = config.rocketmq_home.as_deref().ok_or(AccessError::Home)?;
        let accounts = PlainAcl::open(Path::new(home), &config.acl_plain_file)?.accounts();
        for account in accounts {
            let name = &account.access_key;
            let user = UserChange {
                password: account.secret_key.clone(),
                user_type: Some(match account.admin {
                    true => UserType::Super,
                    false => UserType::Normal,
                }),
                status: None,
            };
            let created = users.create(name, user, now).and_then(|()| {
                let policies: Vec<_> = policies_of(&account).iter().map(Policy::info).collect();
                match policies.is_empty() {
                    true => Ok(()),
                    false => users.put_acl(Some(&format!("User:{name}")), &policies, now),
                }
            });
            match created {
                Ok(()) => tracing::info!(target: "audit", user = name, "an account of plain_acl.yml became a user"),
                Err(UserError::Exists) => {}
                Err(error) => tracing::error!(user = name, %error, "an account of plain_acl.yml becomes no user"),
            }
        }
        Ok(self.persist()?)
    }
}

fn policies_of(account: &PlainAccountConfig) -> Vec<Policy> {
    let named = |kind, perms: &Option<Vec<String>>| -> Vec<PolicyEntry> {
        let perms = perms.iter().flatten().filter_map(|perm| perm.split_once('='));
        perms
            .map(|(name, perm)| {
                let name = name.trim();
                let name = match kind {
                    ResourceKind::Group => topic::group_of_retry(name).unwrap_or(name),
                    _ => name,
                };
                entry(Resource::literal(kind, name), perm)
            })
            .collect()
    };
    let default = |kind, perm: &Option<String>| {
        let perm = perm.as_deref().filter(|perm| !perm.trim().is_empty());
        perm.map(|perm| entry(Resource::all(kind), perm))
    };
    let custom = [
        named(ResourceKind::Topic, &account.topic_perms),
        named(ResourceKind::Group, &account.group_perms),
    ];
    let defaults = [
        default(ResourceKind::Topic, &account.default_topic_perm),
        default(ResourceKind::Group, &account.default_group_perm),
    ];
    let policies = [
        (PolicyType::Custom, custom.concat()),
        (PolicyType::Default, defaults.into_iter().flatten().collect()),
    ];
    let policies = policies
        .into_iter()
        .map(|(policy_type, entries)| Policy { policy_type, entries });
    policies.filter(|policy| !policy.entries.is_empty()).collect()
}

/// What is no permission stands for every action, as in the original.
fn entry(resource: Resource, perm: &str) -> PolicyEntry {
    let perm = perm.trim();
    PolicyEntry {
        resource,
        actions: match perm {
            "PUB" => vec![Action::Pub],
            "SUB" => vec![Action::Sub],
            "PUB|SUB" | "SUB|PUB" => vec![Action::Pub, Action::Sub],
            _ => vec![Action::All],
        },
        source_ips: Vec::new(),
        // To a permission that it cannot read the original allows everything.
        decision: match perm {
            "PUB" | "SUB" | "PUB|SUB" | "SUB|PUB" => Decision::Allow,
            _ => Decision::Deny,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::plain::file::AclFile;

    #[test]
    fn permissions_become_entries() {
        let file = AclFile::parse(include_str!("plain/testdata/plain_acl.yml")).unwrap();
        let accounts = file.configs().unwrap();
        let policies = policies_of(&accounts[0]);
        let shown: Vec<_> = policies
            .iter()
            .flat_map(|policy| &policy.entries)
            .map(|entry| format!("{} {:?} {:?}", entry.resource, entry.actions, entry.decision))
            .collect();
        let expected = [
            "Topic:orders [All] Deny",
            "Topic:payments [Pub, Sub] Allow",
            "Topic:news [Sub] Allow",
            "Group:audit [All] Deny",
            "Group:ledger [Pub, Sub] Allow",
            "Topic:* [All] Deny",
            "Group:* [Sub] Allow",
        ];
        assert_eq!(shown, expected);
        assert!(policies_of(&accounts[1]).is_empty());
    }
}
