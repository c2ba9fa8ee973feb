use proptest::prelude::*;

use super::*;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

fn entry(resource: &str, actions: &str, decision: &str, ips: &[&str]) -> PolicyEntryInfo {
    PolicyEntryInfo {
        actions: Some(actions.split(',').map(str::to_owned).collect()),
        decision: Some(decision.to_owned()),
        resource: Some(resource.to_owned()),
        source_ips: Some(ips.iter().map(|ip| (*ip).to_owned()).collect()),
    }
}

fn policy(policy_type: &str, entries: &[PolicyEntryInfo]) -> PolicyInfo {
    PolicyInfo {
        entries: Some(entries.to_vec()),
        policy_type: Some(policy_type.to_owned()),
    }
}

fn decide(policies: &[PolicyInfo], kind: ResourceKind, name: &str, action: Action) -> Option<Decision> {
    let rules = Rules::of(&Policy::read_all(policies).unwrap());
    let ask = Ask {
        kind,
        name: Some(name.into()),
        actions: Actions::of(&[action]),
    };
    rules.decide(&ask, FROM)
}

#[track_caller]
fn check(entries: &[(&str, &str)], topic: &str, expected: Option<Decision>) {
    let entries: Vec<_> = entries
        .iter()
        .map(|(resource, decision)| entry(resource, "Pub", decision, &[]))
        .collect();
    let policies = [policy("Custom", &entries)];
    assert_eq!(decide(&policies, ResourceKind::Topic, topic, Action::Pub), expected);
}

#[test]
fn the_most_exact_resource_decides() {
    let (allow, deny) = (Some(Decision::Allow), Some(Decision::Deny));
    check(&[("Topic:a*", "Deny"), ("Topic:abc", "Allow")], "abc", allow);
    check(&[("Topic:a*", "Deny"), ("Topic:ab*", "Allow")], "abc", allow);
    check(&[("Topic:*", "Deny"), ("Topic:a*", "Allow")], "abc", allow);
    check(&[("*", "Deny"), ("Topic:*", "Allow")], "abc", allow);
    check(&[("*", "Allow"), ("Group:abc", "Deny")], "abc", allow);
    check(&[("Topic:abc", "Allow"), ("Topic:abc", "Deny")], "abc", deny);
    check(&[("Topic:ab", "Allow")], "abc", None);
    check(&[("Group:*", "Allow")], "abc", None);
}

#[test]
fn default_policies_are_asked_when_no_custom_one_fits() {
    let policies = [
        policy("Default", &[entry("Topic:*", "Sub", "Allow", &[])]),
        policy("custom", &[entry("Topic:secret", "All", "Deny", &[])]),
    ];
    let to = |topic, action| decide(&policies, ResourceKind::Topic, topic, action);
    assert_eq!(to("secret", Action::Sub), Some(Decision::Deny));
    assert_eq!(to("open", Action::Sub), Some(Decision::Allow));
    assert_eq!(to("open", Action::Pub), None);
}

#[test]
fn an_entry_counts_for_its_actions_and_addresses_only() {
    let policies = [policy(
        "Custom",
        &[
            entry("Topic:t", "pub,SUB", "Allow", &["10.1.0.0/16"]),
            entry("Topic:*", "Get", "Deny", &["10.1.2.4"]),
        ],
    )];
    let decide = |action| decide(&policies, ResourceKind::Topic, "t", action);
    assert_eq!(decide(Action::Pub), Some(Decision::Allow));
    assert_eq!(decide(Action::Get), None);
    assert_eq!(decide(Action::Any), Some(Decision::Allow));
}

#[test]
fn policies_that_are_none_are_refused_in_the_words_of_the_original() {
    let refused = |entry: PolicyEntryInfo| Policy::read_all(&[policy("Custom", &[entry])]).unwrap_err().to_string();
    assert_eq!(refused(entry("Foo:a", "Pub", "Allow", &[])), "The resource is null.");
    assert_eq!(
        refused(entry("Topic:a", "Any", "Allow", &[])),
        "The actions can not be Any."
    );
    assert_eq!(refused(entry("Topic:a", "Fly", "Allow", &[])), "The actions is empty.");
    assert_eq!(
        refused(entry("Topic:a", "Pub", "Perhaps", &[])),
        "The decision is null or illegal."
    );
    assert_eq!(
        refused(entry("Topic:a", "Pub", "Allow", &["10.0.*.1"])),
        "The source ip is invalid."
    );
    assert_eq!(
        refused(entry("Topic:a", "Pub", "Allow", &[" "])),
        "The source ip is empty."
    );
    assert_eq!(Policy::read_all(&[policy("Custom", &[])]), Err(PolicyError::NoPolicies));
}

#[test]
fn entries_are_replaced_by_resource_and_policies_go_with_their_last_one() {
    let read = |entries: &[PolicyEntryInfo]| Policy::read_all(&[policy("Custom", entries)]).unwrap();
    let mut policies = read(&[entry("Topic:a", "Pub", "Allow", &[])]);
    merge(
        &mut policies,
        read(&[
            entry("Topic:a", "Sub", "Deny", &[]),
            entry("Topic:a*", "Sub", "Deny", &[]),
        ]),
    );
    let shown: Vec<_> = policies[0]
        .entries
        .iter()
        .map(|entry| entry.resource.to_string())
        .collect();
    assert_eq!(shown, ["Topic:a", "Topic:a*"]);
    assert_eq!(policies[0].entries[0].actions, [Action::Sub]);
    remove(&mut policies, PolicyType::Default, &Resource::parse("Topic:a").unwrap());
    remove(&mut policies, PolicyType::Custom, &Resource::parse("Topic:a").unwrap());
    assert_eq!(policies[0].entries.len(), 1);
    remove(&mut policies, PolicyType::Custom, &Resource::parse("Topic:a*").unwrap());
    assert!(policies.is_empty());
}

/// The rule of the original, written down without any index: everything that fits, sorted by its comparison.
fn decide_slowly(policies: &[Policy], ask: &Ask<'_>, from: IpAddr) -> Option<Decision> {
    [PolicyType::Custom, PolicyType::Default]
        .into_iter()
        .find_map(|policy_type| {
            let policy = policies.iter().find(|policy| policy.policy_type == policy_type)?;
            let fitting = policy.entries.iter().filter(|entry| {
                entry.resource.fits(ask)
                    && Actions::of(&entry.actions).permit(ask.actions)
                    && (entry.source_ips.is_empty() || entry.source_ips.iter().any(|ip| ip.contains(from)))
            });
            fitting
                .min_by_key(|entry| (entry.resource.vagueness(), entry.decision != Decision::Deny))
                .map(|entry| entry.decision)
        })
}

fn entries() -> impl Strategy<Value = Vec<PolicyEntryInfo>> {
    let resource = "(Topic|Group|Cluster|Any):[ab]{0,3}[*]?|[*]";
    let actions = "(Pub|Sub|All|Get)(,(Pub|Sub|All|Get))?";
    let ips = prop::sample::select(vec![&[][..], &["10.1.2.3"], &["10.0.0.0/8"], &["11.0.0.0/8"]]);
    let parts = (resource, actions, "Allow|Deny", ips);
    let entry = parts.prop_map(|(resource, actions, decision, ips)| entry(&resource, &actions, &decision, ips));
    prop::collection::vec(entry, 1..12)
}

proptest! {
    #[test]
    fn the_index_decides_as_looking_at_every_entry_does(
        custom in entries(),
        default in entries(),
        name in "[ab]{0,4}",
        action in prop::sample::select(vec![Action::Pub, Action::Sub, Action::Get, Action::Any]),
    ) {
        let policies = Policy::read_all(&[policy("Custom", &custom), policy("Default", &default)]).unwrap();
        for kind in [ResourceKind::Topic, ResourceKind::Group, ResourceKind::Cluster] {
            for name in [Some(name.as_str().into()), None] {
                let ask = Ask { kind, name, actions: Actions::of(&[action]) };
                prop_assert_eq!(Rules::of(&policies).decide(&ask, FROM), decide_slowly(&policies, &ask, FROM));
            }
        }
    }

    #[test]
    fn resources_are_shown_as_they_are_read(text in "(Topic|Group|Cluster|Namespace):[a-z]{0,5}[*]?|[*]") {
        prop_assert_eq!(Resource::parse(&text).unwrap().to_string(), text);
    }
}
