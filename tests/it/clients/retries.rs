//! Messages that cannot be consumed: again later, and at last to the dead letters.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// The first retry uses level 3.
const QUICK_LEVELS: &str = "1s 1s 1s 1s 1s 1s 1s 1s";

#[test]
fn a_failed_message_comes_again_and_ends_with_the_dead_letters() {
    let system = System::start_with(|config| config.message_delay_level = QUICK_LEVELS.into());
    block_on(async {
        let producer = producer(&system).await;
        for number in 0..10 {
            producer.send(numbered("Retry", number)).await.unwrap();
        }
        let attempts: Arc<[AtomicUsize; 10]> = Arc::default();
        let counted = Arc::clone(&attempts);
        let consumer = consumer(&system, "retry")
            .subscribe("Retry", "*")
            .max_reconsume_times(2)
            .concurrent(move |messages| {
                let mut status = ConsumeStatus::Success;
                for message in messages {
                    let number = number_of(&message);
                    let attempt = counted[number].fetch_add(1, Ordering::SeqCst);
                    assert_eq!(message.topic, "Retry", "the original topic is shown");
                    // 0 to 3: fine at once; 4 to 6: at the second attempt; 7 to 9: never.
                    if number >= 7 || (number >= 4 && attempt == 0) {
                        status = ConsumeStatus::ReconsumeLater;
                    }
                }
                std::future::ready(status)
            })
            .start()
            .await
            .unwrap();
        let counts = || {
            attempts
                .iter()
                .map(|count| count.load(Ordering::SeqCst))
                .collect::<Vec<_>>()
        };
        let expected = [1, 1, 1, 1, 2, 2, 2, 3, 3, 3];
        wait_until("all attempts", || counts() == expected).await;

        let dead = Received::default();
        let dead_letters = consumer_of_dead_letters(&system, &dead).await;
        wait_until("the dead letters", || dead.len() >= 3).await;
        assert_eq!(dead.sorted(), [7, 8, 9]);
        assert_eq!(counts(), expected);
        consumer.shutdown().await;
        dead_letters.shutdown().await;
    });
    system.assert_serves("Retry");
}

/// The topic of dead letters can be written only until somebody makes it readable, as an operator would.
async fn consumer_of_dead_letters(system: &System, received: &Received) -> PushConsumer {
    wait_until("the topic of dead letters", || {
        system.broker().broker().topics.get("%DLQ%retry").is_some()
    })
    .await;
    system.create_topic("%DLQ%retry", 1);
    consumer(system, "dead-letter-readers")
        .subscribe("%DLQ%retry", "*")
        .concurrent(received.listener())
        .start()
        .await
        .unwrap()
}

#[test]
fn a_delayed_message_arrives_when_its_time_has_come() {
    let system = System::start_with(|config| config.message_delay_level = QUICK_LEVELS.into());
    block_on(async {
        let producer = producer(&system).await;
        let received = Received::default();
        let _consumer = consumer(&system, "delay")
            .subscribe("Delay", "*")
            .concurrent(received.listener())
            .start()
            .await
            .unwrap();
        producer.send(numbered("Delay", 0)).await.unwrap();
        wait_until("the first", || received.len() == 1).await;
        let sent = Instant::now();
        producer.send(numbered("Delay", 1).with_delay_level(1)).await.unwrap();
        wait_until("both", || received.len() >= 2).await;
        assert_eq!(received.numbers(), [0, 1]);
        assert!(sent.elapsed() >= Duration::from_millis(950), "{:?}", sent.elapsed());
    });
}
