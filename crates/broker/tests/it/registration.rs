//! What name servers hear of a broker.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxmq_protocol::body::{KvTable, RegisterBrokerBody};
use oxmq_protocol::version::CURRENT_VERSION;
use oxmq_protocol::{RemotingCommand, RequestCode, json};
use oxmq_remoting::{CommandHandler, Connection, Outcome, ServerConfig, ServerHandle, serve_commands};
use parking_lot::Mutex;

use crate::harness::*;

/// Remembers what it is told, and says that the topic `ordered` is ordered.
#[derive(Default)]
struct NameServer {
    heard: Mutex<Vec<(RequestCode, RemotingCommand)>>,
}

struct Listening(Arc<NameServer>);

impl CommandHandler for Listening {
    fn handle(&self, _: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome {
        let order = KvTable {
            table: [("ordered".to_owned(), "broker-a:1".to_owned())].into(),
        };
        let reply = RemotingCommand::response(command.header.opaque, 0, None).with_body(json::to_vec(&order));
        self.0.heard.lock().push((code, command));
        Outcome::Reply(reply)
    }
}

impl NameServer {
    fn start() -> (Arc<NameServer>, ServerHandle) {
        let name_server = Arc::new(NameServer::default());
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let handle = serve_commands(
            ServerConfig::new("namesrv", listen),
            Arc::new(Listening(Arc::clone(&name_server))),
        );
        (name_server, handle.unwrap())
    }

    /// Waits until so many requests have come and returns the last.
    fn heard(&self, count: usize) -> (RequestCode, RemotingCommand) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let heard = self.heard.lock();
            if heard.len() >= count {
                return heard[count - 1].clone();
            }
            drop(heard);
            assert!(Instant::now() < deadline, "nothing more was heard");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn topics(command: &RemotingCommand) -> Vec<String> {
    let body = RegisterBrokerBody::decode(&command.body, CURRENT_VERSION).unwrap();
    let table = body.topic_config_serialize_wrapper.topic_config_table;
    table.into_keys().collect()
}

#[tokio::test]
async fn name_servers_hear_of_everything_then_of_changes_then_of_the_end() {
    for compressed in [false, true] {
        let (name_server, server) = NameServer::start();
        // Nobody listens on the first one.
        let addrs = format!("127.0.0.1:1;{}", server.local_addrs()[0]);
        let mut broker = Node::start_with(|config| {
            config.namesrv_addr = Some(addrs);
            config.compressed_register = compressed;
        });
        let (code, all) = name_server.heard(1);
        assert_eq!(code, RequestCode::RegisterBroker);
        assert!(topics(&all).contains(&"TBW102".to_owned()));
        let fields = &all.header.ext_fields;
        assert_eq!(fields.get("brokerAddr"), Some(&*broker.addr().to_string()));
        assert_eq!(fields.get("brokerName"), Some("broker-a"));

        let client = broker.client();
        client.create_topic("ordered", 1, false).await;
        let (code, change) = name_server.heard(2);
        assert_eq!(
            (code, topics(&change)),
            (RequestCode::RegisterBroker, vec!["ordered".into()])
        );
        // The answer said that this topic is ordered, which is a change again.
        let (_, change) = name_server.heard(3);
        assert_eq!(topics(&change), ["ordered"]);
        assert!(broker.broker().topics.is_order_topic("ordered"));

        let started = Instant::now();
        broker.stop();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(name_server.heard(4).0, RequestCode::UnregisterBroker);
        server.shutdown(Duration::from_secs(1));
    }
}
