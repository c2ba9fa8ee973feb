//! Cases on servers of their own that speak TLS: with certificates that they make themselves, and with issued ones that both
//! sides want to see.

use std::fs;
use std::path::Path;

use oxmq_tests::{Authority, write_roots};

use super::programs::Client;
use super::{Outcomes, cluster_run};
use crate::servers::{Cluster, Options, Tls};

pub(super) const CASES: [&str; 2] = ["tls", "tls-certificates"];

pub(super) fn run(mut options: Options, clients: &[Client], case: &str) -> anyhow::Result<Outcomes> {
    // The folder of the cluster is emptied at its start.
    let folder = options.dir.with_extension("certificates");
    options.tls = Some(match case {
        "tls" => Tls {
            of_clients: vec![("tls.enable", "true".into())],
            ..Tls::default()
        },
        _ => with_certificates(&folder)?,
    });
    let mut cluster = Cluster::start(options)?;
    cluster_run::run(&mut cluster, clients, &[case])
}

/// `stranger` and `other_roots` are of another root than the rest.
fn with_certificates(folder: &Path) -> anyhow::Result<Tls> {
    fs::create_dir_all(folder)?;
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let roots = write_roots(folder, "roots", &[&ours]);
    write_roots(folder, "other_roots", &[&other]);
    other.issue("client").write(folder, "stranger");
    ours.issue_expired("client").write(folder, "expired");
    let (server_cert, server_key) = ours.issue("127.0.0.1").write(folder, "server");
    ours.issue("127.0.0.1").write(folder, "next");
    let (client_cert, client_key) = ours.issue("client").write(folder, "client");
    // The broker is a client of the name server.
    let of_clients = vec![
        ("tls.test.mode.enable", "false".to_owned()),
        ("tls.client.authServer", "true".into()),
        ("tls.client.trustCertPath", roots.clone()),
        ("tls.client.certPath", client_cert),
        ("tls.client.keyPath", client_key),
    ];
    let mut of_servers = of_clients.clone();
    of_servers.extend([
        ("tls.server.need.client.auth", "require".to_owned()),
        ("tls.server.authClient", "true".into()),
        ("tls.server.trustCertPath", roots),
        ("tls.server.certPath", server_cert),
        ("tls.server.keyPath", server_key),
    ]);
    let enable = [("tls.enable", "true".to_owned())];
    Ok(Tls {
        of_servers,
        of_clients: of_clients.into_iter().chain(enable).collect(),
        folder: folder.to_owned(),
    })
}
