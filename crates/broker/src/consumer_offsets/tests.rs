//! Commits, resets and crashes against plain maps.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn offsets(folder: &Path) -> ConsumerOffsets {
    ConsumerOffsets::open(&|name| ConfigFile::in_folder(folder, name), false, 500).unwrap()
}

#[test]
fn a_group_of_light_queues_has_one_offset_in_a_table_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let open = || ConsumerOffsets::open(&|name| ConfigFile::in_folder(folder.path(), name), true, 500).unwrap();
    let before = open();
    before.commit("%LMQ%g", "%LMQ%q", 3, 5, 1);
    before.commit("g", "%LMQ%q", 3, 7, 1);
    before.persist(|| Ok(())).unwrap();
    let after = open();
    for queue_id in [0, 1, 3] {
        assert_eq!(after.query("%LMQ%g", "%LMQ%q", queue_id), Some(5));
    }
    assert_eq!(
        (after.query("g", "%LMQ%q", 0), after.query("g", "%LMQ%q", 3)),
        (None, Some(7))
    );
    let body: ConsumerOffsetSerializeWrapper = json::from_slice(&after.to_body()).unwrap();
    assert_eq!(body.lmq_offset_table, BTreeMap::from([("%LMQ%q@%LMQ%g".to_owned(), 5)]));
    assert_eq!(body.group_topic_map.keys().collect::<Vec<_>>(), ["g"]);
}

#[test]
fn commits_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let before = offsets(folder.path());
    before.commit("g1", "orders", 0, 120, 1);
    before.commit("g1", "orders", 1, 98, 1);
    before.commit("g1@broadcast", "orders", 0, 5, 1);
    before.commit_pull("g1", "orders", 0, 130);
    before.persist(|| Ok(())).unwrap();
    let after = offsets(folder.path());
    assert_eq!(after.query("g1", "orders", 0), Some(120));
    assert_eq!(after.query("g1", "orders", 1), Some(98));
    assert_eq!(after.query("g1@broadcast", "orders", 0), Some(5));
    assert_eq!(after.pulled("g1", "orders", 0), None);
    assert_eq!(after.query("g1", "orders", 2), None);
}

#[test]
fn the_file_of_a_java_broker_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\n\t\"dataVersion\":{\n\t\t\"counter\":2,\n\t\t\"stateVersion\":0,\n\t\t\"timestamp\":1757000000456\n\t},\n\t\
        \"groupTopicMap\":{\n\t\t\"group_a\":[\"OrderTopic\",\"%RETRY%group_a\"]\n\t},\n\t\"offsetTable\":{\n\t\t\
        \"OrderTopic@group_a\":{0:120,1:118\n\t\t},\n\t\t\"%RETRY%group_a@group_a\":{0:3\n\t\t}\n\t}\n}";
    std::fs::write(folder.path().join("consumerOffset.json"), text).unwrap();
    let read = offsets(folder.path());
    assert_eq!(read.query("group_a", "OrderTopic", 1), Some(118));
    assert_eq!(read.query("group_a", "%RETRY%group_a", 0), Some(3));
    let mut topics = read.topics_of("group_a");
    topics.sort();
    assert_eq!(topics, ["%RETRY%group_a", "OrderTopic"]);
    assert_eq!(read.groups_of("OrderTopic"), ["group_a"]);
}

#[test]
fn a_reset_is_handed_out_once() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = offsets(folder.path());
    offsets.commit("g", "t", 0, 50, 1);
    assert_eq!(offsets.take_reset("g", "t", 0), None);
    offsets.reset("g", "t", 0, 7, 2);
    assert_eq!(offsets.query("g", "t", 0), Some(7));
    assert_eq!(offsets.pending_reset("g", "t", 0), Some(7));
    assert_eq!(offsets.take_reset("g", "t", 0), Some(7));
    assert_eq!(offsets.take_reset("g", "t", 0), None);
    assert_eq!(offsets.committed("g", "t", 0), Some(7));
}

#[test]
fn a_new_group_starts_at_zero_only_on_a_small_new_topic() {
    assert_eq!(offset_of_a_new_group(None, 0, true), Some(0));
    assert_eq!(offset_of_a_new_group(Some(true), -1, true), Some(0));
    assert_eq!(offset_of_a_new_group(Some(false), 0, true), None);
    assert_eq!(offset_of_a_new_group(None, 1, true), None);
    assert_eq!(offset_of_a_new_group(None, 0, false), None);
}

#[test]
fn groups_are_cloned_and_topics_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = offsets(folder.path());
    offsets.commit("a", "t", 0, 1, 1);
    offsets.commit("a", "u", 3, 9, 1);
    offsets.commit("b", "t", 1, 5, 1);
    offsets.clone_group("a", "b", "t");
    assert_eq!(
        (offsets.topics_of("b"), offsets.query("b", "t", 0)),
        (vec!["t".to_owned()], Some(1))
    );
    assert_eq!(offsets.query("b", "t", 1), None, "what the group had there is replaced");
    offsets.clone_group("none", "b", "t");
    assert_eq!(offsets.query("b", "t", 0), Some(1));
    offsets.clone_group("a", "c", "t");
    offsets.clone_group("a", "c", "u");
    assert_eq!(offsets.query("c", "u", 3), Some(9));
    offsets.remove_topic("u");
    assert_eq!(offsets.query("c", "u", 3), None);
    assert_eq!(offsets.query("c", "t", 0), Some(1));
    offsets.remove_group("c");
    assert_eq!(offsets.query("c", "t", 0), None);
}

#[test]
fn correction_finds_the_slowest_group() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = offsets(folder.path());
    for (group, first, second) in [("fast", 90, 10), ("slow", 40, 80), ("gone", 1, 1)] {
        offsets.commit(group, "t", 0, first, 1);
        offsets.commit(group, "t", 1, second, 1);
    }
    let corrected = offsets.correction("t", "fast", &["gone"], |_| 0);
    assert_eq!(corrected, BTreeMap::from([(0, 40), (1, 10)]));
    assert_eq!(offsets.query("gone", "t", 0), None);
    let corrected = offsets.correction("t", "slow", &["fast"], |_| 0);
    assert_eq!(corrected, BTreeMap::from([(0, 40), (1, 80)]));
}

#[test]
fn the_version_moves_every_few_commits() {
    let folder = tempfile::tempdir().unwrap();
    let offsets = offsets(folder.path());
    for commit in 0..1001 {
        offsets.commit("g", "t", 0, commit, 77);
    }
    assert_eq!(offsets.version.lock().counter, 2);
    assert_eq!(offsets.version.lock().timestamp, 77);
}

const GROUPS: [&str; 3] = ["g", "h", "g@broadcast"];
const TOPICS: [&str; 2] = ["t", "%RETRY%g"];

/// Group, topic, queue id.
type Place = (usize, usize, i32);

#[derive(Debug, Clone)]
enum Step {
    Commit(Place, i64),
    CommitPull(Place, i64),
    Reset(Place, i64),
    /// A pull, which takes a reset that waits.
    Pull(Place),
    Clone {
        from: usize,
        to: usize,
        topic: usize,
    },
    RemoveTopic(usize),
    RemoveGroup(usize),
    Persist,
    /// The broker is killed and starts again.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..3usize, 0..2usize, 0..3i32);
    let offset = || prop_oneof![-2..40i64, Just(i64::MAX), Just(i64::MIN)];
    let step = prop_oneof![
        8 => (place(), offset()).prop_map(|(place, offset)| Step::Commit(place, offset)),
        1 => (place(), offset()).prop_map(|(place, offset)| Step::CommitPull(place, offset)),
        3 => (place(), offset()).prop_map(|(place, offset)| Step::Reset(place, offset)),
        4 => place().prop_map(Step::Pull),
        1 => (0..3usize, 0..3usize, 0..2usize)
            .prop_map(|(from, to, topic)| Step::Clone { from, to, topic }),
        1 => (0..2usize).prop_map(Step::RemoveTopic),
        1 => (0..3usize).prop_map(Step::RemoveGroup),
        2 => Just(Step::Persist),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What the tables should say.
#[derive(Debug, Default, Clone)]
struct Model {
    committed: BTreeMap<Place, i64>,
    pulled: BTreeMap<Place, i64>,
    reset: BTreeMap<Place, i64>,
}

impl Model {
    fn retain(&mut self, keep: impl Fn(&Place) -> bool) {
        for table in [&mut self.committed, &mut self.pulled, &mut self.reset] {
            table.retain(|place, _| keep(place));
        }
    }
}

fn check(live: &ConsumerOffsets, model: &Model) -> Result<(), TestCaseError> {
    for (group, group_name) in GROUPS.iter().enumerate() {
        for (topic, topic_name) in TOPICS.iter().enumerate() {
            for queue_id in 0..3 {
                let place = (group, topic, queue_id);
                let expected = |table: &BTreeMap<Place, i64>| table.get(&place).copied();
                let (committed, reset) = (expected(&model.committed), expected(&model.reset));
                prop_assert_eq!(live.committed(group_name, topic_name, queue_id), committed);
                prop_assert_eq!(live.pending_reset(group_name, topic_name, queue_id), reset);
                prop_assert_eq!(live.query(group_name, topic_name, queue_id), reset.or(committed));
                prop_assert_eq!(live.pulled(group_name, topic_name, queue_id), expected(&model.pulled));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against plain maps, with brokers that are killed and start from the file that was written last.
    #[test]
    fn the_invariants_hold_through_resets_and_crashes(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut live = offsets(folder.path());
        let (mut model, mut durable) = (Model::default(), Model::default());
        for step in steps {
            match step {
                Step::Commit(place @ (group, topic, queue_id), offset) => {
                    let counts = live.commit_of_client(GROUPS[group], TOPICS[topic], queue_id, offset, 1);
                    prop_assert_eq!(counts, !model.reset.contains_key(&place));
                    if counts {
                        model.committed.insert(place, offset);
                    }
                }
                Step::CommitPull(place @ (group, topic, queue_id), offset) => {
                    live.commit_pull(GROUPS[group], TOPICS[topic], queue_id, offset);
                    model.pulled.insert(place, offset);
                }
                Step::Reset(place @ (group, topic, queue_id), offset) => {
                    live.reset(GROUPS[group], TOPICS[topic], queue_id, offset, 1);
                    model.committed.insert(place, offset);
                    model.reset.insert(place, offset);
                }
                Step::Pull(place @ (group, topic, queue_id)) => {
                    let taken = live.take_reset(GROUPS[group], TOPICS[topic], queue_id);
                    prop_assert_eq!(taken, model.reset.remove(&place), "handed out once");
                }
                Step::Clone { from, to, topic } => {
                    live.clone_group(GROUPS[from], GROUPS[to], TOPICS[topic]);
                    let mut offsets = model.committed.clone();
                    offsets.retain(|(of, of_topic, _), _| *of == from && *of_topic == topic);
                    if !offsets.is_empty() {
                        model.committed.retain(|(of, of_topic, _), _| *of != to || *of_topic != topic);
                    }
                    for ((_, _, queue_id), offset) in offsets {
                        model.committed.insert((to, topic, queue_id), offset);
                    }
                }
                Step::RemoveTopic(topic) => {
                    live.remove_topic(TOPICS[topic]);
                    model.retain(|(_, of, _)| *of != topic);
                }
                Step::RemoveGroup(group) => {
                    live.remove_group(GROUPS[group]);
                    model.retain(|(of, _, _)| *of != group);
                }
                Step::Persist => {
                    live.persist(|| Ok(())).unwrap();
                    durable = Model { committed: model.committed.clone(), ..Model::default() };
                }
                Step::Crash => {
                    live = offsets(folder.path());
                    model = durable.clone();
                }
            }
            check(&live, &model)?;
        }
    }
}
