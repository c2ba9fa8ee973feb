//! Static topics (spec: admin.md §2, behaviour.md §11): brokers are told the parts that [`plan`] gives them.
//!
//! The order of a remapping keeps every logical queue readable and lets no offset be given twice: new leaders take
//! messages before they know their logical offsets, then the old ones stop, and only then is it known where they ended.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use oxmq_client::{Admin, ClusterInfo, MessageQueue};
use oxmq_protocol::body::{TopicConfigAndQueueMapping, TopicQueueMappingDetail};
use oxmq_protocol::{json, response_code};

use self::plan::Mapping;
use crate::call::{Call, Done, Failure, now};
use crate::declare::{Opt, TOPIC, commands, opt};
use crate::output::Answer;

const BROKERS: Opt = opt("b", "brokers", "BROKER,…", "Names of brokers");
const CLUSTERS: Opt = opt("c", "clusters", "CLUSTER,…", "All brokers of these clusters");
const FILE: Opt = opt("mf", "mapFile", "FILE", "A mapping as this command has written it");
const FORCE: Opt = opt("fr", "forceReplace", "BOOL", "Also where brokers have something else").or("false");

commands! {
    update: "updateStaticTopic", "Create a static topic, or give it more queues",
        "-t orders -c DefaultCluster -qn 8",
        &[CLUSTERS, BROKERS, TOPIC, opt("qn", "totalQueueNum", "NUMBER", "Logical queues").required(), FILE, FORCE],
        one_of: &["brokers", "clusters"];
    remap: "remappingStaticTopic", "Let other brokers lead the queues of a static topic",
        "-t orders -b broker-b,broker-c",
        &[CLUSTERS, BROKERS, TOPIC, FILE, FORCE], one_of: &["brokers", "clusters"];
}

/// The brokers that are meant, by name.
fn targets(call: &Call, info: &ClusterInfo) -> Result<BTreeSet<String>, Failure> {
    let listed = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
    let names: BTreeSet<String> = match call.text("brokers") {
        Some(brokers) => listed(brokers).into_iter().collect(),
        None => {
            let clusters = listed(call.text("clusters").unwrap_or_default());
            let brokers = clusters.iter().flat_map(|cluster| info.brokers(cluster));
            brokers.map(|broker| broker.broker_name.clone()).collect()
        }
    };
    match names.iter().find(|name| !info.broker_addr_table.contains_key(*name)) {
        Some(unknown) => Err(Failure::new(format!("Can't find addr for broker {unknown}"))),
        None if names.is_empty() => Err(Failure::new("Find none brokers, do nothing")),
        None => Ok(names),
    }
}

/// The topic as every broker has it that has it.
async fn known(
    admin: &Admin,
    info: &ClusterInfo,
    topic: &str,
) -> Result<BTreeMap<String, TopicConfigAndQueueMapping>, Failure> {
    let mut known = BTreeMap::new();
    for (name, broker) in &info.broker_addr_table {
        let Some(addr) = broker.master() else { continue };
        match admin.topic_config_on(addr, topic).await {
            Ok(config) => {
                known.insert(name.clone(), config);
            }
            Err(error) if error.response_code() == Some(response_code::TOPIC_NOT_EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(known)
}

fn write(mapping: &Mapping, suffix: &str) -> Result<String, Failure> {
    let path = std::env::temp_dir().join(format!("{}-{}.{suffix}", mapping.topic, mapping.epoch));
    let written = fs::write(&path, json::to_vec(mapping));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
    Ok(path.display().to_string())
}

/// The other brokers of the clusters that hold a part.
fn neighbours(info: &ClusterInfo, mapping: &Mapping) -> Vec<String> {
    let holds_part = |names: &&BTreeSet<String>| names.iter().any(|name| mapping.broker_config_map.contains_key(name));
    info.cluster_addr_table
        .values()
        .filter(holds_part)
        .flatten()
        .cloned()
        .collect()
}

async fn tell(admin: &Admin, info: &ClusterInfo, mapping: &Mapping, name: &str, force: bool) -> Done {
    let broker = info.broker_addr_table.get(name);
    let addr = broker.and_then(|broker| broker.master());
    let addr = addr.ok_or_else(|| Failure::new(format!("Can't find addr for broker {name}")))?;
    let part = &mapping.broker_config_map[name];
    let nothing = TopicQueueMappingDetail::default();
    let detail = part.mapping_detail.as_ref().unwrap_or(&nothing);
    Ok(admin.create_static_topic_on(addr, &part.config, detail, force).await?)
}

async fn update(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let force = call.truth("forceReplace") == Some(true);
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    let mut mapping = match call.text("mapFile") {
        Some(_) => read(call)?,
        None => {
            let targets = targets(call, &info)?;
            let known = known(admin, &info, topic).await?;
            let mut mapping = Mapping::of(topic, known, now()).map_err(Failure::new)?;
            let before = write(&mapping, "before")?;
            answer.say(format!("The old mapping data is written to file {before}"));
            let total = call.required_number("totalQueueNum")?;
            mapping.grow(total, &targets, now()).map_err(Failure::new)?;
            let after = write(&mapping, "after")?;
            answer.say(format!("The new mapping data is written to file {after}"));
            answer.fact("before", before);
            answer.fact("after", after);
            mapping
        }
    };
    mapping.complete(neighbours(&info, &mapping));
    for name in mapping.broker_config_map.keys() {
        tell(admin, &info, &mapping, name, force).await?;
        answer.add("done", name);
    }
    Ok(())
}

fn read(call: &Call) -> Result<Mapping, Failure> {
    let mapping: Mapping = call.json_file("mapFile")?;
    let topic = call.required("topic");
    match mapping.topic == topic {
        true => Ok(mapping),
        false => Err(Failure::new(format!(
            "the file is about {} and not {topic}",
            mapping.topic
        ))),
    }
}

async fn remap(call: &Call, answer: &mut Answer) -> Done {
    let topic = call.required("topic");
    let force = call.truth("forceReplace") == Some(true);
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    let mut mapping = match call.text("mapFile") {
        Some(_) => read(call)?,
        None => {
            let targets = targets(call, &info)?;
            let known = known(admin, &info, topic).await?;
            if known.is_empty() {
                return Err(Failure::new("No topic route to do the remapping"));
            }
            let mut mapping = Mapping::of(topic, known, now()).map_err(Failure::new)?;
            let before = write(&mapping, "before")?;
            answer.say(format!("The old mapping data is written to file {before}"));
            mapping.remap(&targets, now()).map_err(Failure::new)?;
            let after = write(&mapping, "after")?;
            // The original calls both files the old one; this one is the new one.
            answer.say(format!("The new mapping data is written to file {after}"));
            answer.fact("before", before);
            answer.fact("after", after);
            mapping
        }
    };
    mapping.complete(neighbours(&info, &mapping));
    let (takers, givers) = (mapping.broker_to_map_in.clone(), mapping.broker_to_map_out.clone());
    for name in takers.iter().chain(&givers) {
        tell(admin, &info, &mapping, name, force).await?;
    }
    for name in &givers {
        let addr = info
            .broker_addr_table
            .get(name)
            .and_then(|broker| broker.master())
            .unwrap_or_default();
        let stats = admin.topic_stats_on(addr, topic).await?;
        for (queue_id, old) in mapping.moved_from(name) {
            let queue = MessageQueue::new(topic, &old.bname, old.queue_id);
            let offsets = stats.offset_table.get(&queue);
            let offsets = offsets.ok_or_else(|| Failure::new(format!("the broker {name} tells no end of {queue}")))?;
            mapping.place(queue_id, name, offsets.max_offset);
        }
    }
    let others = mapping
        .broker_config_map
        .keys()
        .filter(|name| !takers.contains(*name) && !givers.contains(*name));
    for name in takers.iter().chain(others) {
        tell(admin, &info, &mapping, name, force).await?;
        answer.add("done", name);
    }
    Ok(())
}
