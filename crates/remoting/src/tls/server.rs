//! TLS of listeners: what connections are served with, and its exchange while the server runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection, SignatureScheme};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{error, info};

use super::material::Material;
use super::settings::{ClientAuth, TlsConfig, TlsMode};
use super::{LOOK_INTERVAL, TlsError, provider};

pub(crate) struct ServerTls {
    /// Plain connections are closed.
    pub(crate) is_enforcing: bool,
    config: ArcSwap<ServerConfig>,
}

/// Looks at the files of a [`ServerTls`] again and again.
pub(crate) struct Watch {
    tls: Arc<ServerTls>,
    settings: TlsConfig,
    /// What was last used, or refused.
    settled: Material,
    /// Something else, seen once: it may still be being written.
    seen: Option<Material>,
}

impl ServerTls {
    /// `None` where there shall be no TLS.
    pub(crate) fn open(settings: &TlsConfig) -> Result<Option<(Arc<ServerTls>, Watch)>, TlsError> {
        if settings.tls_server_mode == TlsMode::Disabled {
            return Ok(None);
        }
        let settled = look(settings);
        let tls = Arc::new(ServerTls {
            is_enforcing: settings.tls_server_mode == TlsMode::Enforcing,
            config: ArcSwap::new(build(&settled)?),
        });
        let watch = Watch {
            tls: Arc::clone(&tls),
            settings: settings.clone(),
            settled,
            seen: None,
        };
        Ok(Some((tls, watch)))
    }

    /// The state of a connection that begins now.
    pub(crate) fn begin(&self) -> Result<ServerConnection, rustls::Error> {
        let mut session = ServerConnection::new(self.config.load_full())?;
        // What is handed over at once is bounded by its owner.
        session.set_buffer_limit(None);
        Ok(session)
    }
}

impl Watch {
    /// The thread that looks, until the server stops. Reading files may block, which no worker may.
    pub(crate) fn run(mut self, mut stop: watch::Receiver<Option<Instant>>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O needs nothing that could be missing");
        runtime.block_on(async {
            // An error means that the server's handle is gone, which stops the server as well.
            while timeout(LOOK_INTERVAL, stop.wait_for(Option::is_some)).await.is_err() {
                self.look();
            }
        });
    }

    fn look(&mut self) {
        let found = look(&self.settings);
        if found == self.settled {
            self.seen = None;
            return;
        }
        if self.seen.as_ref() != Some(&found) {
            self.seen = Some(found);
            return;
        }
        match build(&found) {
            Ok(config) => {
                self.tls.config.store(config);
                info!("new connections are served with the changed certificate");
            }
            Err(error) => error!(%error, "the changed certificate cannot be used; the one before is used further"),
        }
        self.settled = found;
        self.seen = None;
    }
}

fn look(settings: &TlsConfig) -> Material {
    Material::look(settings, |settings| {
        [
            &settings.tls_server_cert_path,
            &settings.tls_server_key_path,
            &settings.tls_server_trust_cert_path,
        ]
    })
}

fn build(material: &Material) -> Result<Arc<ServerConfig>, TlsError> {
    let settings = material.settings()?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider())).with_safe_default_protocol_versions()?;
    if settings.tls_test_mode_enable {
        let key = Arc::new(SingleCertAndKey::from(self_signed()?));
        return Ok(Arc::new(builder.with_no_client_auth().with_cert_resolver(key)));
    }
    let cert_path = needed(&settings.tls_server_cert_path, "tls.server.certPath")?;
    let key_path = needed(&settings.tls_server_key_path, "tls.server.keyPath")?;
    let key = material.certified_key(cert_path, key_path, settings.tls_server_key_password.as_deref())?;
    let builder = match client_verifier(material, settings)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
    ))
}

pub(super) fn needed<'a>(value: &'a Option<String>, key: &'static str) -> Result<&'a str, TlsError> {
    value.as_deref().ok_or(TlsError::Unset(key))
}

fn client_verifier(material: &Material, settings: &TlsConfig) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let mandatory = match settings.tls_server_need_client_auth {
        ClientAuth::None => return Ok(None),
        ClientAuth::Optional => false,
        ClientAuth::Require => true,
    };
    if !settings.tls_server_auth_client {
        return Ok(Some(Arc::new(AnyClient { mandatory })));
    }
    let trust_path = needed(&settings.tls_server_trust_cert_path, "tls.server.trustCertPath")?;
    let roots = Arc::new(material.roots(trust_path)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider()));
    let verifier = if mandatory {
        verifier
    } else {
        verifier.allow_unauthenticated()
    };
    let verifier = verifier.build().map_err(|error| TlsError::Refused(error.to_string()))?;
    Ok(Some(verifier))
}

/// A key and a certificate for nobody in particular, as RocketMQ makes them at its start.
fn self_signed() -> Result<CertifiedKey, TlsError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.map_err(|error| TlsError::Refused(error.to_string()))?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let key = provider().key_provider.load_private_key(key.into())?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], key))
}

/// Wants to see a certificate and believes any: `tls.server.authClient=false`.
#[derive(Debug)]
struct AnyClient {
    mandatory: bool,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use oxmq_tests::Authority;

    use super::*;

    #[test]
    fn only_what_two_looks_have_seen_and_what_can_be_used_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("root");
        let (cert_path, key_path) = authority.issue("localhost").write(folder.path(), "server");
        let settings = TlsConfig {
            tls_config_file: String::new(),
            tls_test_mode_enable: false,
            tls_server_cert_path: Some(cert_path.clone()),
            tls_server_key_path: Some(key_path.clone()),
            ..TlsConfig::default()
        };
        let (tls, mut watch) = ServerTls::open(&settings).unwrap().unwrap();
        let changes = |watch: &mut Watch| {
            let before = tls.config.load_full();
            watch.look();
            !Arc::ptr_eq(&before, &tls.config.load_full())
        };
        assert!(!changes(&mut watch));

        // The certificate is there before its key.
        let next = authority.issue("localhost");
        std::fs::write(&cert_path, &next.certificate).unwrap();
        assert!(!changes(&mut watch));
        std::fs::write(&key_path, &next.key).unwrap();
        assert!(!changes(&mut watch));
        assert!(changes(&mut watch));
        assert!(!changes(&mut watch));

        // Broken, however often one looks; and usable again.
        std::fs::write(&key_path, "broken").unwrap();
        assert!((0..4).all(|_| !changes(&mut watch)));
        std::fs::remove_file(&key_path).unwrap();
        assert!((0..4).all(|_| !changes(&mut watch)));
        std::fs::write(&key_path, &next.key).unwrap();
        assert!(!changes(&mut watch));
        assert!(changes(&mut watch));
    }
}
