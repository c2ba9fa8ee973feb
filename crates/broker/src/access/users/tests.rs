use oxmq_protocol::body::PolicyEntryInfo;
use oxmq_store::disk::{Disk, SimulatedDisk};
use proptest::prelude::*;

use super::*;

fn open(disk: &SimulatedDisk) -> io::Result<Users> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Users::open(ConfigFile::new(&disk, "/store/config/auth.json"))
}

fn new(password: &str) -> UserChange {
    UserChange {
        password: Some(password.to_owned()),
        ..UserChange::default()
    }
}

fn policy(resource: &str) -> PolicyInfo {
    PolicyInfo {
        entries: Some(vec![PolicyEntryInfo {
            actions: Some(vec!["Pub".into()]),
            decision: Some("Allow".into()),
            resource: Some(resource.to_owned()),
            source_ips: None,
        }]),
        policy_type: None,
    }
}

#[test]
fn users_are_refused_in_the_words_of_the_original() {
    let users = open(&SimulatedDisk::new()).unwrap();
    let text = |result: Result<(), UserError>| result.unwrap_err().to_string();
    assert_eq!(text(users.create(" ", new("p"), 1)), "username can not be blank");
    assert_eq!(text(users.create("u", new(" "), 1)), "password can not be blank");
    users.create("u", new("p"), 1).unwrap();
    assert_eq!(text(users.create("u", new("q"), 1)), "The user is existed");
    assert_eq!(text(users.update("v", new("q"), 1)), "The user is not exist");
    users.delete("v", 1).unwrap();
    let put = |subject, policies: &[PolicyInfo]| text(users.put_acl(subject, policies, 1));
    assert_eq!(put(None, &[policy("*")]), "The subject is null.");
    assert_eq!(put(Some("Role:u"), &[policy("*")]), "The subject is null.");
    assert_eq!(put(Some("User:u"), &[]), "The policies is empty.");
    assert_eq!(
        put(Some("User:v"), &[policy("*")]),
        "The subject of User:v is not exist."
    );
    assert_eq!(
        text(users.delete_acl(Some("User:v"), None, None, 1)),
        "The subject is not exist."
    );
    assert_eq!(
        text(users.delete_acl(Some("user:u"), None, None, 1)),
        "The acl is not exist."
    );
    assert_eq!(
        users.acl(Some("User:v")).unwrap_err().to_string(),
        "The subject is not exist."
    );
}

#[test]
fn what_is_absent_stays_as_it_is() {
    let users = open(&SimulatedDisk::new()).unwrap();
    users.create("u", new("old"), 1).unwrap();
    let disable = UserChange {
        status: Some(UserStatus::Disable),
        password: Some(String::new()),
        user_type: None,
    };
    users.update("u", disable, 2).unwrap();
    let info = &users.list(Some(" "))[0];
    assert_eq!(info.password.as_deref(), Some("old"));
    assert_eq!(info.user_status.as_deref(), Some("disable"));
    assert_eq!(info.user_type.as_deref(), Some("Normal"));
    users.update("u", new("fresh"), 3).unwrap();
    let snapshot = users.snapshot();
    let key = &snapshot.get("u").unwrap().key;
    assert!(key.verify(b"x", &SigningKey::new("fresh").sign(b"x")));
}

#[test]
fn a_resource_that_cannot_be_read_removes_nothing() {
    let users = open(&SimulatedDisk::new()).unwrap();
    users.create("u", new("p"), 1).unwrap();
    users
        .put_acl(Some("User:u"), &[policy("Topic:a"), policy("Topic:b")], 1)
        .unwrap();
    assert!(users.delete_acl(Some("User:u"), None, Some("Tropic:a"), 1).is_err());
    assert!(users.acl(Some("User:u")).unwrap().is_some());
    users.delete_acl(Some("User:u"), None, None, 1).unwrap();
    assert_eq!(users.acl(Some("User:u")).unwrap(), None);
}

#[test]
fn lists_are_filtered_by_subject_and_resource() {
    let users = open(&SimulatedDisk::new()).unwrap();
    for name in ["bob", "alice"] {
        users.create(name, new("p"), 1).unwrap();
        let subject = format!("User:{name}");
        users.put_acl(Some(&subject), &[policy("Topic:orders")], 1).unwrap();
    }
    users.put_acl(Some("User:bob"), &[policy("Group:alice")], 1).unwrap();
    let subjects = |subject, resource| -> Vec<_> {
        let found = users.list_acls(subject, resource).into_iter();
        found.map(|acl| acl.subject.unwrap_or_default()).collect()
    };
    assert_eq!(subjects(None, None), ["User:alice", "User:bob"]);
    assert_eq!(subjects(Some("bo"), Some("")), ["User:bob"]);
    assert_eq!(subjects(None, Some("orders")), ["User:alice", "User:bob"]);
    // A filter that the subject has in it is none for its resources.
    assert_eq!(subjects(None, Some("alice")), ["User:alice", "User:bob"]);
    assert_eq!(subjects(None, Some("Group:")), ["User:bob"]);
    assert_eq!(users.list(Some("o")).len(), 1);
}

#[test]
fn a_file_with_a_user_that_cannot_be_read_ends_the_start() {
    let disk = SimulatedDisk::new();
    let file: Arc<dyn Disk> = Arc::new(disk.clone());
    let file = ConfigFile::new(&file, "/store/config/auth.json");
    file.save(&serde_json::json!({"users": {"u": {"password": "p", "policies": [{"entries": [{}]}]}}}))
        .unwrap();
    assert!(open(&disk).is_err());
    file.save(&serde_json::json!({"users": {"u": {"password": "p", "userStatus": "enabeld"}}}))
        .unwrap();
    let users = open(&disk).unwrap();
    assert_eq!(users.snapshot().get("u").unwrap().status, UserStatus::Disable);
}

#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Update(u8),
    Delete(u8),
    Put(u8, u8),
    Remove(u8, u8),
    Save,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3u8).prop_map(Step::Create),
        (0..3u8).prop_map(Step::Update),
        (0..3u8).prop_map(Step::Delete),
        (0..3u8, 0..3u8).prop_map(|(user, topic)| Step::Put(user, topic)),
        (0..3u8, 0..3u8).prop_map(|(user, topic)| Step::Remove(user, topic)),
        Just(Step::Save),
    ];
    prop::collection::vec(step, 1..20)
}

fn state(users: &Users) -> (Vec<UserInfo>, Vec<AclInfo>) {
    (users.list(None), users.list_acls(None, None))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever the power is cut, what is found is what one of the saves wrote, and never less than the last that returned.
    #[test]
    fn a_power_cut_leaves_what_was_saved(steps in steps(), cut in 0..60u64, seed: u64) {
        let disk = SimulatedDisk::new();
        disk.stop_after(cut);
        let users = match open(&disk) {
            Ok(users) => users,
            Err(_) => return Ok(()),
        };
        let mut saved = state(&users);
        let mut tried = Vec::new();
        for (now, step) in steps.into_iter().enumerate() {
            let now = now as i64;
            let (user, topic) = (|user: u8| format!("u{user}"), |topic: u8| format!("Topic:t{topic}"));
            // Whether it is refused does not matter here.
            let _ = match step {
                Step::Create(name) => users.create(&user(name), new("p"), now),
                Step::Update(name) => users.update(&user(name), new(&format!("p{now}")), now),
                Step::Delete(name) => users.delete(&user(name), now),
                Step::Put(name, at) => users.put_acl(Some(&format!("User:u{name}")), &[policy(&topic(at))], now),
                Step::Remove(name, at) => {
                    users.delete_acl(Some(&format!("User:u{name}")), None, Some(&topic(at)), now)
                }
                Step::Save => {
                    tried.push(state(&users));
                    if users.persist().is_ok() {
                        saved = state(&users);
                        tried.clear();
                    }
                    Ok(())
                }
            };
        }
        let found = state(&open(&disk.crash(seed)).unwrap());
        prop_assert!(found == saved || tried.contains(&found), "{:?} is neither {:?} nor {:?}", found, saved, tried);
    }
}
