//! What fuzz targets do with foreign files and bodies.

use oxmq_protocol::body::{AclInfo, PlainAccountConfig, UserInfo};
use oxmq_protocol::json;

use super::plain::file::AclFile;
use super::policy::{Policy, Rules};
use super::users::UserChange;

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
