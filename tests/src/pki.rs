//! Certificates for tests of TLS.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// Issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its private key, PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, PEM.
    pub fn root(&self) -> String {
        self.0.pem()
    }

    /// For this host name or address.
    pub fn issue(&self, host: &str) -> Pair {
        self.sign(params("someone", &[host]))
    }

    pub fn issue_expired(&self, host: &str) -> Pair {
        let mut params = params("someone", &[host]);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// Writes `<name>.pem` and `<name>.key` and tells where.
    pub fn write(&self, folder: &Path, name: &str) -> (String, String) {
        (
            write(folder.join(format!("{name}.pem")), &self.certificate),
            write(folder.join(format!("{name}.key")), &self.key),
        )
    }
}

/// Writes roots, one behind the other, and tells where.
pub fn write_roots(folder: &Path, name: &str, authorities: &[&Authority]) -> String {
    let roots: String = authorities.iter().map(|authority| authority.root()).collect();
    write(folder.join(format!("{name}.pem")), &roots)
}

fn write(path: PathBuf, text: &str) -> String {
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
