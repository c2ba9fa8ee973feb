//! Cases on servers of their own that control access: by users and policies, and by a file of accounts, which of the
//! original's servers only the old ones know.

use std::fs;

use super::programs::Client;
use super::{JAVA_SERVER, OLD_JAVA_SERVER, Outcomes, cluster_run};
use crate::servers::{Cluster, Options, Server};

pub(super) const USERS: &str = "acl";
pub(super) const FILES: &str = "acl-files";
pub(super) const CASES: [&str; 2] = [USERS, FILES];

const ACCOUNTS: &str = "\
accounts:
  - accessKey: root
    secretKey: '12345678'
    admin: true
  - accessKey: operator7
    secretKey: '12345678'
    admin: true
  - accessKey: keeper7
    secretKey: '12345678'
    defaultTopicPerm: DENY
    defaultGroupPerm: SUB
    topicPerms:
      - acl-open=PUB|SUB
      - acl-read=SUB
      - acl-closed=DENY
";

const PROVIDERS: [(&str, &str); 2] = [
    (
        "authenticationMetadataProvider",
        "org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider",
    ),
    (
        "authorizationMetadataProvider",
        "org.apache.rocketmq.auth.authorization.provider.LocalAuthorizationMetadataProvider",
    ),
];

pub(super) fn run(mut options: Options, clients: &[Client], case: &str) -> anyhow::Result<Outcomes> {
    if case == FILES && matches!(options.broker, Server::Java(JAVA_SERVER)) {
        options.namesrv = Server::Java(OLD_JAVA_SERVER);
        options.broker = Server::Java(OLD_JAVA_SERVER);
    }
    let mut cluster = Cluster::start(options)?;
    let conf = cluster.home("conf");
    fs::create_dir_all(conf.join("acl"))?;
    // Keys have more than six characters, the first user's name need not.
    let accounts = match case {
        FILES => ACCOUNTS.replace("accessKey: root", "accessKey: root777"),
        _ => ACCOUNTS.replace("  - accessKey: root\n    secretKey: '12345678'\n    admin: true\n", ""),
    };
    fs::write(conf.join("plain_acl.yml"), accounts)?;
    cluster.stop_broker()?;
    for (key, value) in settings(case) {
        cluster.set_property(key, value);
    }
    cluster.start_broker()?;
    let outcomes = cluster_run::run(&mut cluster, clients, &[case])?;
    cluster.discard()?;
    Ok(outcomes)
}

/// Users and policies can be kept, but nobody is asked for them.
pub(super) fn with_providers(options: Options) -> Options {
    PROVIDERS
        .into_iter()
        .fold(options, |options, (key, value)| options.broker_property(key, value))
}

fn settings(case: &str) -> Vec<(&'static str, &'static str)> {
    if case == FILES {
        return vec![("aclEnable", "true")];
    }
    let mut settings = PROVIDERS.to_vec();
    settings.extend([
        ("authenticationEnabled", "true"),
        ("authorizationEnabled", "true"),
        ("initAuthenticationUser", r#"{"username":"root","password":"12345678"}"#),
        (
            "innerClientAuthenticationCredentials",
            r#"{"accessKey":"inner","secretKey":"87654321"}"#,
        ),
        ("migrateAuthFromV1Enabled", "true"),
    ]);
    settings
}
