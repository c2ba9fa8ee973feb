use std::fmt;

use super::bodies;

bodies! {
    /// Requests 3006 and 3007, replies of 3009 and 3010.
    pub struct AclInfo {
        #[serde(skip_serializing_if = "Option::is_none")]
        policies: Option<Vec<PolicyInfo>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
    }

    pub struct PolicyInfo {
        #[serde(skip_serializing_if = "Option::is_none")]
        entries: Option<Vec<PolicyEntryInfo>>,
        /// `Custom` or `Default`.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy_type: Option<String>,
    }

    pub struct PolicyEntryInfo {
        #[serde(skip_serializing_if = "Option::is_none")]
        actions: Option<Vec<String>>,
        /// `Allow` or `Deny`.
        #[serde(skip_serializing_if = "Option::is_none")]
        decision: Option<String>,
        /// `Topic:name`, `Topic:prefix*`, `Topic:*` or `*`.
        #[serde(skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_ips: Option<Vec<String>>,
    }

    /// Reply of 54.
    pub struct PlainAclConfig {
        global_white_addrs: Vec<String>,
        plain_access_configs: Vec<PlainAccountConfig>,
    }

    pub struct PlainAccountConfig {
        access_key: String,
        admin: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        default_group_perm: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        default_topic_perm: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        group_perms: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        secret_key: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_perms: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        white_remote_address: Option<String>,
    }
}

/// Requests 3001 and 3002, replies of 3004 and 3005. What is absent stays as it is.
#[derive(Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UserInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `enable` or `disable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_status: Option<String>,
    /// `Super` or `Normal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserInfo")
            .field("username", &self.username)
            .field("user_type", &self.user_type)
            .field("user_status", &self.user_status)
            .finish_non_exhaustive()
    }
}
