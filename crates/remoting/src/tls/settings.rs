//! RocketMQ's keys for TLS. A role has them among its own settings; `tls.config.file` says most of them as well.

use std::fs;
use std::io;

use oxmq_protocol::properties_file::{self, Property};
use oxmq_protocol::setting_enum;
use oxmq_protocol::settings::{SettingError, Settings};

use super::{ClientTls, TlsError};

setting_enum! {
    /// What a listener does with TLS and with plain connections.
    pub enum TlsMode { Disabled = "disabled", Permissive = "permissive", Enforcing = "enforcing" }
}

setting_enum! {
    /// Whether clients have to show a certificate.
    pub enum ClientAuth { None = "none", Optional = "optional", Require = "require" }
}

/// Declares a role's settings as [`settings!`](oxmq_protocol::settings!) does, with those for TLS behind its own.
#[macro_export]
macro_rules! settings_with_tls {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident { $($rows:tt)* }
        without_effect: $($idle:tt)*
    ) => {
        oxmq_protocol::settings! {
            $(#[$meta])*
            $vis struct $name {
                $($rows)*
                /// What listeners do: `permissive` serves TLS and plain connections on one port, `enforcing` closes plain
                /// ones, `disabled` closes TLS.
                tls_server_mode: $crate::TlsMode = "tls.server.mode" => $crate::TlsMode::Permissive, local();
                /// A properties file with further TLS settings, all but `tls.server.mode`, `tls.enable` and `useTLS`. What it
                /// says goes before what stands here. Empty for none.
                tls_config_file: String = "tls.config.file" => $crate::TlsConfig::DEFAULT_FILE.into(), local();
                /// Outgoing connections use TLS. Unset: if `tls.server.mode` is `enforcing`.
                tls_enable: Option<bool> = "tls.enable" => None, local();
                /// The same; goes before `tls.enable`.
                use_tls: Option<bool> = "useTLS" => None, local();
                /// Serve with a certificate made at the start, and trust every server. The other settings are for `false`.
                tls_test_mode_enable: bool = "tls.test.mode.enable" => true, local();
                /// Ask clients for a certificate, or require one.
                tls_server_need_client_auth: $crate::ClientAuth = "tls.server.need.client.auth" => $crate::ClientAuth::None, local();
                /// Private key of listeners, PEM.
                tls_server_key_path: Option<String> = "tls.server.keyPath" => None, local();
                /// Password of that key, if it is encrypted.
                tls_server_key_password: Option<String> = "tls.server.keyPassword" => None, local(), secret();
                /// Certificate of listeners and those that lead to its root, PEM.
                tls_server_cert_path: Option<String> = "tls.server.certPath" => None, local();
                /// Take only certificates of clients that `tls.server.trustCertPath` vouches for. Otherwise any will do.
                tls_server_auth_client: bool = "tls.server.authClient" => false, local();
                /// Roots of clients' certificates, PEM.
                tls_server_trust_cert_path: Option<String> = "tls.server.trustCertPath" => None, local();
                /// Private key of outgoing connections, PEM.
                tls_client_key_path: Option<String> = "tls.client.keyPath" => None, local();
                /// Password of that key, if it is encrypted.
                tls_client_key_password: Option<String> = "tls.client.keyPassword" => None, local(), secret();
                /// Certificate of outgoing connections, PEM.
                tls_client_cert_path: Option<String> = "tls.client.certPath" => None, local();
                /// Connect only to servers that `tls.client.trustCertPath` vouches for.
                tls_client_auth_server: bool = "tls.client.authServer" => false, local();
                /// Roots of servers' certificates, PEM.
                tls_client_trust_cert_path: Option<String> = "tls.client.trustCertPath" => None, local();
                /// With `tls.client.authServer`: the certificate must be for the host name or address that is connected to.
                /// Not a key of RocketMQ, which does not look.
                tls_client_verify_host: bool = "tls.client.verifyHost" => false, local();
            }
            without_effect: $($idle)*
        }
    };
}

settings_with_tls! {
    /// The settings for TLS alone.
    pub struct TlsConfig {}
    without_effect:
}

/// Keys that RocketMQ does not take from the file.
const NOT_IN_FILE: [&str; 4] = ["tls.server.mode", "tls.config.file", "tls.enable", "useTLS"];

impl TlsConfig {
    /// Where RocketMQ looks unless it is told otherwise.
    pub const DEFAULT_FILE: &str = "/etc/rocketmq/tls.properties";

    /// Those of a role.
    pub fn of(role: &impl Settings) -> TlsConfig {
        let mut config = TlsConfig::default();
        for (setting, text) in role.entries() {
            if TlsConfig::index_of(setting.key).is_some() {
                config
                    .set(setting.key, &text)
                    .expect("the same row has shown this value");
            }
        }
        config
    }

    /// For outgoing connections, if they use TLS.
    pub fn client(&self) -> Option<ClientTls> {
        let enforcing = self.tls_server_mode == TlsMode::Enforcing;
        let is_enabled = self.use_tls.or(self.tls_enable).unwrap_or(enforcing);
        is_enabled.then(|| ClientTls::new(self.clone()))
    }

    /// These, with what the file says over them, and what in it has no effect. Without the file of the default, these.
    pub(super) fn with_file(&self) -> Result<(TlsConfig, Vec<String>), TlsError> {
        let path = &self.tls_config_file;
        let mut config = self.clone();
        let mut warnings = Vec::new();
        if path.is_empty() {
            return Ok((config, warnings));
        }
        let file = match fs::read(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == TlsConfig::DEFAULT_FILE => {
                return Ok((config, warnings));
            }
            Err(error) => {
                return Err(TlsError::File {
                    path: path.clone(),
                    why: error.to_string(),
                });
            }
        };
        for Property { key, value, line } in properties_file::parse(&file) {
            let place = format!("{path}:{line}");
            if NOT_IN_FILE.contains(&key.as_str()) || TlsConfig::index_of(&key).is_none() {
                warnings.push(format!("{place}: {key} has no effect in this file"));
                continue;
            }
            config
                .set(&key, &value)
                .map_err(|error| SettingError { place, ..error })?;
        }
        Ok((config, warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_before_the_settings_of_the_role() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            &file,
            "tls.test.mode.enable=false\ntls.server.need.client.auth=require\ntls.server.mode=disabled\nlistenPort=1\n",
        )
        .unwrap();
        let config = TlsConfig {
            tls_server_mode: TlsMode::Enforcing,
            tls_server_key_path: Some("key.pem".into()),
            tls_config_file: file.path().to_string_lossy().into_owned(),
            ..TlsConfig::default()
        };
        let (config, warnings) = config.with_file().unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(!config.tls_test_mode_enable);
        assert_eq!(config.tls_server_need_client_auth, ClientAuth::Require);
        assert_eq!(config.tls_server_mode, TlsMode::Enforcing);
        assert_eq!(config.tls_server_key_path.as_deref(), Some("key.pem"));

        fs::write(&file, "\ntls.server.need.client.auth=sometimes\n").unwrap();
        let error = config.with_file().unwrap_err().to_string();
        assert!(
            error.contains(":2: tls.server.need.client.auth: \"sometimes\" is not one of"),
            "{error}"
        );
    }

    #[test]
    fn only_the_file_of_the_default_may_be_missing() {
        let named = TlsConfig {
            tls_config_file: "/nowhere/tls.properties".into(),
            ..TlsConfig::default()
        };
        assert!(named.with_file().is_err());
    }

    #[test]
    fn outgoing_connections_follow_the_mode_unless_told_otherwise() {
        let config = |mode, enable, use_tls| TlsConfig {
            tls_server_mode: mode,
            tls_enable: enable,
            use_tls,
            ..TlsConfig::default()
        };
        assert!(config(TlsMode::Permissive, None, None).client().is_none());
        assert!(config(TlsMode::Enforcing, None, None).client().is_some());
        assert!(config(TlsMode::Enforcing, Some(false), None).client().is_none());
        assert!(config(TlsMode::Permissive, Some(false), Some(true)).client().is_some());
    }

    #[test]
    fn a_role_hands_on_what_it_was_given() {
        let mut role = TlsConfig::default();
        role.set("tls.server.keyPassword", "p w").unwrap();
        role.set("tls.client.authServer", "true").unwrap();
        let config = TlsConfig::of(&role);
        assert_eq!(config.to_properties(), role.to_properties());
        assert!(
            config.text().contains("tls.server.keyPassword=******\n"),
            "{}",
            config.text()
        );
    }
}
