//! The accounts of plain_acl.yml: 50 to 54, as 4.9 serves them. 5.x knows these requests no more; they are served where
//! `aclEnable` is true.

use std::collections::BTreeMap;

use oxmq_protocol::body::PlainAccountConfig;
use oxmq_protocol::requests::{AccessKeyHeader, AclVersionReply, GlobalWhiteAddrsHeader, PlainAccountHeader};
use oxmq_protocol::{RemotingCommand, json};

use super::{Handled, fields, success, success_json, success_with};
use crate::access::plain::{PlainAcl, PlainAclError};
use crate::broker::Broker;
use crate::response::Refusal;

/// Codes of 4.9. Two of them mean something else to clients of 5.x.
const UPDATE_FAILED: i32 = 209;
const DELETE_FAILED: i32 = 210;
const WHITE_ADDRS_FAILED: i32 = 211;

fn plain(broker: &Broker) -> Result<&PlainAcl, Refusal> {
    let none = || Refusal::new(oxmq_protocol::response_code::SYSTEM_ERROR, "aclEnable is false");
    broker.access.plain.as_ref().ok_or_else(none)
}

pub(super) fn update(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: PlainAccountHeader = fields(command)?;
    let perms = |perms: Option<String>| perms.map(|perms| split(&perms));
    let account = PlainAccountConfig {
        access_key: header.access_key,
        admin: header.admin,
        default_group_perm: header.default_group_perm,
        default_topic_perm: header.default_topic_perm,
        group_perms: perms(header.group_perms),
        secret_key: header.secret_key,
        topic_perms: perms(header.topic_perms),
        white_remote_address: header.white_remote_address,
    };
    plain(broker)?
        .put(&account, broker.now_ms())
        .map_err(refused(UPDATE_FAILED))?;
    Ok(success())
}

pub(super) fn delete(broker: &Broker, command: &RemotingCommand) -> Handled {
    let AccessKeyHeader { access_key } = fields(command)?;
    let removed = plain(broker)?.remove(&access_key, broker.now_ms());
    match removed.map_err(refused(DELETE_FAILED))? {
        true => Ok(success()),
        false => {
            let remark = format!("The accesskey[{access_key}] corresponding to accessConfig has been deleted failed.");
            Err(Refusal::new(DELETE_FAILED, remark))
        }
    }
}

pub(super) fn set_white_addresses(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: GlobalWhiteAddrsHeader = fields(command)?;
    let patterns = split(&header.global_white_addrs);
    let path = header.acl_file_full_path.as_deref();
    let changed = plain(broker)?.set_white_addresses(&patterns, path, broker.now_ms());
    match changed.map_err(|error| *error) {
        Ok(()) => Ok(success()),
        Err(PlainAclError::NoAclFile(_)) => {
            let remark = format!(
                "The globalWhiteAddresses[{}] has been updated failed.",
                header.global_white_addrs
            );
            Err(Refusal::new(WHITE_ADDRS_FAILED, remark))
        }
        Err(error) => Err(refused(WHITE_ADDRS_FAILED)(Box::new(error))),
    }
}

pub(super) fn versions(broker: &Broker, _: &RemotingCommand) -> Handled {
    let plain = plain(broker)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let versions = plain.versions().into_iter();
    let versions: BTreeMap<_, _> = versions
        .map(|(path, version)| (path.display().to_string(), version))
        .collect();
    let config = broker.config();
    Ok(success_with(&AclVersionReply {
        version: text(json::to_vec(&plain.default_version())),
        all_acl_file_version: text(json::to_vec(&versions)),
        broker_name: config.broker_name.clone(),
        broker_addr: config.broker_addr(),
        cluster_name: config.broker_cluster_name.clone(),
    }))
}

pub(super) fn all(broker: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success_json(&plain(broker)?.config()))
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

fn refused(code: i32) -> impl Fn(Box<PlainAclError>) -> Refusal {
    move |error| Refusal::new(code, error.to_string())
}
