//! What fuzz targets do with foreign files and bodies, and the decision that a benchmark measures.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use oxmq_protocol::SerializeType;
use oxmq_protocol::body::{AclInfo, PlainAccountConfig, UserInfo};
use oxmq_protocol::json;
use oxmq_protocol::scan::scan_fields;
use oxmq_store::disk::{Disk, SimulatedDisk};

use super::Access;
use super::plain::file::AclFile;
use super::policy::{Policy, Rules};
use super::request::SignedRequest;
use super::users::UserChange;
use crate::config::BrokerConfig;
use crate::config_file::ConfigFile;

/// A file is refused, or says the same when it was written and read again, and still when an account came to it.
pub fn acl_file(text: &str) {
    let Ok(file) = AclFile::parse(text) else { return };
    let again = AclFile::parse(&file.to_yaml()).expect("what was read can be written and read");
    assert_eq!(again, file);
    let account = PlainAccountConfig {
        access_key: "a new one".into(),
        secret_key: Some("12345678".into()),
        ..PlainAccountConfig::default()
    };
    let more = AclFile::parse(&file.with_account(&account, 1).to_yaml()).expect("an account more can be read");
    let configs = |file: &AclFile| file.configs().expect("it was read before");
    assert_eq!(configs(&more).last(), Some(&account));
    assert_eq!(
        more.without_account("a new one", 2).map(|file| configs(&file)),
        Some(configs(&file))
    );
}

/// A user's change is read, or the body is refused; policies that are read are shown as what reads as the same.
pub fn auth_body(data: &[u8]) {
    if let Ok(user) = json::from_slice::<UserInfo>(data) {
        UserChange::of(&user);
    }
    let Ok(AclInfo {
        policies: Some(infos), ..
    }) = json::from_slice(data)
    else {
        return;
    };
    let Ok(policies) = Policy::read_all(&infos) else { return };
    let shown: Vec<_> = policies.iter().map(Policy::info).collect();
    assert_eq!(Policy::read_all(&shown).as_ref(), Ok(&policies));
    Rules::of(&policies);
}

/// Access control with one user of the name `user` and the password `password`, who may publish to topics that begin with
/// `bench`, and has a hundred other permissions.
pub struct Judge {
    access: Access,
    content: Vec<u8>,
}

impl Judge {
    pub fn new() -> Judge {
        let config = BrokerConfig {
            authentication_enabled: true,
            authorization_enabled: true,
            authentication_metadata_provider: "LocalAuthenticationMetadataProvider".into(),
            authorization_metadata_provider: "LocalAuthorizationMetadataProvider".into(),
            ..BrokerConfig::default()
        };
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
        let access = Access::open(&config, ConfigFile::new(&disk, "/auth.json"), 0).expect("the settings are right");
        let users = access.users.as_ref().expect("the provider is set");
        let user = UserChange {
            password: Some("password".into()),
            ..UserChange::default()
        };
        users.create("user", user, 0).expect("there is no such user");
        let entry = |resource: String| format!(r#"{{"resource":"{resource}","actions":["Pub"],"decision":"Allow"}}"#);
        let entries: Vec<_> = (0..100)
            .map(|number| entry(format!("Topic:other-{number}")))
            .chain([entry("Topic:bench*".into())])
            .collect();
        let policies = format!(r#"[{{"entries":[{}]}}]"#, entries.join(","));
        let policies: Vec<_> = json::from_slice(policies.as_bytes()).expect("it is json");
        users
            .put_acl(Some("User:user"), &policies, 0)
            .expect("they are policies");
        Judge {
            access,
            content: Vec::new(),
        }
    }

    /// Whether a request may pass, found as a worker finds it. `vouched` leaves its signature unchecked.
    pub fn admits(&mut self, serialize: SerializeType, header: &[u8], body: &[u8], vouched: bool) -> bool {
        let Ok(scanned) = scan_fields(serialize, header) else {
            return false;
        };
        let request = SignedRequest::of_scanned(&scanned);
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let checked = self
            .access
            .check(&request, body, from, &mut self.content, |_, _, is_signed| {
                vouched || is_signed()
            });
        checked.is_ok() && scanned.header().is_ok()
    }
}

impl Default for Judge {
    fn default() -> Judge {
        Judge::new()
    }
}
