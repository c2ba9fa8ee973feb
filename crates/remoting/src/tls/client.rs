//! TLS of outgoing connections.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SingleCertAndKey;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{error, info};

use super::material::Material;
use super::server::needed;
use super::settings::TlsConfig;
use super::{LOOK_INTERVAL, TlsError, provider};

/// One read of the socket, of which a connection takes a record at a time.
const READ_BYTES: usize = 32 * 1024;

/// How a client speaks TLS: whom it trusts, and with which certificate. Files are read by the first connection, and again
/// by later ones, which use what has changed.
#[derive(Clone)]
pub struct ClientTls(Arc<Inner>);

struct Inner {
    settings: TlsConfig,
    used: Mutex<Option<Used>>,
}

/// What the last connection used.
struct Used {
    connector: TlsConnector,
    material: Material,
    looked: Instant,
}

impl ClientTls {
    /// As the settings `tls.test.mode.enable` and `tls.client.…` say, whether or not they say that there shall be TLS.
    pub fn new(settings: TlsConfig) -> ClientTls {
        ClientTls(Arc::new(Inner {
            settings,
            used: Mutex::new(None),
        }))
    }

    /// Keeps who listens from reading, but not who answers in the server's place.
    pub fn trusting_anyone() -> ClientTls {
        ClientTls::new(TlsConfig {
            tls_config_file: String::new(),
            ..TlsConfig::default()
        })
    }

    /// Connects to servers whose certificates come from the roots in this PEM file, whatever host they are for.
    pub fn trusting(roots_path: impl Into<String>) -> ClientTls {
        ClientTls::new(TlsConfig {
            tls_config_file: String::new(),
            tls_test_mode_enable: false,
            tls_client_auth_server: true,
            tls_client_trust_cert_path: Some(roots_path.into()),
            ..TlsConfig::default()
        })
    }

    /// Besides, certificates must be for the host that is connected to.
    pub fn verifying_host(&self) -> ClientTls {
        self.changed(|settings| settings.tls_client_verify_host = true)
    }

    /// Shows servers that ask for it this certificate, PEM, with its private key.
    pub fn with_certificate(
        &self,
        cert_path: impl Into<String>,
        key_path: impl Into<String>,
        key_password: Option<String>,
    ) -> ClientTls {
        self.changed(|settings| {
            settings.tls_test_mode_enable = false;
            settings.tls_client_cert_path = Some(cert_path.into());
            settings.tls_client_key_path = Some(key_path.into());
            settings.tls_client_key_password = key_password;
        })
    }

    fn changed(&self, change: impl FnOnce(&mut TlsConfig)) -> ClientTls {
        let mut settings = self.0.settings.clone();
        change(&mut settings);
        ClientTls::new(settings)
    }

    pub(crate) async fn connect(&self, addr: &str, stream: TcpStream) -> io::Result<TlsStream<BufReader<TcpStream>>> {
        let inner = Arc::clone(&self.0);
        let looked = tokio::task::spawn_blocking(move || inner.connector()).await;
        let connector = looked.map_err(io::Error::other)?.map_err(io::Error::other)?;
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        connector.connect(server_name(addr)?, stream).await
    }
}

impl Inner {
    /// Reads files, where that was not done within the last moments.
    fn connector(&self) -> Result<TlsConnector, TlsError> {
        let mut slot = self.used.lock();
        let now = Instant::now();
        if let Some(used) = slot.as_ref().filter(|used| now - used.looked < LOOK_INTERVAL) {
            return Ok(used.connector.clone());
        }
        let material = Material::look(&self.settings, |settings| {
            [
                &settings.tls_client_cert_path,
                &settings.tls_client_key_path,
                &settings.tls_client_trust_cert_path,
            ]
        });
        let connector = match slot.as_ref() {
            None => build(&material)?,
            Some(used) if used.material == material => used.connector.clone(),
            Some(used) => match build(&material) {
                Ok(connector) => {
                    info!("new connections use the changed certificates");
                    connector
                }
                Err(error) => {
                    error!(%error, "the changed certificates cannot be used; those before are used further");
                    used.connector.clone()
                }
            },
        };
        *slot = Some(Used {
            connector: connector.clone(),
            material,
            looked: now,
        });
        Ok(connector)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

fn build(material: &Material) -> Result<TlsConnector, TlsError> {
    let settings = material.settings()?;
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let roots = match settings.tls_client_auth_server && !settings.tls_test_mode_enable {
        true => {
            let path = needed(&settings.tls_client_trust_cert_path, "tls.client.trustCertPath")?;
            Some(material.roots(path)?)
        }
        false => None,
    };
    let verifier = Verifier {
        roots,
        verify_host: settings.tls_client_verify_host,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &settings.tls_client_cert_path {
        Some(cert_path) if !settings.tls_test_mode_enable => {
            let key_path = needed(&settings.tls_client_key_path, "tls.client.keyPath")?;
            let key = material.certified_key(cert_path, key_path, settings.tls_client_key_password.as_deref())?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The host of `host:port`.
fn server_name(addr: &str) -> io::Result<ServerName<'static>> {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Which servers' certificates are good enough.
#[derive(Debug)]
struct Verifier {
    /// `None` believes any.
    roots: Option<RootCertStore>,
    verify_host: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let algorithms = provider().signature_verification_algorithms.all;
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
            if self.verify_host {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.roots {
            Some(_) => verify_tls12_signature(
                message,
                certificate,
                signed,
                &provider().signature_verification_algorithms,
            ),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.roots {
            Some(_) => verify_tls13_signature(
                message,
                certificate,
                signed,
                &provider().signature_verification_algorithms,
            ),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
