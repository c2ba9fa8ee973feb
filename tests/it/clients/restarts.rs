//! What survives when one side goes and comes back.

use super::*;

#[test]
fn producers_and_consumers_go_on_after_the_broker_has_restarted() {
    let mut system = System::start();
    system.create_topic("Restart", 4);
    block_on(async {
        let producer = producer(&system).await;
        let received = Received::default();
        let consumer = consumer(&system, "restart")
            .subscribe("Restart", "*")
            .concurrent(received.listener())
            .start()
            .await
            .unwrap();
        let mut number = 0;
        for _ in 0..3 {
            for _ in 0..100 {
                producer.send(numbered("Restart", number)).await.unwrap();
                number += 1;
            }
            system.stop_broker();
            system.start_broker();
            // The producer may have to find out first that its connection is gone.
            let started = Instant::now();
            while producer.send(numbered("Restart", number)).await.is_err() {
                assert!(started.elapsed() < DEADLINE);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            number += 1;
        }
        let distinct = || {
            let mut numbers = received.sorted();
            numbers.dedup();
            numbers
        };
        wait_until("all messages", || distinct().len() == number).await;
        assert_eq!(distinct(), (0..number).collect::<Vec<_>>());
        consumer.shutdown().await;
    });
    system.assert_serves("Restart");
}

#[test]
fn offsets_are_kept_over_restarts_of_consumer_and_broker() {
    let mut system = System::start();
    system.create_topic("Offsets", 4);
    block_on(async {
        for round in 0..3 {
            let producer = producer(&system).await;
            for number in round * 100..(round + 1) * 100 {
                producer.send(numbered("Offsets", number)).await.unwrap();
            }
            let received = Received::default();
            let consumer = consumer(&system, "offsets")
                .subscribe("Offsets", "*")
                .concurrent(received.listener())
                .start()
                .await
                .unwrap();
            wait_until("the new messages", || received.len() >= 100).await;
            // Commits what was consumed.
            consumer.shutdown().await;
            assert_eq!(received.sorted(), (round * 100..(round + 1) * 100).collect::<Vec<_>>());
            producer.shutdown().await;
            system.stop_broker();
            system.start_broker();
        }
    });
}

#[test]
fn consumers_share_the_queues_and_take_over_from_each_other() {
    let system = System::start();
    system.create_topic("Share", 4);
    block_on(async {
        let producer = producer(&system).await;
        let received = [Received::default(), Received::default()];
        let member = |index: usize| {
            consumer(&system, "share")
                .subscribe("Share", "*")
                .concurrent(received[index].listener())
                .start()
        };
        let first = member(0).await.unwrap();
        let second = member(1).await.unwrap();
        let mut number = 0;
        let started = Instant::now();
        // Until the group has settled, so that each has two of the four queues.
        loop {
            let before = [received[0].len(), received[1].len()];
            for _ in 0..40 {
                producer.send(numbered("Share", number)).await.unwrap();
                number += 1;
            }
            let total = || received[0].len() + received[1].len();
            wait_until("the messages so far", || total() >= number).await;
            if received[0].len() == before[0] + 20 && received[1].len() == before[1] + 20 {
                break;
            }
            assert!(started.elapsed() < 2 * DEADLINE, "the queues are not shared");
        }
        first.shutdown().await;
        let before = received[1].len();
        for _ in 0..40 {
            producer.send(numbered("Share", number)).await.unwrap();
            number += 1;
        }
        wait_until("the second takes over", || received[1].len() >= before + 40).await;
        let mut numbers = [received[0].numbers(), received[1].numbers()].concat();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (0..number).collect::<Vec<_>>());
        second.shutdown().await;
    });
}
