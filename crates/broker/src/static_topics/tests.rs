//! A logical queue whose physical queues move between brokers while it is written, read and trimmed. Whatever happens:
//!
//! - a reader that follows the answers to its pulls sees every message that is still there once, in the order of the
//!   logical offsets, and those are the offsets that producers were told;
//! - it comes to the end after a bounded number of pulls;
//! - a commit of a logical offset is read back as the same offset;
//! - what a broker takes over never changes the place of an item.

use oxmq_protocol::body::{LogicQueueMappingItem, TopicQueueMappingDetail};
use oxmq_protocol::response_code as code;
use proptest::prelude::*;

use super::update::updated;
use super::*;

const BLOCK: i64 = 100;

fn item(generation: i32, queue_id: i32, bname: &str, logic_offset: i64) -> LogicQueueMappingItem {
    LogicQueueMappingItem {
        generation,
        queue_id,
        bname: bname.into(),
        logic_offset,
        ..LogicQueueMappingItem::default()
    }
}

fn detail(bname: &str, epoch: i64, items: &[LogicQueueMappingItem]) -> TopicQueueMappingDetail {
    TopicQueueMappingDetail {
        bname: bname.into(),
        epoch,
        hosted_queues: BTreeMap::from([(0, items.to_vec())]),
        topic: "t".into(),
        total_queues: 1,
        ..TopicQueueMappingDetail::default()
    }
}

/// One physical queue; what is below `min` is gone.
#[derive(Debug, Default)]
struct Physical {
    messages: Vec<u32>,
    min: usize,
}

#[derive(Debug)]
struct World {
    items: Vec<LogicQueueMappingItem>,
    /// By generation.
    queues: Vec<Physical>,
    /// What producers were told, by logical offset; `None` while the item had no place.
    told: Vec<(u32, i64)>,
    brokers: BTreeMap<String, TopicQueueMappingDetail>,
    epoch: i64,
    next: u32,
}

#[derive(Debug, Clone)]
enum Step {
    Send,
    /// The queue moves to this broker; so many messages are sent before the new item gets its place.
    Move(usize, usize),
    Trim(usize, usize),
    /// The oldest item is dropped if it is empty.
    DropFirst,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Send),
        2 => (0..3_usize, 0..3_usize).prop_map(|(broker, sends)| Step::Move(broker, sends)),
        1 => (0..5_usize, 0..4_usize).prop_map(|(queue, count)| Step::Trim(queue, count)),
        1 => Just(Step::DropFirst),
    ];
    prop::collection::vec(step, 0..60)
}

impl World {
    fn new() -> World {
        let items = vec![item(0, 0, "b0", 0)];
        let mut world = World {
            queues: vec![Physical::default()],
            told: Vec::new(),
            brokers: BTreeMap::new(),
            epoch: 1,
            next: 0,
            items,
        };
        world.tell_all();
        world
    }

    /// Every broker takes the mapping as the tool sends it.
    fn tell_all(&mut self) {
        for bname in ["b0", "b1", "b2"] {
            let known = self.brokers.get(bname);
            let taken = updated(known, detail(bname, self.epoch, &self.items), false).unwrap();
            for (before, after) in known
                .into_iter()
                .flat_map(|known| &known.hosted_queues[&0])
                .flat_map(|before| {
                    let same = |after: &&LogicQueueMappingItem| after.generation == before.generation;
                    Some((before, taken.hosted_queues[&0].iter().find(same)?))
                })
            {
                assert!(before.logic_offset < 0 || before.logic_offset == after.logic_offset);
                assert_eq!((before.queue_id, &before.bname), (after.queue_id, &after.bname));
            }
            self.brokers.insert(bname.to_owned(), taken);
        }
    }

    fn leader(&self) -> &TopicQueueMappingDetail {
        &self.brokers[&self.items.last().unwrap().bname]
    }

    fn send(&mut self) {
        let mapped = MappedSend::new(self.leader(), 0).unwrap();
        let generation = self.items.last().unwrap().generation as usize;
        assert_eq!((mapped.logic_queue_id, mapped.queue_id()), (0, generation as i32));
        let messages = &mut self.queues[generation].messages;
        let logic = mapped.logic_offset(messages.len() as i64);
        messages.push(self.next);
        assert_eq!(logic >= 0, self.items.last().unwrap().is_placed());
        if logic >= 0 {
            self.told.push((self.next, logic));
        }
        self.next += 1;
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Send => self.send(),
            Step::Move(broker, sends) => {
                let generation = self.queues.len() as i32;
                self.queues.push(Physical::default());
                self.items.push(item(generation, generation, &format!("b{broker}"), -1));
                self.epoch += 1;
                self.tell_all();
                for _ in 0..*sends {
                    self.send();
                }
                let old = &self.items[self.items.len() - 2];
                let end = old.to_logic(self.queues[old.generation as usize].messages.len() as i64);
                self.items.last_mut().unwrap().logic_offset = (end / BLOCK + 1) * BLOCK;
                self.tell_all();
            }
            Step::Trim(queue, count) => {
                if let Some(queue) = self.queues.get_mut(*queue) {
                    queue.min = (queue.min + count).min(queue.messages.len());
                }
            }
            Step::DropFirst => {
                let first = &self.queues[self.items[0].generation as usize];
                if self.items.len() > 1 && first.min == first.messages.len() {
                    self.items.remove(0);
                    self.epoch += 1;
                    self.tell_all();
                }
            }
        }
    }

    /// A pull from a physical queue, answered as a store does.
    fn pull(&self, queue: usize, from: i64, count: usize) -> (Answer, &[u32]) {
        let Physical { messages, min } = &self.queues[queue];
        let (min, max) = (*min as i64, messages.len() as i64);
        let (code, next_begin_offset, found) = match from {
            _ if max == 0 && from != 0 => (code::PULL_OFFSET_MOVED, 0, &messages[..0]),
            _ if from < min => (code::PULL_OFFSET_MOVED, min, &messages[..0]),
            _ if from == max => (code::PULL_NOT_FOUND, from, &messages[..0]),
            _ if from > max => (code::PULL_OFFSET_MOVED, max, &messages[..0]),
            _ => {
                let end = (from as usize + count).min(messages.len());
                (code::SUCCESS, end as i64, &messages[from as usize..end])
            }
        };
        let answer = Answer {
            code,
            next_begin_offset,
            min_offset: min,
            max_offset: max,
        };
        (answer, found)
    }

    /// Follows the answers from the begin until there is nothing more to read.
    fn read_all(&self, count: usize) -> Vec<(u32, i64)> {
        let (mut offset, mut seen) = (0, Vec::new());
        for _ in 0..4 * (self.next as usize + self.items.len() + 1) {
            let mapped = MappedPull::new(self.leader(), 0, offset).unwrap();
            let (answer, messages) = self.pull(mapped.queue_id() as usize, mapped.queue_offset, count);
            for (at, message) in messages.iter().enumerate() {
                seen.push((*message, mapped.queue_offset + at as i64 + mapped.offset_delta()));
            }
            let answer = mapped.rewrite(answer);
            match answer.code {
                code::SUCCESS | code::PULL_RETRY_IMMEDIATELY | code::PULL_OFFSET_MOVED => {
                    assert_ne!(answer.next_begin_offset, offset, "no progress at {mapped:?}");
                    offset = answer.next_begin_offset;
                }
                _ => return seen,
            }
        }
        panic!("no end of reading: {self:?}");
    }

    fn remaining(&self) -> Vec<u32> {
        let queues = self.items.iter().map(|item| &self.queues[item.generation as usize]);
        queues
            .flat_map(|queue| queue.messages[queue.min..].iter().copied())
            .collect()
    }
}

proptest! {
    #[test]
    fn readers_see_everything_once_and_in_order(steps in steps(), count in 1..5_usize) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
            let seen = world.read_all(count);
            let messages: Vec<u32> = seen.iter().map(|(message, _)| *message).collect();
            prop_assert_eq!(&messages, &world.remaining());
            prop_assert!(seen.is_sorted_by(|a, b| a.1 < b.1), "{:?}", seen);
            for (message, logic) in &seen {
                let mapped = MappedPull::new(world.leader(), 0, *logic).unwrap();
                let item = LogicQueue::led_here(world.leader(), 0).unwrap().holding(*logic).unwrap();
                let physical = mapped.physical(*logic).unwrap();
                prop_assert_eq!(world.queues[mapped.queue_id() as usize].messages[physical as usize], *message);
                prop_assert_eq!(item.to_logic(physical), *logic);
            }
            for told in &world.told {
                if let Some(read) = seen.iter().find(|(message, _)| *message == told.0) {
                    prop_assert_eq!(read, told);
                }
            }
        }
    }

    #[test]
    fn no_mapping_breaks_the_arithmetic(
        items in prop::collection::vec(
            (any::<i64>(), any::<i64>(), any::<i64>(), any::<i32>(), 0..3_i32, 0..2_usize), 0..4,
        ),
        offset in any::<i64>(),
        offsets in any::<[i64; 3]>(),
        code in prop::sample::select(vec![code::SUCCESS, code::PULL_NOT_FOUND, code::PULL_OFFSET_MOVED]),
    ) {
        let items: Vec<_> = items
            .into_iter()
            .map(|(logic_offset, start_offset, end_offset, generation, queue_id, broker)| LogicQueueMappingItem {
                bname: format!("b{broker}"),
                end_offset,
                generation,
                logic_offset,
                queue_id,
                start_offset,
                ..LogicQueueMappingItem::default()
            })
            .collect();
        let detail = detail("b0", 1, &items);
        let _ = updated(Some(&detail), detail.clone(), false);
        if let Ok(mapped) = MappedSend::new(&detail, -1) {
            let _ = mapped.logic_offset(offset);
        }
        if let Ok(mapped) = MappedPull::new(&detail, 0, offset) {
            let [next_begin_offset, min_offset, max_offset] = offsets;
            let _ = (mapped.count_max(32), mapped.offset_delta(), mapped.physical(offset));
            let _ = mapped.rewrite(Answer { code, next_begin_offset, min_offset, max_offset });
        }
    }
}

#[test]
fn mappings_that_would_move_messages_are_refused() {
    let placed = [item(0, 0, "b0", 0), item(1, 0, "b1", 100)];
    let old = detail("b0", 5, &placed);
    let refused = |new: TopicQueueMappingDetail, force| updated(Some(&old), new, force).unwrap_err().to_string();
    assert_eq!(
        refused(detail("b0", 4, &placed), false),
        "Can't accept data with small epoch 4 < 5"
    );
    let scope = TopicQueueMappingDetail {
        scope: "other".into(),
        ..detail("b0", 6, &placed)
    };
    assert_eq!(
        refused(scope, false),
        "Can't accept data with unmatched scope other != __global__"
    );
    let none = TopicQueueMappingDetail {
        hosted_queues: BTreeMap::new(),
        ..detail("b0", 5, &[])
    };
    assert_eq!(refused(none.clone(), false), "Cannot accept equal epoch with null data");
    assert_eq!(
        refused(detail("b0", 6, &[]), false),
        "The new item list is null or empty"
    );
    let longer = [placed[0].clone(), placed[1].clone(), item(2, 1, "b0", 200)];
    assert_eq!(
        refused(detail("b0", 5, &longer), false),
        "The new leader is different but epoch equal"
    );
    let moved = [placed[0].clone(), item(1, 0, "b1", 50)];
    assert_eq!(
        refused(detail("b0", 6, &moved), false),
        "The item of gen 1 is another than before"
    );
    for (items, reason) in [
        (
            vec![item(0, -1, "b0", 0)],
            "The field is illegal, should not be negative",
        ),
        (
            vec![item(0, 0, "b0", -1), item(1, 0, "b0", 5)],
            "The non-latest item has negative logic offset",
        ),
        (
            vec![item(1, 0, "b0", 0), item(1, 0, "b0", 5)],
            "The gen does not increase monotonically",
        ),
        (
            vec![item(0, 0, "b0", 5), item(1, 0, "b0", 5)],
            "The base logic offset does not increase monotonically",
        ),
    ] {
        assert_eq!(refused(detail("b0", 9, &items), true), reason, "even by force");
    }
    assert_eq!(
        updated(Some(&old), none, true).unwrap().hosted_queues,
        old.hosted_queues
    );
    let later = detail("b0", 6, &longer);
    assert_eq!(updated(Some(&old), later.clone(), false), Ok(later));
}

#[test]
fn mappings_survive_a_restart_in_the_form_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{"dataVersion":{"counter":2,"stateVersion":0,"timestamp":1757000000000},"topicQueueMappingInfoMap":{
        "StaticT":{"bname":"broker-a","currIdMap":{},"dirty":false,"epoch":1757000000000,"hostedQueues":{0:[{
        "bname":"broker-a","endOffset":-1,"gen":0,"logicOffset":0,"queueId":3,"startOffset":0,"timeOfEnd":-1,
        "timeOfStart":-1}]},"scope":"__global__","topic":"StaticT","totalQueues":4}}}"#;
    std::fs::write(folder.path().join("topicQueueMapping.json"), text).unwrap();
    let open = || StaticTopics::open(ConfigFile::in_folder(folder.path(), "topicQueueMapping.json")).unwrap();
    let topics = open();
    let info = topics.infos(["StaticT", "other"].into_iter());
    assert_eq!(info["StaticT"].curr_id_map, BTreeMap::from([(0, 3)]));
    assert_eq!((info.len(), info["StaticT"].total_queues), (1, 4));
    topics
        .update(detail("b0", 1, &[item(0, 0, "b0", 0)]), false, 7)
        .unwrap();
    topics.persist().unwrap();
    let topics = open();
    let (version, table) = topics.snapshot();
    assert_eq!((version.counter, version.timestamp), (3, 7));
    assert_eq!(table.keys().collect::<Vec<_>>(), ["StaticT", "t"]);
    topics.delete("StaticT", 8);
    topics.delete("StaticT", 9);
    assert_eq!(topics.snapshot().0.counter, 4);
    assert!(topics.get("StaticT").is_none() && topics.get("t").is_some());
}
