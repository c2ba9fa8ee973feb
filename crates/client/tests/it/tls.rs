//! Servers that take TLS only, and certificates that change under a producer.

use oxmq_client::{Admin, ClientTls, ConsumeStatus, InstanceConfig, Message, Producer};
use oxmq_protocol::settings::Settings;
use oxmq_tests::{Authority, write_roots};
use tempfile::TempDir;

use crate::servers::{Inbox, Servers, eventually};

/// A name server and a broker that speak TLS only, also with each other, and want certificates to be shown.
struct Secured {
    servers: Servers,
    ours: Authority,
    folder: TempDir,
    keys: Vec<(&'static str, String)>,
}

impl Secured {
    fn start() -> Secured {
        let ours = Authority::new("ours");
        let folder = tempfile::tempdir().unwrap();
        let roots = write_roots(folder.path(), "roots", &[&ours]);
        let (server_cert, server_key) = ours.issue("127.0.0.1").write(folder.path(), "server");
        let (client_cert, client_key) = ours.issue("anyone").write(folder.path(), "client");
        let keys = vec![
            ("tls.server.mode", "enforcing".to_owned()),
            ("tls.config.file", String::new()),
            ("tls.test.mode.enable", "false".into()),
            ("tls.server.need.client.auth", "require".into()),
            ("tls.server.authClient", "true".into()),
            ("tls.server.trustCertPath", roots.clone()),
            ("tls.server.certPath", server_cert),
            ("tls.server.keyPath", server_key),
            ("tls.client.authServer", "true".into()),
            ("tls.client.verifyHost", "true".into()),
            ("tls.client.trustCertPath", roots),
            ("tls.client.certPath", client_cert),
            ("tls.client.keyPath", client_key),
        ];
        let of_broker = keys.clone();
        let servers = Servers::start_both_with(|namesrv| set(namesrv, &keys), move |broker| set(broker, &of_broker));
        Secured {
            servers,
            ours,
            folder,
            keys,
        }
    }

    fn value(&self, key: &str) -> String {
        let (_, value) = self.keys.iter().find(|(name, _)| *name == key).unwrap();
        value.clone()
    }

    fn without_certificate(&self) -> ClientTls {
        ClientTls::trusting(self.value("tls.client.trustCertPath")).verifying_host()
    }

    fn client(&self) -> ClientTls {
        let (cert_path, key_path) = (self.value("tls.client.certPath"), self.value("tls.client.keyPath"));
        self.without_certificate().with_certificate(cert_path, key_path, None)
    }

    async fn producer(&self, tls: Option<ClientTls>) -> Producer {
        let producer = Producer::builder("producers").name_server(self.servers.name_server());
        let producer = match tls {
            Some(tls) => producer.tls(tls),
            None => producer,
        };
        producer.start().await.unwrap()
    }
}

fn set(settings: &mut impl Settings, keys: &[(&str, String)]) {
    for (key, value) in keys {
        settings.set(key, value).unwrap();
    }
}

#[tokio::test]
async fn messages_pass_between_those_who_have_shown_their_certificates() {
    let secured = Secured::start();
    let producer = secured.producer(Some(secured.client())).await;
    // The broker's registration is one of them.
    eventually(async || producer.send(Message::new("orders", "first")).await.ok()).await;
    let inbox = Inbox::default();
    let consumer = secured
        .servers
        .consumer("readers")
        .tls(secured.client())
        .subscribe("orders", "*");
    let consumer = consumer
        .concurrent(inbox.listener(ConsumeStatus::Success))
        .start()
        .await
        .unwrap();
    producer.send(Message::new("orders", vec![7; 3 << 20])).await.unwrap();
    let came = inbox.wait_for(|messages| messages.len() >= 2).await;
    assert!(came.iter().any(|message| message.body.len() == 3 << 20));
    consumer.shutdown().await;
    producer.shutdown().await;
    for stranger in [
        None,
        Some(ClientTls::trusting_anyone()),
        Some(secured.without_certificate()),
    ] {
        let producer = secured.producer(stranger).await;
        assert!(producer.send(Message::new("orders", "stranger")).await.is_err());
        producer.shutdown().await;
    }
}

#[tokio::test]
async fn no_send_fails_while_certificates_change() {
    let secured = Secured::start();
    let theirs = Authority::new("theirs");
    // Everybody trusts both before the servers get a certificate of the next root.
    write_roots(secured.folder.path(), "roots", &[&secured.ours, &theirs]);
    let next = write_roots(secured.folder.path(), "next", &[&theirs]);
    let producer = secured.producer(Some(secured.client())).await;
    eventually(async || producer.send(Message::new("orders", "first")).await.ok()).await;
    theirs.issue("127.0.0.1").write(secured.folder.path(), "server");

    let (cert_path, key_path) = (
        secured.value("tls.client.certPath"),
        secured.value("tls.client.keyPath"),
    );
    let probe = ClientTls::trusting(next).with_certificate(cert_path, key_path, None);
    let mut sent = 0;
    eventually(async || {
        for _ in 0..20 {
            producer
                .send(Message::new("orders", "while they change"))
                .await
                .unwrap();
            sent += 1;
        }
        // Over connections of its own, to both.
        let config = InstanceConfig {
            remoting: oxmq_remoting::ClientConfig {
                tls: Some(probe.clone()),
                ..Default::default()
            },
            ..secured.servers.config()
        };
        let admin = Admin::with_instance(oxmq_client::Instance::start(config).await.ok()?);
        let found = admin.topic_stats("orders").await;
        admin.shutdown().await;
        found.ok()
    })
    .await;
    assert!(sent >= 20);
    // New connections of clients that were there before.
    let again = secured.producer(Some(secured.client())).await;
    again.send(Message::new("orders", "after")).await.unwrap();
    again.shutdown().await;
    producer.shutdown().await;
}
