//! Users and what they may do (spec: admin.md §9).

use oxmq_protocol::body::{AclInfo, PolicyEntryInfo, PolicyInfo, UserInfo};

use crate::call::{Call, Done, Failure};
use crate::declare::{BROKER, CLUSTER, commands, opt, options};
use crate::java::{list, or_null};
use crate::output::Answer;
use crate::table::{Cell, Table, row};

options! {
    WHOLE_CLUSTER = opt("c", "clusterName", "CLUSTER", "Every broker of this cluster");
    USERNAME = opt("u", "username", "NAME", "User").required();
    USER_TYPE = opt("t", "userType", "Normal|Super", "Kind of user");
    SUBJECT = opt("s", "subject", "User:NAME", "Who").required();
    RESOURCES = opt("r", "resources", "Topic:NAME,Group:*,…", "What").required();
    ACTIONS = opt("a", "actions", "Pub,Sub,…", "Pub, Sub, Create, Update, Delete, Get, List, All").required();
    SOURCES = opt("i", "sourceIp", "IP,…", "From where");
    DECISION = opt("d", "decision", "Allow|Deny", "Whether it may").required();
    FROM = opt("f", "fromBroker", "HOST:PORT", "Broker to read from").required();
    TO = opt("t", "toBroker", "HOST:PORT", "Broker to write to").required();
}

commands! {
    create_user: "createUser", "Create a user", "-c DefaultCluster -u alice -p secret -t Normal",
        &[BROKER, WHOLE_CLUSTER, USERNAME, opt("p", "password", "PASSWORD", "Secret key").required(), USER_TYPE];
    update_user: "updateUser", "Change a user", "-c DefaultCluster -u alice -s disable",
        &[BROKER, WHOLE_CLUSTER, USERNAME, opt("p", "password", "PASSWORD", "New secret key"), USER_TYPE,
          opt("s", "userStatus", "enable|disable", "Whether the user may do anything")];
    delete_user: "deleteUser", "Delete a user", "-c DefaultCluster -u alice",
        &[BROKER, WHOLE_CLUSTER, USERNAME];
    get_user: "getUser", "Show a user", "-c DefaultCluster -u alice",
        &[BROKER, CLUSTER, opt("u", "username", "NAME", "User")];
    list_users: "listUser", "Show users", "-c DefaultCluster -f ali",
        &[BROKER, CLUSTER, opt("f", "filter", "TEXT", "Names with this in them")];
    copy_users: "copyUser", "Copy users from one broker to another",
        "-f 127.0.0.1:10911 -t 127.0.0.1:10921 -u alice",
        &[FROM, TO, opt("u", "usernames", "NAME,…", "Users (default: all)")];
    create_acl: "createAcl", "Say what a user may do",
        "-c DefaultCluster -s User:alice -r Topic:orders -a Pub,Sub -d Allow",
        &[BROKER, WHOLE_CLUSTER, SUBJECT, RESOURCES, ACTIONS, SOURCES, DECISION];
    update_acl: "updateAcl", "Change what a user may do with resources",
        "-c DefaultCluster -s User:alice -r Topic:orders -a Sub -d Allow",
        &[BROKER, WHOLE_CLUSTER, SUBJECT, RESOURCES, ACTIONS, DECISION, SOURCES];
    delete_acl: "deleteAcl", "Forget what a user may do", "-c DefaultCluster -s User:alice -r Topic:orders",
        &[BROKER, WHOLE_CLUSTER, SUBJECT, opt("r", "resources", "Topic:NAME", "With this resource only")];
    get_acl: "getAcl", "Show what a user may do", "-c DefaultCluster -s User:alice",
        &[BROKER, CLUSTER, opt("s", "subject", "User:NAME", "Who")];
    list_acls: "listAcl", "Show what users may do", "-c DefaultCluster -r Topic:orders",
        &[BROKER, CLUSTER, opt("s", "subject", "TEXT", "Subjects with this in them"),
          opt("r", "resource", "TEXT", "Resources with this in them")];
    copy_acls: "copyAcl", "Copy what users may do from one broker to another",
        "-f 127.0.0.1:10911 -t 127.0.0.1:10921",
        &[FROM, TO, opt("s", "subjects", "User:NAME,…", "Of these only")];
}

/// The broker of `-b`, or masters and slaves of the cluster of `-c`.
async fn every_broker(call: &Call) -> Result<Vec<String>, Failure> {
    let Some(cluster) = call.text("clusterName").filter(|_| call.text("brokerAddr").is_none()) else {
        return call.targets().await;
    };
    let info = call.admin().await?.cluster_info().await?;
    let brokers = info
        .brokers(cluster)
        .flat_map(|broker| broker.broker_addrs.values().cloned());
    let brokers: Vec<String> = brokers.collect();
    match brokers.is_empty() {
        true => Err(Failure::new(format!("the cluster {cluster} has no brokers"))),
        false => Ok(brokers),
    }
}

fn user_of(call: &Call) -> UserInfo {
    let given = |long| call.text_if_declared(long).map(str::to_owned);
    UserInfo {
        username: given("username"),
        password: given("password"),
        user_type: given("userType"),
        user_status: given("userStatus"),
    }
}

async fn create_user(call: &Call, answer: &mut Answer) -> Done {
    for addr in every_broker(call).await? {
        call.admin().await?.create_user(&addr, &user_of(call)).await?;
        answer.done(&addr, format!("create user to {addr} success."));
    }
    Ok(())
}

async fn update_user(call: &Call, answer: &mut Answer) -> Done {
    if ["password", "userType", "userStatus"]
        .iter()
        .all(|long| call.text(long).is_none())
    {
        return Err(Failure::new("one of -p, -t and -s is required"));
    }
    for addr in every_broker(call).await? {
        call.admin().await?.update_user(&addr, &user_of(call)).await?;
        answer.done(&addr, format!("update user to {addr} success."));
    }
    Ok(())
}

async fn delete_user(call: &Call, answer: &mut Answer) -> Done {
    for addr in every_broker(call).await? {
        call.admin()
            .await?
            .delete_user(&addr, call.required("username"))
            .await?;
        answer.done(&addr, format!("delete user to {addr} success."));
    }
    Ok(())
}

fn say_users(users: &[UserInfo], answer: &mut Answer) {
    const NAMES: &str = "#UserName, #Password, #UserType, #UserStatus";
    let mut table = Table::new(NAMES, "%-16s  %-22s  %-22s  %-22s");
    for user in users {
        let fields = [&user.username, &user.password, &user.user_type, &user.user_status];
        table.push(
            fields
                .map(|field| Cell::shown(or_null(field.as_deref()), field.clone()))
                .into(),
        );
    }
    answer.table("users", &table);
}

async fn get_user(call: &Call, answer: &mut Answer) -> Done {
    let username = call.text("username").unwrap_or_default();
    for addr in call.targets().await? {
        if let Some(user) = call.admin().await?.user(&addr, username).await? {
            say_users(&[user], answer);
            break;
        }
    }
    Ok(())
}

async fn list_users(call: &Call, answer: &mut Answer) -> Done {
    for addr in call.targets().await? {
        let users = call.admin().await?.users(&addr, call.text("filter")).await?;
        if !users.is_empty() {
            say_users(&users, answer);
            if call.text("brokerAddr").is_none() {
                answer.say(format!("get user from {addr} success."));
            }
            break;
        }
    }
    Ok(())
}

async fn copy_users(call: &Call, answer: &mut Answer) -> Done {
    let (from, to) = (call.required("fromBroker"), call.required("toBroker"));
    let admin = call.admin().await?;
    let users = match call.text("usernames") {
        None => admin.users(from, None).await?,
        Some(names) => {
            let mut users = Vec::new();
            for name in names.split(',').map(str::trim) {
                users.extend(admin.user(from, name).await?);
            }
            users
        }
    };
    for user in users {
        let name = user.username.clone().unwrap_or_default();
        match admin.user(to, &name).await? {
            None => admin.create_user(to, &user).await?,
            Some(_) => admin.update_user(to, &user).await?,
        }
        answer.say(format!("copy user of {name} from {from} to {to} success."));
        answer.add("done", name);
    }
    Ok(())
}

fn acl_of(call: &Call) -> AclInfo {
    let words = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
    let entries = words(call.required("resources"))
        .into_iter()
        .map(|resource| PolicyEntryInfo {
            resource: Some(resource),
            actions: Some(words(call.required("actions"))),
            source_ips: call.text("sourceIp").map(words),
            decision: Some(call.required("decision").to_owned()),
        });
    AclInfo {
        subject: Some(call.required("subject").to_owned()),
        policies: Some(vec![PolicyInfo {
            policy_type: None,
            entries: Some(entries.collect()),
        }]),
    }
}

async fn create_acl(call: &Call, answer: &mut Answer) -> Done {
    for addr in every_broker(call).await? {
        call.admin().await?.create_acl(&addr, &acl_of(call)).await?;
        answer.done(&addr, format!("create acl to {addr} success."));
    }
    Ok(())
}

async fn update_acl(call: &Call, answer: &mut Answer) -> Done {
    for addr in every_broker(call).await? {
        call.admin().await?.update_acl(&addr, &acl_of(call)).await?;
        answer.done(&addr, format!("update acl to {addr} success."));
    }
    Ok(())
}

async fn delete_acl(call: &Call, answer: &mut Answer) -> Done {
    for addr in every_broker(call).await? {
        let admin = call.admin().await?;
        admin
            .delete_acl(&addr, call.required("subject"), call.text("resources"))
            .await?;
        answer.done(&addr, format!("delete acl to {addr} success."));
    }
    Ok(())
}

fn say_acls(acls: &[AclInfo], answer: &mut Answer) {
    const NAMES: &str = "#Subject, #PolicyType, #Resource, #Actions, #SourceIp, #Decision";
    let mut table = Table::new(NAMES, "%-16s  %-10s  %-22s  %-20s  %-24s  %-10s");
    let text = |text: &Option<String>| Cell::shown(or_null(text.as_deref()), text.clone());
    let texts = |texts: &Option<Vec<String>>| Cell::shown(or_null(texts.as_ref().map(list)), texts.clone());
    for acl in acls {
        let policies = acl.policies.as_deref().unwrap_or_default();
        if policies.is_empty() {
            table.push(row![text(&acl.subject), "", "", "", "", ""]);
        }
        for (policy, entry) in policies
            .iter()
            .flat_map(|policy| policy.entries.iter().flatten().map(move |e| (policy, e)))
        {
            table.push(row![
                text(&acl.subject),
                text(&policy.policy_type),
                text(&entry.resource),
                texts(&entry.actions),
                texts(&entry.source_ips),
                text(&entry.decision),
            ]);
        }
    }
    answer.table("acls", &table);
}

async fn get_acl(call: &Call, answer: &mut Answer) -> Done {
    let subject = call.text("subject").unwrap_or_default();
    for addr in call.targets().await? {
        if let Some(acl) = call.admin().await?.acl(&addr, subject).await? {
            say_acls(&[acl], answer);
        }
    }
    Ok(())
}

async fn list_acls(call: &Call, answer: &mut Answer) -> Done {
    for addr in call.targets().await? {
        let admin = call.admin().await?;
        let acls = admin.acls(&addr, call.text("subject"), call.text("resource")).await?;
        if !acls.is_empty() {
            say_acls(&acls, answer);
            break;
        }
    }
    Ok(())
}

async fn copy_acls(call: &Call, answer: &mut Answer) -> Done {
    let (from, to) = (call.required("fromBroker"), call.required("toBroker"));
    let admin = call.admin().await?;
    let acls = match call.text("subjects") {
        None => admin.acls(from, None, None).await?,
        Some(subjects) => {
            let mut acls = Vec::new();
            for subject in subjects.split(',').map(str::trim) {
                acls.extend(admin.acl(from, subject).await?);
            }
            acls
        }
    };
    for acl in acls {
        let subject = acl.subject.clone().unwrap_or_default();
        match admin.acl(to, &subject).await? {
            None => admin.create_acl(to, &acl).await?,
            Some(_) => admin.update_acl(to, &acl).await?,
        }
        answer.say(format!("copy acl of {subject} from {from} to {to} success."));
        answer.add("done", subject);
    }
    Ok(())
}
