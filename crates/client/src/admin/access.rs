//! Users and what they may do, of 5.x.

use bytes::Bytes;
use oxmq_protocol::body::{AclInfo, UserInfo};
use oxmq_protocol::requests::{DeleteAclHeader, ListAclsHeader, ListUsersHeader, SubjectHeader, UserHeader, request};

use super::*;

impl Admin {
    /// Refused with 1 when there is such a user already.
    pub async fn create_user(&self, addr: &str, user: &UserInfo) -> Result<(), ClientError> {
        let body = Bytes::from(json::to_vec(user));
        self.call::<request::AuthCreateUser>(addr, &user_header(user.username.as_deref()), body)
            .await
            .map(drop)
    }

    /// Changes what is given.
    pub async fn update_user(&self, addr: &str, user: &UserInfo) -> Result<(), ClientError> {
        let body = Bytes::from(json::to_vec(user));
        self.call::<request::AuthUpdateUser>(addr, &user_header(user.username.as_deref()), body)
            .await
            .map(drop)
    }

    pub async fn delete_user(&self, addr: &str, username: &str) -> Result<(), ClientError> {
        self.tell::<request::AuthDeleteUser>(addr, &user_header(Some(username)))
            .await
    }

    pub async fn user(&self, addr: &str, username: &str) -> Result<Option<UserInfo>, ClientError> {
        let header = user_header(Some(username));
        self.ask_for_one::<request::AuthGetUser, _>(addr, &header).await
    }

    /// Users whose names contain the filter.
    pub async fn users(&self, addr: &str, filter: Option<&str>) -> Result<Vec<UserInfo>, ClientError> {
        let header = ListUsersHeader {
            filter: filter.map(str::to_owned),
        };
        let users = self.ask_for_one::<request::AuthListUser, _>(addr, &header).await?;
        Ok(users.unwrap_or_default())
    }

    pub async fn create_acl(&self, addr: &str, acl: &AclInfo) -> Result<(), ClientError> {
        let body = Bytes::from(json::to_vec(acl));
        self.call::<request::AuthCreateAcl>(addr, &subject_header(acl.subject.as_deref()), body)
            .await
            .map(drop)
    }

    pub async fn update_acl(&self, addr: &str, acl: &AclInfo) -> Result<(), ClientError> {
        let body = Bytes::from(json::to_vec(acl));
        self.call::<request::AuthUpdateAcl>(addr, &subject_header(acl.subject.as_deref()), body)
            .await
            .map(drop)
    }

    /// What a subject may do with one resource, or with all.
    pub async fn delete_acl(&self, addr: &str, subject: &str, resource: Option<&str>) -> Result<(), ClientError> {
        let header = DeleteAclHeader {
            subject: Some(subject.to_owned()),
            policy_type: None,
            resource: resource.map(str::to_owned),
        };
        self.tell::<request::AuthDeleteAcl>(addr, &header).await
    }

    pub async fn acl(&self, addr: &str, subject: &str) -> Result<Option<AclInfo>, ClientError> {
        let header = subject_header(Some(subject));
        self.ask_for_one::<request::AuthGetAcl, _>(addr, &header).await
    }

    /// Those whose subject and resource contain the filters.
    pub async fn acls(
        &self,
        addr: &str,
        subject: Option<&str>,
        resource: Option<&str>,
    ) -> Result<Vec<AclInfo>, ClientError> {
        let header = ListAclsHeader {
            subject_filter: subject.map(str::to_owned),
            resource_filter: resource.map(str::to_owned),
        };
        let acls = self.ask_for_one::<request::AuthListAcl, _>(addr, &header).await?;
        Ok(acls.unwrap_or_default())
    }

    /// What does not exist is answered with no body or with `null`.
    async fn ask_for_one<R: Request, T: DeserializeOwned>(
        &self,
        addr: &str,
        header: &R::Header,
    ) -> Result<Option<T>, ClientError> {
        let reply = self.call::<R>(addr, header, Bytes::new()).await?;
        match reply.body.is_empty() {
            true => Ok(None),
            false => Ok(json::from_slice(&reply.body)?),
        }
    }
}

fn user_header(username: Option<&str>) -> UserHeader {
    UserHeader {
        username: username.map(str::to_owned),
    }
}

fn subject_header(subject: Option<&str>) -> SubjectHeader {
    SubjectHeader {
        subject: subject.map(str::to_owned),
    }
}
