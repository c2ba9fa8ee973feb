//! `oxmq explain` about messages that things have really happened to.

use std::time::{Duration, Instant};

use oxmq_admin::explain::group::Verdict;
use oxmq_admin::explain::{Answer, Durable, Question, State, gather, judge};
use oxmq_broker::{BrokerConfig, FlushDiskType};
use oxmq_client::{
    Admin, ClientError, ConsumeFromWhere, ConsumeStatus, InstanceConfig, LocalTransactionState, Message, MessageExt,
    MessageQueue, Producer, PushConsumer, SendResult, SimpleConsumer, SubscriptionGroupConfig, TopicConfig,
    TransactionListener, TransactionProducer,
};
use oxmq_protocol::message_id::UniqueIds;
use oxmq_protocol::properties::Properties;
use oxmq_protocol::requests::{ConsumerSendMsgBackHeader, SendMessageHeader, request as row};
use oxmq_tests::DEADLINE;

use crate::support::*;

const TOPIC: &str = "Explained";
const GROUP: &str = "explained-to";

struct Shop {
    system: System,
    producer: Producer,
    admin: Admin,
}

impl Shop {
    async fn open() -> Shop {
        let system = System::start_with(|config| {
            *config = BrokerConfig {
                trace_topic_enable: true,
                // Small writes wait for seconds to become durable otherwise.
                flush_disk_type: FlushDiskType::SyncFlush,
                recall_message_enable: true,
                max_hash_slot_num: 10_000,
                max_index_num: 40_000,
                ..config.clone()
            }
        });
        system.create_topic(TOPIC, 1);
        let config = InstanceConfig {
            name_server: system.namesrv.local_addr().to_string(),
            ..InstanceConfig::default()
        };
        let producer = Producer::builder("shops")
            .instance_config(config)
            .start()
            .await
            .unwrap();
        let admin = Admin::with_instance(producer.instance().clone());
        Shop {
            system,
            producer,
            admin,
        }
    }

    fn name_server(&self) -> String {
        self.system.namesrv.local_addr().to_string()
    }

    async fn send(&self, message: Message) -> SendResult {
        self.producer.send(message).await.unwrap()
    }

    /// Asks until the answer is as it should be.
    async fn answer(&self, question: Question, is_right: impl Fn(&Answer) -> bool) -> Answer {
        let started = Instant::now();
        loop {
            let now_ms = now_ms();
            let facts = gather(&self.admin, &question, now_ms).await.unwrap();
            let answer = judge(&facts);
            if is_right(&answer) {
                return answer;
            }
            assert!(started.elapsed() < DEADLINE, "{question:?}: {answer:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn state(&self, id: &str, state: State) -> Answer {
        self.answer(about(id), |answer| answer.state == state).await
    }

    /// The sentence about the one group.
    async fn verdict(&self, id: &str, verdict: Verdict) -> String {
        let has_it = |answer: &Answer| answer.groups.first().is_some_and(|group| group.verdict == verdict);
        let question = Question {
            group: Some(GROUP.into()),
            ..about(id)
        };
        let answer = self.answer(question, has_it).await;
        assert!(answer.headline.starts_with(GROUP), "{}", answer.headline);
        answer.groups[0].why.clone()
    }

    async fn create_group(&self) {
        let config = SubscriptionGroupConfig::new(GROUP);
        self.admin.create_group("DefaultCluster", &config).await.unwrap();
    }

    /// The group is at this offset, and nobody is online.
    async fn commit(&self, queue: &MessageQueue, offset: i64) {
        self.create_group().await;
        self.admin.reset_offset_by_queue(GROUP, queue, offset).await.unwrap();
    }

    async fn consumer<F, Fut>(&self, tags: &str, listener: F) -> PushConsumer
    where
        F: Fn(Vec<std::sync::Arc<MessageExt>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ConsumeStatus> + Send + 'static,
    {
        let consumer = PushConsumer::builder(GROUP).name_server(self.name_server());
        let consumer = consumer
            .consume_from_where(ConsumeFromWhere::FirstOffset)
            .subscribe(TOPIC, tags);
        consumer.concurrent(listener).start().await.unwrap()
    }

    /// As a client does for a message that it could not consume.
    async fn send_back(&self, sent: &SendResult, delay_level: i32) {
        self.create_group().await;
        let stored = self.admin.view_message_by_offset_id(&sent.offset_msg_id).await.unwrap();
        let header = ConsumerSendMsgBackHeader {
            offset: stored.physical_offset,
            group: GROUP.into(),
            delay_level,
            origin_msg_id: Some(sent.msg_id.clone()),
            origin_topic: Some(TOPIC.into()),
            ..ConsumerSendMsgBackHeader::default()
        };
        let answer = self
            .system
            .connect()
            .call(&command::<row::ConsumerSendMsgBack>(&header, b""));
        assert!(is_success(&answer), "{:?}", answer.header.remark);
    }
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_millis() as i64
}

fn about(id: &str) -> Question {
    Question {
        text: id.into(),
        ..Question::default()
    }
}

fn order() -> Message {
    Message::new(TOPIC, "an order").with_tags("eu").with_keys("order-17")
}

#[tokio::test]
async fn a_stored_message_is_found_by_id_key_and_place() {
    let shop = Shop::open().await;
    let sent = shop.send(order()).await;
    for text in [&sent.msg_id, &sent.offset_msg_id, "order-17"] {
        let on_disk = |answer: &Answer| answer.durable == Some(Durable::OnDisk) && answer.indexed == Some(true);
        let answer = shop.answer(about(text), on_disk).await;
        assert_eq!(answer.state, State::Stored);
        assert!(
            answer
                .headline
                .contains("in Explained@broker-a:0 at offset 0; no group consumes"),
            "{}",
            answer.headline
        );
        assert_eq!(
            (answer.duplicates, answer.not_asked.len()),
            (0, 0),
            "{:?}",
            answer.not_asked
        );
    }
    let nothing = shop.state("order-18", State::NotFound).await;
    assert!(nothing.headline.starts_with("not found: "), "{}", nothing.headline);
    let old = UniqueIds::new([127, 0, 0, 1].into(), 1, 2, 0).next(now_ms() - 5 * 86_400_000);
    let deleted = shop.state(&old, State::Deleted).await;
    assert!(
        deleted.headline.contains("its log file is gone"),
        "{}",
        deleted.headline
    );
}

#[tokio::test]
async fn a_message_that_was_sent_twice() {
    let shop = Shop::open().await;
    let mut properties = Properties::new();
    properties.set("UNIQ_KEY", "twice");
    for _ in 0..2 {
        let header = SendMessageHeader {
            producer_group: "raw".into(),
            topic: TOPIC.into(),
            properties: Some(properties.encoded_text()),
            ..SendMessageHeader::default()
        };
        assert!(is_success(
            &shop.system.connect().call(&command::<row::SendMessage>(&header, b"x"))
        ));
    }
    let answer = shop.answer(about("twice"), |answer| answer.duplicates == 1).await;
    assert_eq!(answer.sections[1].title, "copies");
    assert!(
        answer.sections[1].lines[0].starts_with("duplicate: Explained@broker-a:0 at offset 0"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn groups_that_nobody_belongs_to() {
    let shop = Shop::open().await;
    let sent = [shop.send(order()).await, shop.send(order()).await];
    shop.commit(&sent[1].queue, 0).await;
    let why = shop.verdict(&sent[1].msg_id, Verdict::NoMember).await;
    assert_eq!(why, "no member of the group is online; 1 other is before it");
    shop.commit(&sent[1].queue, 2).await;
    shop.verdict(&sent[1].msg_id, Verdict::Past).await;
}

#[tokio::test]
async fn groups_that_may_not() {
    let shop = Shop::open().await;
    let sent = shop.send(order()).await;
    shop.commit(&sent.queue, 0).await;
    let disabled = SubscriptionGroupConfig {
        consume_enable: false,
        ..SubscriptionGroupConfig::new(GROUP)
    };
    shop.admin.create_group("DefaultCluster", &disabled).await.unwrap();
    let why = shop.verdict(&sent.msg_id, Verdict::NoPermission).await;
    assert!(why.contains("consumeEnable=false"), "{why}");
    shop.create_group().await;
    let write_only = TopicConfig::new(TOPIC, 1, 2);
    shop.admin.create_topic("DefaultCluster", &write_only).await.unwrap();
    let why = shop.verdict(&sent.msg_id, Verdict::NoPermission).await;
    assert!(why.contains("the permission of Explained is -W-"), "{why}");
}

#[tokio::test]
async fn members_that_do_not_want_it_or_are_busy() {
    let shop = Shop::open().await;
    let sent = shop.send(order()).await;
    let consumer = shop.consumer("us", |_| async { ConsumeStatus::Success }).await;
    let why = shop.verdict(&sent.msg_id, Verdict::Filtered).await;
    assert!(
        why.contains("it has the tag \"eu\", the group subscribes to \"us\""),
        "{why}"
    );
    consumer.shutdown().await;

    let shop = Shop::open().await;
    let sent = shop.send(order()).await;
    let consumer = shop.consumer("eu", |_| std::future::pending()).await;
    let why = shop.verdict(&sent.msg_id, Verdict::InHand).await;
    assert!(why.contains("has it"), "{why}");
    drop(consumer);
}

#[tokio::test]
async fn a_message_that_is_consumed_in_vain() {
    let shop = Shop::open().await;
    let sent = shop.send(order()).await;
    shop.commit(&sent.queue, 1).await;
    shop.send_back(&sent, 18).await;
    let why = shop.verdict(&sent.msg_id, Verdict::Retrying).await;
    assert!(why.contains("consumed in vain 1 times; it comes again in"), "{why}");
    let again = shop.send(order()).await;
    shop.commit(&again.queue, 2).await;
    shop.send_back(&again, 1).await;
    let question = Question {
        group: Some(GROUP.into()),
        ..about(&again.msg_id)
    };
    let in_topic = |answer: &Answer| answer.groups[0].why.contains("is in %RETRY%explained-to@broker-a:0");
    let answer = shop.answer(question, in_topic).await;
    assert_eq!(answer.groups[0].verdict, Verdict::Retrying);
    shop.send_back(&again, -1).await;
    let why = shop.verdict(&again.msg_id, Verdict::DeadLetter).await;
    assert!(why.contains("it lies in %DLQ%explained-to@broker-a:0"), "{why}");
}

#[tokio::test]
async fn a_message_that_waits() {
    let shop = Shop::open().await;
    let level = shop.send(order().with_delay_level(18)).await;
    let answer = shop.state(&level.msg_id, State::Waiting).await;
    assert!(
        answer
            .headline
            .starts_with("waits for its delay level: it comes to Explained at"),
        "{}",
        answer.headline
    );
    let timer = shop.send(order().with_delay(Duration::from_secs(3600))).await;
    let answer = shop.state(&timer.msg_id, State::Waiting).await;
    assert!(
        answer
            .headline
            .starts_with("waits for its time: it comes to Explained at"),
        "{}",
        answer.headline
    );
    let handle = timer.recall_handle.as_deref().unwrap();
    shop.producer.recall_message(TOPIC, handle).await.unwrap();
    shop.state(&timer.msg_id, State::Recalled).await;
    let soon = shop.send(order().with_delay(Duration::from_millis(300))).await;
    shop.state(&soon.msg_id, State::Stored).await;
}

struct Undecided;

impl TransactionListener for Undecided {
    type Argument = LocalTransactionState;

    async fn execute_local_transaction(&self, _: &Message, state: LocalTransactionState) -> LocalTransactionState {
        state
    }

    async fn check_local_transaction(&self, _: &MessageExt) -> LocalTransactionState {
        LocalTransactionState::Unknow
    }
}

#[tokio::test]
async fn a_message_of_a_transaction() -> Result<(), ClientError> {
    use LocalTransactionState::{CommitMessage, RollbackMessage, Unknow};
    let shop = Shop::open().await;
    let producer = TransactionProducer::builder("deciders", Undecided);
    let producer = producer.name_server(shop.name_server()).start().await?;
    for (state, expected, says) in [
        (
            Unknow,
            State::TransactionPending,
            "the producer group deciders has not said",
        ),
        (RollbackMessage, State::TransactionRolledBack, "rolled back"),
        (CommitMessage, State::Stored, "no group consumes Explained"),
    ] {
        let sent = producer.send_message_in_transaction(order(), state).await.unwrap();
        let answer = shop.state(&sent.send_result.msg_id, expected).await;
        assert!(answer.headline.contains(says), "{}", answer.headline);
    }
    producer.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_popped() {
    let shop = Shop::open().await;
    let sent = shop.send(order()).await;
    let consumer = SimpleConsumer::builder(GROUP)
        .name_server(shop.name_server())
        .subscribe(TOPIC, "*");
    let consumer = consumer
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .start()
        .await
        .unwrap();
    let started = Instant::now();
    let got = loop {
        assert!(started.elapsed() < DEADLINE);
        if let Some(message) = consumer.receive(1, Duration::from_secs(60)).await.unwrap().pop() {
            break message;
        }
    };
    let why = shop.verdict(&sent.msg_id, Verdict::Invisible).await;
    assert!(why.contains("not acknowledged: invisible until"), "{why}");
    consumer.ack(&got).await.unwrap();
    shop.verdict(&sent.msg_id, Verdict::Past).await;
    consumer.shutdown().await;
}
