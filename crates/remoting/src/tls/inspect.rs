//! Looking at certificates without trusting them.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ClientTls;

/// The certificate, DER, that a server shows; fails where none speaks TLS.
pub async fn certificate_of_server(addr: &str, patience: Duration) -> io::Result<Vec<u8>> {
    let handshake = async {
        let stream = TcpStream::connect(addr).await?;
        let stream = ClientTls::trusting_anyone().connect(addr, stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let first = shown.and_then(<[_]>::first).map(|certificate| certificate.to_vec());
        first.ok_or_else(|| io::Error::other("the server shows no certificate"))
    };
    timeout(patience, handshake).await?
}

/// The certificates, DER, in a PEM file.
pub fn certificates_in_file(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
    certificates
        .map(|certificate| certificate.map(|der| der.to_vec()).map_err(io::Error::other))
        .collect()
}
