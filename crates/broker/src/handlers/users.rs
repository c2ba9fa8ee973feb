//! Users and their policies: 3001 to 3010 (spec: protocol.md §3.8).

use oxmq_protocol::body::{AclInfo, UserInfo};
use oxmq_protocol::requests::{DeleteAclHeader, ListAclsHeader, ListUsersHeader, SubjectHeader, UserHeader};
use oxmq_protocol::{RemotingCommand, response_code as code};
use oxmq_remoting::signing::ACCESS_KEY;

use super::{Handled, body, fields, is_blank, success, success_json};
use crate::access::users::{UserChange, UserError, UserType, Users};
use crate::broker::Broker;
use crate::response::Refusal;

const SUPER_ONLY: &str = "The super user can only be update by super user";

impl From<UserError> for Refusal {
    fn from(error: UserError) -> Refusal {
        Refusal::new(code::NO_PERMISSION, error.to_string())
    }
}

pub(super) fn create(broker: &Broker, command: &RemotingCommand) -> Handled {
    let (name, info) = user(command)?;
    let new = UserChange::of(&info);
    if new.user_type == Some(UserType::Super) && !may_change_super(broker, command)? {
        let remark = "The super user can only be create by super user";
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    }
    users(broker)?.create(&name, new, broker.now_ms())?;
    Ok(success())
}

pub(super) fn update(broker: &Broker, command: &RemotingCommand) -> Handled {
    let (name, info) = user(command)?;
    let change = UserChange::of(&info);
    if change.user_type == Some(UserType::Super) && !may_change_super(broker, command)? {
        return Err(Refusal::new(code::SYSTEM_ERROR, SUPER_ONLY));
    }
    let users = users(broker)?;
    check_not_super(broker, command, &name)?;
    users.update(&name, change, broker.now_ms())?;
    Ok(success())
}

pub(super) fn delete(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: UserHeader = fields(command)?;
    let name = header.username.unwrap_or_default();
    let users = policies(broker)?;
    if is_blank(&name) {
        return Err(UserError::NameBlank.into());
    }
    check_not_super(broker, command, &name)?;
    users.delete(&name, broker.now_ms())?;
    Ok(success())
}

pub(super) fn get(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: UserHeader = fields(command)?;
    let name = header.username.filter(|name| !is_blank(name)).ok_or_else(blank_name)?;
    users(broker)?;
    Ok(match broker.access.user(&name) {
        Some(user) => success_json(&shown(broker, command, user.info())),
        None => success(),
    })
}

pub(super) fn list(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ListUsersHeader = fields(command)?;
    let found = users(broker)?.list(header.filter.as_deref()).into_iter();
    let found: Vec<_> = found.map(|info| shown(broker, command, info)).collect();
    Ok(list_or_nothing(&found))
}

pub(super) fn put_acl(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: SubjectHeader = fields(command)?;
    let info: AclInfo = body(command)?;
    let policies_given = info.policies.filter(|policies| !policies.is_empty());
    let policies_given = policies_given.ok_or_else(|| {
        let error = "org.apache.rocketmq.auth.authorization.exception.AuthorizationException";
        Refusal::new(code::SYSTEM_ERROR, format!("{error}: The body of acl is null"))
    })?;
    let subject = info.subject.or(header.subject);
    policies(broker)?.put_acl(subject.as_deref(), &policies_given, broker.now_ms())?;
    Ok(success())
}

pub(super) fn delete_acl(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: DeleteAclHeader = fields(command)?;
    policies(broker)?.delete_acl(
        header.subject.as_deref(),
        header.policy_type.as_deref(),
        header.resource.as_deref(),
        broker.now_ms(),
    )?;
    Ok(success())
}

pub(super) fn get_acl(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: SubjectHeader = fields(command)?;
    Ok(match policies(broker)?.acl(header.subject.as_deref())? {
        Some(acl) => success_json(&acl),
        None => success(),
    })
}

pub(super) fn list_acls(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ListAclsHeader = fields(command)?;
    let found = policies(broker)?.list_acls(header.subject_filter.as_deref(), header.resource_filter.as_deref());
    Ok(list_or_nothing(&found))
}

/// Without the password where not everybody may know it who gets the answer. The original shows it to all.
fn shown(broker: &Broker, command: &RemotingCommand, mut info: UserInfo) -> UserInfo {
    let asks = command.header.ext_fields.get(ACCESS_KEY);
    if !broker.access.shows_passwords(command.header.code, asks) {
        info.password = None;
    }
    info
}

/// Nothing found is answered without a body.
fn list_or_nothing<T: serde::Serialize>(found: &[T]) -> RemotingCommand {
    match found.is_empty() {
        true => success(),
        false => success_json(&found),
    }
}

/// Whom the request is about, and what it says of the user.
fn user(command: &RemotingCommand) -> Result<(String, UserInfo), Refusal> {
    let header: UserHeader = fields(command)?;
    let name = header.username.filter(|name| !name.is_empty()).ok_or_else(blank_name)?;
    Ok((name, body(command)?))
}

fn blank_name() -> Refusal {
    Refusal::new(code::INVALID_PARAMETER, "The username is blank")
}

fn check_not_super(broker: &Broker, command: &RemotingCommand, name: &str) -> Result<(), Refusal> {
    let is_super = |user: &crate::access::users::User| user.user_type == UserType::Super;
    match broker.access.user(name).as_deref().is_some_and(is_super) && !may_change_super(broker, command)? {
        true => Err(Refusal::new(code::NO_PERMISSION, SUPER_ONLY)),
        false => Ok(()),
    }
}

/// Super users may; and everybody where nobody has to say who he is.
fn may_change_super(broker: &Broker, command: &RemotingCommand) -> Result<bool, Refusal> {
    let name = command
        .header
        .ext_fields
        .get(ACCESS_KEY)
        .filter(|name| !name.is_empty());
    let Some(name) = name else { return Ok(true) };
    let user = broker.access.user(name).ok_or_else(|| {
        let error = "org.apache.rocketmq.auth.authentication.exception.AuthenticationException";
        Refusal::new(code::SYSTEM_ERROR, format!("{error}: User:{name} is not found"))
    })?;
    Ok(user.user_type == UserType::Super)
}

fn users(broker: &Broker) -> Result<&Users, Refusal> {
    broker.access.users.as_ref().ok_or_else(unconfigured)
}

fn policies(broker: &Broker) -> Result<&Users, Refusal> {
    broker.access.policies().ok_or_else(unconfigured)
}

/// The providers of users or policies are not set.
fn unconfigured() -> Refusal {
    Refusal::new(code::SYSTEM_ERROR, "An system error occurred, please try again later.")
}
