use std::sync::Arc;

use oxmq_protocol::RemotingCommand;
use oxmq_protocol::body::{PolicyEntryInfo, PolicyInfo};
use oxmq_store::disk::{Disk, SimulatedDisk};

use super::request::tests::command;
use super::*;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

fn config() -> BrokerConfig {
    BrokerConfig {
        broker_cluster_name: "C".into(),
        authentication_enabled: true,
        authorization_enabled: true,
        authentication_metadata_provider:
            "org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider".into(),
        authorization_metadata_provider:
            "org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider".into(),
        init_authentication_user: r#"{"username":"root","password":"of all"}"#.into(),
        inner_client_authentication_credentials: r#"{"accessKey":"inner","secretKey":"circle"}"#.into(),
        ..BrokerConfig::default()
    }
}

fn try_open(config: &BrokerConfig, disk: &SimulatedDisk) -> Result<Access, AccessError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Access::open(config, ConfigFile::new(&disk, "/store/config/auth.json"), 1)
}

fn open(config: &BrokerConfig) -> Access {
    try_open(config, &SimulatedDisk::new()).unwrap()
}

fn with_user(access: &Access, name: &str, entries: &[(&str, &str, &str)]) {
    let users = access.users.as_ref().unwrap();
    let new = UserChange {
        password: Some("secret".into()),
        ..UserChange::default()
    };
    users.create(name, new, 1).unwrap();
    let entries: Vec<_> = entries
        .iter()
        .map(|(resource, action, decision)| PolicyEntryInfo {
            actions: Some(vec![(*action).into()]),
            decision: Some((*decision).into()),
            resource: Some((*resource).into()),
            source_ips: None,
        })
        .collect();
    if !entries.is_empty() {
        let policy = PolicyInfo {
            entries: Some(entries),
            policy_type: None,
        };
        users.put_acl(Some(&format!("User:{name}")), &[policy], 1).unwrap();
    }
}

fn signed(mut command: RemotingCommand, name: &str, password: &str) -> RemotingCommand {
    Credentials::new(name, password).sign(&mut command);
    command
}

fn send(topic: &str) -> RemotingCommand {
    command(310, &[("a", "p"), ("b", topic)]).with_body("hello")
}

fn check(access: &Access, command: &RemotingCommand) -> Result<(), String> {
    let request = SignedRequest::of_header(&command.header);
    let stateless = |_: &str, _: u64, is_signed: &mut dyn FnMut() -> bool| is_signed();
    let checked = access.check(&request, &command.body, FROM, &mut Vec::new(), stateless);
    checked.map_err(|denial| denial.to_string())
}

#[track_caller]
fn check_denied(access: &Access, command: &RemotingCommand, why: &str) {
    assert_eq!(check(access, command), Err(why.to_owned()));
}

#[test]
fn requests_are_denied_in_the_words_of_the_original() {
    let access = open(&config());
    with_user(
        &access,
        "alice",
        &[("Topic:orders", "Pub", "Allow"), ("Topic:no*", "All", "Deny")],
    );
    let alice = |command| signed(command, "alice", "secret");
    assert_eq!(check(&access, &alice(send("orders"))), Ok(()));
    assert_eq!(check(&access, &signed(send("any"), "root", "of all")), Ok(()));
    assert_eq!(check(&access, &signed(send("any"), "inner", "circle")), Ok(()));
    check_denied(&access, &send("orders"), "username cannot be null.");
    check_denied(&access, &signed(send("orders"), "", ""), "username cannot be null.");
    check_denied(
        &access,
        &signed(send("orders"), "bob", "secret"),
        "User:bob is not found.",
    );
    check_denied(
        &access,
        &signed(send("orders"), "alice", "Secret"),
        "check signature failed.",
    );
    let mut changed = alice(send("orders"));
    changed.body = "jello".into();
    check_denied(&access, &changed, "check signature failed.");
    let why = "User:alice has no permission to access Topic:other from 10.1.2.3, no matched policies.";
    check_denied(&access, &alice(send("other")), why);
    let why = "User:alice has no permission to access Topic:nothing from 10.1.2.3, the decision is deny.";
    check_denied(&access, &alice(send("nothing")), why);
    let why = "User:alice has no permission to access Cluster:C from 10.1.2.3, no matched policies.";
    check_denied(&access, &alice(command(3001, &[("username", "x")])), why);
    let disable = UserChange {
        status: Some(UserStatus::Disable),
        ..UserChange::default()
    };
    access.users.as_ref().unwrap().update("alice", disable, 2).unwrap();
    check_denied(&access, &alice(send("orders")), "User:alice is disabled.");
}

#[test]
fn each_half_works_without_the_other() {
    let only_signatures = open(&BrokerConfig {
        authorization_enabled: false,
        ..config()
    });
    with_user(&only_signatures, "alice", &[]);
    assert_eq!(check(&only_signatures, &signed(send("any"), "alice", "secret")), Ok(()));
    let only_policies = open(&BrokerConfig {
        authentication_enabled: false,
        ..config()
    });
    with_user(&only_policies, "alice", &[("Topic:orders", "Pub", "Allow")]);
    assert_eq!(
        check(&only_policies, &signed(send("orders"), "alice", "never mind")),
        Ok(())
    );
    let why = "Authorization failed. Please verify your access rights and try again.";
    check_denied(&only_policies, &send("orders"), why);
    check_denied(
        &only_policies,
        &signed(send("orders"), "bob", ""),
        "User:bob not found.",
    );
}

#[test]
fn white_lists_let_codes_through() {
    let access = open(&BrokerConfig {
        authentication_whitelist: "310, apache.rocketmq.v2.SendMessageRequest".into(),
        authorization_whitelist: "310".into(),
        ..config()
    });
    assert_eq!(check(&access, &send("any")), Ok(()));
    check_denied(&access, &command(11, &[("topic", "t")]), "username cannot be null.");
}

#[test]
fn without_providers_everything_is_denied() {
    let bare = BrokerConfig {
        authentication_enabled: true,
        ..BrokerConfig::default()
    };
    check_denied(
        &open(&bare),
        &send("t"),
        "The authenticationMetadataProvider is not configured",
    );
    let off = open(&BrokerConfig::default());
    assert!(off.is_off() && off.users.is_none());
}

#[test]
fn settings_that_are_wrong_end_the_start_and_are_not_shown() {
    let refused = |change: fn(&mut BrokerConfig)| {
        let mut config = config();
        change(&mut config);
        let refused = try_open(&config, &SimulatedDisk::new());
        refused.err().expect("the settings are wrong").to_string()
    };
    let of_user = refused(|config| config.init_authentication_user = "{secret".into());
    assert!(
        of_user.starts_with("initAuthenticationUser") && !of_user.contains("{secret"),
        "{of_user}"
    );
    let of_inner = refused(|config| config.inner_client_authentication_credentials = "{secret".into());
    assert!(!of_inner.contains("{secret"), "{of_inner}");
    assert!(refused(|config| config.authentication_strategy = "mine.Strategy".into()).contains("mine.Strategy"));
    let no_store = refused(|config| config.authentication_metadata_provider.clear());
    assert!(no_store.contains("authenticationMetadataProvider"), "{no_store}");
    assert!(
        refused(|config| {
            config.acl_enable = true;
            config.rocketmq_home = None;
        })
        .contains("rocketmqHome")
    );
}

#[test]
fn accounts_of_files_become_users_once() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("conf")).unwrap();
    let accounts = include_str!("plain/testdata/plain_acl.yml");
    std::fs::write(home.path().join("conf/plain_acl.yml"), accounts).unwrap();
    let config = BrokerConfig {
        migrate_auth_from_v1_enabled: true,
        rocketmq_home: Some(home.path().display().to_string()),
        ..config()
    };
    let disk = SimulatedDisk::new();
    let access = try_open(&config, &disk).unwrap();
    let send_as = |access: &Access, topic, password| check(access, &signed(send(topic), "RocketMQ", password));
    assert_eq!(send_as(&access, "payments", "12345678"), Ok(()));
    assert!(send_as(&access, "orders", "12345678").is_err());
    assert!(send_as(&access, "other", "12345678").is_err());
    assert_eq!(
        check(&access, &signed(send("orders"), "operator", "it is secret")),
        Ok(())
    );
    let change = UserChange {
        password: Some("changed".into()),
        ..UserChange::default()
    };
    access.users.as_ref().unwrap().update("RocketMQ", change, 2).unwrap();
    access.persist().unwrap();
    let again = try_open(&config, &disk).unwrap();
    assert_eq!(send_as(&again, "payments", "changed"), Ok(()));
}

#[test]
fn passwords_are_for_those_who_have_proved_that_they_may_know_them() {
    let shown = |change: fn(&mut BrokerConfig), name| {
        let mut config = config();
        change(&mut config);
        let access = open(&config);
        with_user(&access, "alice", &[("Cluster:C", "Get", "Allow")]);
        access.shows_passwords(3005, name)
    };
    assert!(shown(|_| {}, Some("root")));
    assert!(shown(|_| {}, Some("alice")));
    for nobody in [None, Some("root")] {
        assert!(!shown(|config| config.authentication_enabled = false, nobody));
        assert!(!shown(|config| config.authentication_whitelist = "3005".into(), nobody));
    }
    assert!(shown(|config| config.authorization_enabled = false, Some("root")));
    assert!(!shown(|config| config.authorization_enabled = false, Some("alice")));
    assert!(!shown(
        |config| config.authorization_whitelist = "3005".into(),
        Some("alice")
    ));
}
