//! Messages that consumers get only if the order behind them was stored:
//! `cargo run -p oxmq-client --example transaction -- 127.0.0.1:9876`

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use oxmq_client::{
    LocalTransactionState, Message, MessageExt, PullConsumer, PullStatus, TransactionListener, TransactionProducer,
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

// docs: begin
/// The orders of a shop, kept where the shop keeps them.
#[derive(Default)]
struct Orders(Mutex<HashSet<String>>);

impl TransactionListener for Orders {
    /// What an order costs.
    type Argument = u32;

    async fn execute_local_transaction(&self, message: &Message, price: u32) -> LocalTransactionState {
        if price == 0 {
            return LocalTransactionState::RollbackMessage;
        }
        let mut orders = self.0.lock().expect("nobody panics with it");
        orders.extend(message.keys().map(str::to_owned));
        LocalTransactionState::CommitMessage
    }

    /// Asked when the answer above was lost, or came from a producer that is gone.
    async fn check_local_transaction(&self, message: &MessageExt) -> LocalTransactionState {
        let orders = self.0.lock().expect("nobody panics with it");
        match message.keys().any(|id| orders.contains(id)) {
            true => LocalTransactionState::CommitMessage,
            false => LocalTransactionState::RollbackMessage,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let shop = TransactionProducer::builder("shop", Orders::default());
    let shop = shop.name_server(&name_server).start().await?;
    for (id, price) in [("order-1", 30), ("order-2", 0), ("order-3", 12)] {
        let order = Message::new("Orders", format!("{id} for {price}")).with_keys(id);
        let sent = shop.send_message_in_transaction(order, price).await?;
        println!("{id}: {:?}", sent.local_transaction_state);
    }
    // docs: end
    let mut found = read(&name_server, 2).await?;
    found.sort();
    println!("stored: {found:?}");
    shop.shutdown().await;
    match found == ["order-1 for 30", "order-3 for 12"] {
        true => Ok(()),
        false => Err("other orders than those that were committed".into()),
    }
}

/// The bodies of the first messages of the topic. A commit takes effect a moment after it was sent.
async fn read(name_server: &str, count: usize) -> Result<Vec<String>, AnyError> {
    let consumer = PullConsumer::builder("order-readers")
        .name_server(name_server)
        .start()
        .await?;
    let mut found = Vec::new();
    for _ in 0..200 {
        found.clear();
        for queue in consumer.fetch_subscribe_message_queues("Orders").await? {
            let pulled = consumer.pull(&queue, "*", 0, 32).await?;
            if pulled.status == PullStatus::Found {
                let bodies = pulled
                    .messages
                    .iter()
                    .map(|message| String::from_utf8_lossy(&message.body).into_owned());
                found.extend(bodies);
            }
        }
        if found.len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    consumer.shutdown().await;
    Ok(found)
}
