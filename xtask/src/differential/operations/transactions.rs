//! Transactions: half messages and their ends. No check comes within a run.

use oxmq_protocol::requests::{EndTransactionHeader, request};
use oxmq_protocol::sys_flag::{TRANSACTION_COMMIT, TRANSACTION_PREPARED, TRANSACTION_ROLLBACK};

use super::super::script::Step;
use super::sends::{plain, text};
use super::{Generator, Topic, create_topic};

const TOPIC: Topic = Topic::new("@transactional", 1, 1, 6);

/// A half message that is ended at once, or with others between, or never.
pub(super) fn half(generator: &mut Generator) {
    if generator.halves == 0 {
        generator.add(create_topic("topic-update", &TOPIC));
        generator.topics.push(TOPIC);
    }
    generator.halves += 1;
    let number = generator.next_serial();
    let properties = text(&[
        ("UNIQ_KEY", &format!("u{number}")),
        ("TRAN_MSG", "true"),
        ("PGROUP", "@producers"),
        ("TAGS", "eu"),
    ]);
    // Old half messages would be given up at the next check.
    let step = plain(TOPIC.name, &properties)
        .with("f", TRANSACTION_PREPARED)
        .with("g", "<now:0>");
    let mut step = step.text(format!("half {number}"));
    step.operation = "send-half".into();
    generator.add(step);
    if !generator.random.one_in(4) {
        let outcome = generator
            .random
            .pick(&[TRANSACTION_COMMIT, TRANSACTION_COMMIT, TRANSACTION_ROLLBACK]);
        generator.add(end("0", "0", outcome));
    }
}

/// Ends of what is no half message, or of another one than they say. None of them may end anything.
pub(super) fn end_bad(generator: &mut Generator) {
    let outcome = generator.random.pick(&[TRANSACTION_COMMIT, TRANSACTION_ROLLBACK]);
    let step = end("0", "0", outcome);
    let step = match generator.random.below(6) {
        0 => step.with("commitLogOffset", "999999999999"),
        1 => step.with("commitLogOffset", "-1"),
        2 => step.with("tranStateTableOffset", "999999999"),
        3 => step.with("producerGroup", "@others"),
        4 => step.with("commitLogOffset", "<phy:0>"),
        _ => step.with("commitOrRollback", "5"),
    };
    generator.add(step);
}

fn end(half: &str, queue: &str, commit_or_rollback: i32) -> Step {
    let header = EndTransactionHeader {
        producer_group: "@producers".into(),
        commit_or_rollback,
        msg_id: "u".into(),
        ..EndTransactionHeader::default()
    };
    let step = Step::new::<request::EndTransaction>("end-transaction", &header);
    step.with("commitLogOffset", format!("<half:{half}>"))
        .with("tranStateTableOffset", format!("<halfqueue:{queue}>"))
}
