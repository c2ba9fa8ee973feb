//! Users' policies: which resources they name, and what becomes of a request (spec: protocol.md §3.8).
//!
//! Among the entries that fit a request the one decides whose resource is named most exactly: by its name, then by the
//! longest prefix, then by its kind, then any. Where two are equally exact, the one that denies. Entries of the policy
//! `Default` are looked at only if none of `Custom` fits. Without any that fits the request is denied.

use std::fmt;
use std::net::IpAddr;

use hashbrown::HashMap;
use oxmq_protocol::body::{PolicyEntryInfo, PolicyInfo};

use super::address::Network;

/// Values with names that are read whatever their case.
macro_rules! named {
    ($(#[$meta:meta])* $enum:ident { $($variant:ident),* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum $enum { $($variant),* }

        impl $enum {
            pub(crate) fn name(self) -> &'static str {
                match self { $($enum::$variant => stringify!($variant)),* }
            }

            pub(crate) fn parse(name: &str) -> Option<$enum> {
                [$($enum::$variant),*].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
            }
        }
    };
}

named!(ResourceKind {
    Unknown,
    Any,
    Cluster,
    Namespace,
    Topic,
    Group
});
named!(Action {
    Unknown,
    All,
    Any,
    Pub,
    Sub,
    Create,
    Update,
    Delete,
    Get,
    List
});
named!(Decision { Allow, Deny });
named!(PolicyType { Custom, Default });

const KINDS: usize = 6;

/// A set of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Actions(u16);

impl Actions {
    pub(crate) const fn of(actions: &[Action]) -> Actions {
        let mut bits = 0;
        let mut at = 0;
        while at < actions.len() {
            bits |= 1 << actions[at] as u16;
            at += 1;
        }
        Actions(bits)
    }

    fn has(self, action: Action) -> bool {
        self.0 & 1 << action as u16 != 0
    }

    /// Whether who may do these may do one of the `asked`.
    fn permit(self, asked: Actions) -> bool {
        self.0 != 0 && (asked.has(Action::Any) || self.has(Action::All) || self.0 & asked.0 != 0)
    }
}

/// What a policy names: `Topic:name`, `Topic:prefix*`, `Topic:*` or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource {
    kind: ResourceKind,
    pattern: Pattern,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Any,
    Literal(String),
    Prefixed(String),
}

impl Resource {
    pub(crate) fn parse(key: &str) -> Option<Resource> {
        if key.trim().is_empty() {
            return None;
        }
        if key == "*" {
            return Some(Resource {
                kind: ResourceKind::Any,
                pattern: Pattern::Any,
            });
        }
        let (kind, name) = key.split_once(':').unwrap_or((key, ""));
        let pattern = match name {
            "*" => Pattern::Any,
            name if name.ends_with('*') => Pattern::Prefixed(name.split('*').next().unwrap_or_default().to_owned()),
            name => Pattern::Literal(name.to_owned()),
        };
        Some(Resource {
            kind: ResourceKind::parse(kind)?,
            pattern,
        })
    }

    pub(crate) fn literal(kind: ResourceKind, name: &str) -> Resource {
        Resource {
            kind,
            pattern: Pattern::Literal(name.to_owned()),
        }
    }

    pub(crate) fn all(kind: ResourceKind) -> Resource {
        Resource {
            kind,
            pattern: Pattern::Any,
        }
    }

    fn fits(&self, ask: &Ask<'_>) -> bool {
        if self.kind == ResourceKind::Any {
            return true;
        }
        let name = ask.name.as_deref();
        self.kind == ask.kind
            && match &self.pattern {
                Pattern::Any => true,
                Pattern::Literal(literal) => name == Some(literal),
                Pattern::Prefixed(prefix) => name.is_some_and(|name| name.starts_with(prefix)),
            }
    }

    /// Less is more exact.
    fn vagueness(&self) -> (u8, std::cmp::Reverse<usize>) {
        let (class, length) = match (self.kind, &self.pattern) {
            (ResourceKind::Any, _) => (3, 0),
            (_, Pattern::Literal(_)) => (0, 0),
            (_, Pattern::Prefixed(prefix)) => (1, prefix.encode_utf16().count()),
            (_, Pattern::Any) => (2, 0),
        };
        (class, std::cmp::Reverse(length))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.pattern) {
            (ResourceKind::Any, _) => f.write_str("*"),
            (kind, Pattern::Any) => write!(f, "{}:*", kind.name()),
            (kind, Pattern::Literal(name)) => write!(f, "{}:{name}", kind.name()),
            (kind, Pattern::Prefixed(prefix)) => write!(f, "{}:{prefix}*", kind.name()),
        }
    }
}

/// What a request wants to do: any one of the actions is enough.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ask<'a> {
    pub(crate) kind: ResourceKind,
    /// Nothing when the request does not say, which no name and no prefix fits.
    pub(crate) name: Option<std::borrow::Cow<'a, str>>,
    pub(crate) actions: Actions,
}

impl fmt::Display for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.name.as_deref().unwrap_or("null"))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PolicyEntry {
    pub(crate) resource: Resource,
    /// In the order they were given, for those who ask.
    pub(crate) actions: Vec<Action>,
    /// From where; empty for from anywhere.
    pub(crate) source_ips: Vec<Network>,
    pub(crate) decision: Decision,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    pub(crate) policy_type: PolicyType,
    pub(crate) entries: Vec<PolicyEntry>,
}

/// What is wrong with a policy, in the words of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("The policies is empty.")]
    NoPolicies,
    #[error("The resource is null.")]
    Resource,
    #[error("The actions is empty.")]
    NoActions,
    #[error("The actions can not be Any.")]
    AnyAction,
    #[error("The source ip is empty.")]
    SourceIpBlank,
    #[error("The source ip is invalid.")]
    SourceIp,
    #[error("The decision is null or illegal.")]
    Decision,
}

impl Policy {
    /// The policies of a request. Those without entries count for nothing.
    pub(crate) fn read_all(infos: &[PolicyInfo]) -> Result<Vec<Policy>, PolicyError> {
        let mut policies = Vec::new();
        for info in infos {
            let entries = info.entries.iter().flatten().map(PolicyEntry::read);
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            if !entries.is_empty() {
                let policy_type = info.policy_type.as_deref().and_then(PolicyType::parse);
                policies.push(Policy {
                    policy_type: policy_type.unwrap_or(PolicyType::Custom),
                    entries,
                });
            }
        }
        match policies.is_empty() {
            true => Err(PolicyError::NoPolicies),
            false => Ok(policies),
        }
    }

    pub(crate) fn info(&self) -> PolicyInfo {
        PolicyInfo {
            entries: Some(self.entries.iter().map(PolicyEntry::info).collect()),
            policy_type: Some(self.policy_type.name().to_owned()),
        }
    }

    fn entry_mut(&mut self, resource: &Resource) -> Option<&mut PolicyEntry> {
        self.entries.iter_mut().find(|entry| entry.resource == *resource)
    }
}

impl PolicyEntry {
    fn read(info: &PolicyEntryInfo) -> Result<PolicyEntry, PolicyError> {
        let resource = info.resource.as_deref().and_then(Resource::parse);
        let resource = resource.ok_or(PolicyError::Resource)?;
        let names = info.actions.iter().flatten();
        let actions: Vec<_> = names.filter_map(|name| Action::parse(name)).collect();
        if actions.is_empty() {
            return Err(PolicyError::NoActions);
        }
        if actions.contains(&Action::Any) {
            return Err(PolicyError::AnyAction);
        }
        let network = |text: &String| match text.trim().is_empty() {
            true => Err(PolicyError::SourceIpBlank),
            false => Network::parse(text).ok_or(PolicyError::SourceIp),
        };
        let source_ips = info.source_ips.iter().flatten().map(network);
        Ok(PolicyEntry {
            resource,
            actions,
            source_ips: source_ips.collect::<Result<_, _>>()?,
            decision: info
                .decision
                .as_deref()
                .and_then(Decision::parse)
                .ok_or(PolicyError::Decision)?,
        })
    }

    fn info(&self) -> PolicyEntryInfo {
        let source_ips = self.source_ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        PolicyEntryInfo {
            actions: Some(self.actions.iter().map(|action| action.name().to_owned()).collect()),
            decision: Some(self.decision.name().to_owned()),
            resource: Some(self.resource.to_string()),
            source_ips: (!source_ips.is_empty()).then_some(source_ips),
        }
    }
}

/// Takes the policies in: an entry for a resource that has one replaces it.
pub(crate) fn merge(policies: &mut Vec<Policy>, new: Vec<Policy>) {
    for new_policy in new {
        match policies
            .iter_mut()
            .find(|policy| policy.policy_type == new_policy.policy_type)
        {
            None => policies.push(new_policy),
            Some(known) => {
                for entry in new_policy.entries {
                    match known.entry_mut(&entry.resource) {
                        None => known.entries.push(entry),
                        Some(old) => *old = entry,
                    }
                }
            }
        }
    }
}

/// Removes the entry of a resource, and the policy with its last one.
pub(crate) fn remove(policies: &mut Vec<Policy>, policy_type: PolicyType, resource: &Resource) {
    let Some(at) = policies.iter().position(|policy| policy.policy_type == policy_type) else {
        return;
    };
    let entries = &mut policies[at].entries;
    if let Some(entry) = entries.iter().position(|entry| entry.resource == *resource) {
        entries.remove(entry);
    }
    if entries.is_empty() {
        policies.remove(at);
    }
}

/// Policies made ready for decisions.
#[derive(Debug, Default)]
pub(crate) struct Rules([RuleSet; 2]);

/// The entries of one policy. Those with a whole name are found by it, the others are few; both in the order in which
/// they decide.
#[derive(Debug, Default)]
struct RuleSet {
    by_name: [HashMap<String, Vec<Rule>>; KINDS],
    others: Vec<(Resource, Rule)>,
}

#[derive(Debug)]
struct Rule {
    actions: Actions,
    source_ips: Vec<Network>,
    decision: Decision,
}

impl Rules {
    pub(crate) fn of(policies: &[Policy]) -> Rules {
        let set = |policy_type| {
            let policy = policies.iter().find(|policy| policy.policy_type == policy_type);
            policy.map(RuleSet::of).unwrap_or_default()
        };
        Rules([PolicyType::Custom, PolicyType::Default].map(set))
    }

    /// Nothing if no entry fits.
    #[inline]
    pub(crate) fn decide(&self, ask: &Ask<'_>, from: IpAddr) -> Option<Decision> {
        self.0.iter().find_map(|set| set.decide(ask, from))
    }
}

impl RuleSet {
    fn of(policy: &Policy) -> RuleSet {
        let mut entries: Vec<_> = policy.entries.iter().collect();
        entries.sort_by_key(|entry| (entry.resource.vagueness(), entry.decision != Decision::Deny));
        let mut set = RuleSet::default();
        for entry in entries {
            let rule = Rule {
                actions: Actions::of(&entry.actions),
                source_ips: entry.source_ips.clone(),
                decision: entry.decision,
            };
            match &entry.resource.pattern {
                Pattern::Literal(name) if entry.resource.kind != ResourceKind::Any => {
                    let named = &mut set.by_name[entry.resource.kind as usize];
                    named.entry(name.clone()).or_default().push(rule);
                }
                _ => set.others.push((entry.resource.clone(), rule)),
            }
        }
        set
    }

    fn decide(&self, ask: &Ask<'_>, from: IpAddr) -> Option<Decision> {
        let named = ask
            .name
            .as_deref()
            .and_then(|name| self.by_name[ask.kind as usize].get(name));
        let others = self.others.iter().filter(|(resource, _)| resource.fits(ask));
        let mut rules = named.into_iter().flatten().chain(others.map(|(_, rule)| rule));
        let decides = rules.find(|rule| rule.actions.permit(ask.actions) && rule.is_for(from))?;
        Some(decides.decision)
    }
}

impl Rule {
    fn is_for(&self, from: IpAddr) -> bool {
        self.source_ips.is_empty() || self.source_ips.iter().any(|network| network.contains(from))
    }
}

#[cfg(test)]
mod tests;
