//! Clients of a broker that knows its users.

use oxmq_client::{ConsumeStatus, Credentials, Message, Producer};

use crate::servers::{Inbox, Servers, eventually};

fn guarded() -> Servers {
    Servers::start_with(|broker| {
        broker.authentication_enabled = true;
        broker.authorization_enabled = true;
        broker.authentication_metadata_provider = "LocalAuthenticationMetadataProvider".into();
        broker.authorization_metadata_provider = "LocalAuthorizationMetadataProvider".into();
        broker.init_authentication_user = r#"{"username":"admin","password":"of all things"}"#.into();
    })
}

async fn producer(servers: &Servers, credentials: Option<Credentials>) -> Producer {
    let producer = Producer::builder("producers").name_server(servers.name_server());
    let producer = match credentials {
        Some(credentials) => producer.credentials(credentials),
        None => producer,
    };
    producer.start().await.unwrap()
}

#[tokio::test]
async fn messages_pass_between_those_who_sign() {
    let servers = guarded();
    let admin = Credentials::new("admin", "of all things");
    let sender = producer(&servers, Some(admin.clone())).await;
    eventually(async || sender.send(Message::new("orders", "first")).await.ok()).await;
    let inbox = Inbox::default();
    let consumer = servers
        .consumer("readers")
        .credentials(admin)
        .subscribe("orders", "*")
        .concurrent(inbox.listener(ConsumeStatus::Success))
        .start()
        .await
        .unwrap();
    inbox.wait_for_count(1).await;
    consumer.shutdown().await;
    for (credentials, why) in [
        (None, "username cannot be null."),
        (Some(Credentials::new("admin", "guessed")), "check signature failed."),
        (Some(Credentials::new("nobody", "guessed")), "User:nobody is not found."),
    ] {
        let stranger = producer(&servers, credentials).await;
        let refused = stranger.send(Message::new("orders", "second")).await.unwrap_err();
        let shown = refused.to_string();
        assert!(shown.contains(why), "{shown}");
        stranger.shutdown().await;
    }
    sender.shutdown().await;
}
