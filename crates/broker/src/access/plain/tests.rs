use oxmq_remoting::Credentials;

use super::*;
use crate::access::request::tests::command;

const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 2, 3, 4));

fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(home.path().join("conf/acl")).unwrap();
    let file = home.path().join("conf/plain_acl.yml");
    fs::write(&file, include_str!("testdata/plain_acl.yml")).unwrap();
    (home, file)
}

fn open(home: &tempfile::TempDir) -> PlainAcl {
    PlainAcl::open(home.path(), "/conf/plain_acl.yml").unwrap()
}

fn send(acl: &PlainAcl, credentials: Option<(&str, &str)>, topic: &str, from: IpAddr) -> Result<(), PlainRefusal> {
    let mut command = command(310, &[("a", "p"), ("b", topic)]).with_body("hello");
    if let Some((access_key, secret_key)) = credentials {
        Credentials::new(access_key, secret_key).sign(&mut command);
    }
    let request = SignedRequest::of_header(&command.header);
    acl.check(&request, &command.body, from, &mut Vec::new())
}

#[test]
fn who_sends_from_where_decides() {
    let (home, _) = home();
    let acl = open(&home);
    let white = "192.168.0.7".parse().unwrap();
    let of_operator = "192.168.1.7".parse().unwrap();
    let known = Some(("RocketMQ", "12345678"));
    assert_eq!(send(&acl, None, "orders", white), Ok(()));
    assert_eq!(send(&acl, None, "news", ELSEWHERE), Err(PlainRefusal::NoAccessKey));
    assert_eq!(send(&acl, known, "payments", ELSEWHERE), Ok(()));
    assert_eq!(
        send(&acl, known, "orders", ELSEWHERE),
        Err(PlainRefusal::Denied("topic:orders".into()))
    );
    let wrong = Some(("RocketMQ", "87654321"));
    assert_eq!(
        send(&acl, wrong, "payments", ELSEWHERE),
        Err(PlainRefusal::Signature("RocketMQ".into()))
    );
    let stranger = Some(("stranger", "12345678"));
    assert_eq!(
        send(&acl, stranger, "payments", ELSEWHERE),
        Err(PlainRefusal::Unknown("stranger".into()))
    );
    assert_eq!(
        send(&acl, Some(("operator", "it is secret")), "orders", ELSEWHERE),
        Ok(())
    );
    assert_eq!(
        send(&acl, Some(("operator", "unsigned")), "orders", of_operator),
        Ok(())
    );
}

#[test]
fn files_that_change_are_read_when_they_have_settled_and_can_be_read() {
    let (home, file) = home();
    let acl = open(&home);
    let fresh = Some(("newcomer", "12345678"));
    let refused = Err(PlainRefusal::Unknown("newcomer".into()));
    let more = "accounts:\n  - {accessKey: newcomer, secretKey: 12345678, admin: true}\n";
    fs::write(home.path().join("conf/acl/more.yml"), more).unwrap();
    acl.look();
    assert_eq!(send(&acl, fresh, "t", ELSEWHERE), refused);
    acl.look();
    assert_eq!(send(&acl, fresh, "t", ELSEWHERE), Ok(()));
    fs::write(&file, "accounts: [").unwrap();
    acl.look();
    acl.look();
    assert_eq!(
        send(&acl, Some(("RocketMQ", "12345678")), "payments", ELSEWHERE),
        Ok(())
    );
    fs::write(&file, "").unwrap();
    fs::remove_file(home.path().join("conf/acl/more.yml")).unwrap();
    acl.look();
    acl.look();
    assert_eq!(send(&acl, fresh, "t", ELSEWHERE), refused);
    assert_eq!(
        send(&acl, Some(("RocketMQ", "12345678")), "payments", ELSEWHERE),
        Err(PlainRefusal::Unknown("RocketMQ".into()))
    );
}

#[test]
fn changes_count_at_once_and_survive_a_restart() {
    let (home, file) = home();
    let acl = open(&home);
    let account = PlainAccountConfig {
        access_key: "newcomer".into(),
        secret_key: Some("12345678".into()),
        topic_perms: Some(vec!["t=PUB".into()]),
        ..PlainAccountConfig::default()
    };
    acl.put(&account, 5).unwrap();
    for acl in [&acl, &open(&home)] {
        assert_eq!(send(acl, Some(("newcomer", "12345678")), "t", ELSEWHERE), Ok(()));
        assert_eq!((acl.default_version().counter, acl.default_version().timestamp), (1, 5));
    }
    assert_eq!(acl.remove("newcomer", 6).ok(), Some(true));
    assert_eq!(acl.remove("newcomer", 6).ok(), Some(false));
    acl.set_white_addresses(&["*".into()], file.to_str(), 7).unwrap();
    assert_eq!(send(&open(&home), None, "t", ELSEWHERE), Ok(()));
    assert_eq!(acl.versions()[0].1.counter, 3);
}

#[test]
fn no_request_names_a_file_that_is_none_of_accounts() {
    let (home, _) = home();
    let acl = open(&home);
    let other = home.path().join("conf/broker.yml");
    fs::write(&other, "secret: 1").unwrap();
    for path in [other.to_str().unwrap(), "/etc/passwd", "conf/plain_acl.yml"] {
        let error = acl.set_white_addresses(&["*".into()], Some(path), 1).unwrap_err();
        assert!(matches!(*error, PlainAclError::NoAclFile(_)), "{path}");
    }
    assert_eq!(fs::read_to_string(other).unwrap(), "secret: 1");
    assert!(acl.set_white_addresses(&["host".into()], None, 1).is_err());
}

/// CVE-2024-23321.
#[test]
fn lists_of_accounts_show_no_secret_key() {
    let (home, _) = home();
    let shown = open(&home).config();
    assert_eq!(shown.plain_access_configs.len(), 2);
    let shown = format!("{shown:?}");
    assert!(
        !shown.contains("12345678") && !shown.contains("it is secret"),
        "{shown}"
    );
}
