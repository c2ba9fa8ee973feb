//! What is in the files that the settings name, and keys and roots made of it.

use std::fs::File;
use std::io::{self, Read};

use oxmq_protocol::settings::Settings;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::{Document, SecretDocument, pem::PemLabel};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use tracing::warn;

use super::settings::TlsConfig;
use super::{TlsError, provider};

/// No file of keys or certificates is larger; a list of every public root has about 250 KB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One look at the settings and the files they name.
pub(super) struct Material {
    settings: Result<(TlsConfig, Vec<String>), TlsError>,
    files: Vec<(String, Result<Vec<u8>, String>)>,
}

impl Material {
    pub(super) fn look(config: &TlsConfig, names: fn(&TlsConfig) -> [&Option<String>; 3]) -> Material {
        let settings = config.with_file();
        let files = match &settings {
            Ok((settings, _)) if !settings.tls_test_mode_enable => {
                let paths = names(settings).into_iter().flatten();
                paths
                    .map(|path| (path.clone(), read(path).map_err(|error| error.to_string())))
                    .collect()
            }
            _ => Vec::new(),
        };
        Material { settings, files }
    }

    /// To be used: what the file has in vain is told to the log.
    pub(super) fn settings(&self) -> Result<&TlsConfig, TlsError> {
        let (settings, warnings) = self.settings.as_ref().map_err(Clone::clone)?;
        for warning in warnings {
            warn!("{warning}");
        }
        Ok(settings)
    }

    /// The key and the certificate of one side.
    pub(super) fn certified_key(
        &self,
        cert_path: &str,
        key_path: &str,
        password: Option<&str>,
    ) -> Result<CertifiedKey, TlsError> {
        let chain = self.certificates(cert_path)?;
        let wrong = |why: String| wrong(key_path, why);
        let key = private_key(self.bytes(key_path)?, password).map_err(wrong)?;
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|error| wrong(error.to_string()))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(wrong(format!("it does not belong to the certificate in {cert_path}")))
            }
            // Certificates of version 1 cannot be compared, and are served nevertheless.
            _ => Ok(certified),
        }
    }

    /// Whom to trust.
    pub(super) fn roots(&self, path: &str) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(path)? {
            roots.add(certificate).map_err(|error| wrong(path, error.to_string()))?;
        }
        Ok(roots)
    }

    fn certificates(&self, path: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.bytes(path)?).collect();
        let certificates = read.map_err(|error| wrong(path, error.to_string()))?;
        match certificates.is_empty() {
            true => Err(wrong(path, "there is no certificate in it".into())),
            false => Ok(certificates),
        }
    }

    fn bytes(&self, path: &str) -> Result<&[u8], TlsError> {
        let found = self.files.iter().find(|(name, _)| name == path);
        match found {
            Some((_, Ok(bytes))) => Ok(bytes),
            Some((_, Err(why))) => Err(wrong(path, why.clone())),
            None => Err(wrong(path, "it was not read".into())),
        }
    }
}

/// The same was seen in both looks.
impl PartialEq for Material {
    fn eq(&self, other: &Material) -> bool {
        let settings = match (&self.settings, &other.settings) {
            (Ok((own, _)), Ok((others, _))) => own.to_properties() == others.to_properties(),
            (Err(own), Err(others)) => own == others,
            _ => false,
        };
        settings && self.files == other.files
    }
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

fn private_key(pem: &[u8], password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let text = String::from_utf8_lossy(pem);
    let Some(at) = text.find(&format!("-----BEGIN {}-----", EncryptedPrivateKeyInfoRef::PEM_LABEL)) else {
        return PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => "there is no private key in it".into(),
            error => error.to_string(),
        });
    };
    let password = password.ok_or("it is encrypted, and no password is set")?;
    let (_, encrypted): (_, Document) = Document::from_pem(&text[at..]).map_err(|error| error.to_string())?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes()).map_err(|error| error.to_string())?;
    let key: SecretDocument = encrypted
        .decrypt(password)
        .map_err(|error| format!("it cannot be decrypted: {error}"))?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn wrong(path: &str, why: String) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        why,
    }
}
