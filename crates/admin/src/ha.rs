//! Replication, controllers, containers (spec: admin.md §7). What these commands ask, only such servers answer.

use oxmq_protocol::body::HaRuntimeInfo;
use oxmq_protocol::requests::{CleanBrokerDataHeader, ElectMasterHeader, RemoveBrokerHeader};

use crate::brokers::say_settings;
use crate::call::{Call, Done, Failure, milliseconds, now};
use crate::declare::{BROKER, CLUSTER, INTERVAL, Opt, commands, flag, opt};
use crate::java::{list, or_null};
use crate::output::Answer;
use crate::table::{Cell, Table, decimal, row};

const CONTROLLER: Opt = opt("a", "controllerAddress", "HOST:PORT;…", "Controllers").required();
const BROKER_NAME: Opt = opt("b", "brokerName", "BROKER", "Name of the broker");
const REPLICAS_OF: Opt = opt("bn", "brokerName", "BROKER", "Name of the broker").required();
const CONTAINER: Opt = opt("c", "brokerContainerAddr", "HOST:PORT", "Container").required();

commands! {
    ha_status: "haStatus", "Show how far slaves are behind their masters", "-b 127.0.0.1:10911",
        &[BROKER, CLUSTER, INTERVAL];
    broker_epoch: "getBrokerEpoch", "Show the epochs of a broker under a controller", "-b broker-a",
        &[BROKER_NAME, CLUSTER, INTERVAL], answered_by: Some("brokers under a controller"),
        one_of: &["brokerName", "clusterName"];
    reset_flush_offset: "resetMasterFlushOffset", "Tell a slave where its master's log ended when that started",
        "-b 127.0.0.1:10921 -o 0",
        &[opt("b", "brokerAddr", "HOST:PORT", "Slave").required(),
          opt("o", "offset", "OFFSET", "Physical offset").required()];
    sync_state_set: "getSyncStateSet", "Show which replicas are in sync", "-a 127.0.0.1:9878 -b broker-a",
        &[CONTROLLER, CLUSTER, BROKER_NAME, INTERVAL], answered_by: Some("controllers"),
        one_of: &["brokerName", "clusterName"];
    controller_metadata: "getControllerMetaData", "Show the leader of the controllers and the others",
        "-a 127.0.0.1:9878",
        &[CONTROLLER], answered_by: Some("controllers");
    controller_config: "getControllerConfig", "Show the settings of controllers", "-a 127.0.0.1:9878",
        &[CONTROLLER], answered_by: Some("controllers");
    update_controller_config: "updateControllerConfig", "Change a setting of controllers",
        "-a 127.0.0.1:9878 -k notifyBrokerRoleChanged -v true",
        &[CONTROLLER, opt("k", "key", "KEY", "Setting").required(),
          opt("v", "value", "VALUE", "Its value").required()], answered_by: Some("controllers");
    elect_master: "electMaster", "Make a replica the master",
        "-a 127.0.0.1:9878 -b 2 -bn broker-a -c DefaultCluster",
        &[CONTROLLER, opt("b", "brokerId", "ID", "Replica that becomes the master").required(), REPLICAS_OF,
          opt("c", "clusterName", "CLUSTER", "Cluster of the broker").required()], answered_by: Some("controllers");
    clean_metadata: "cleanBrokerMetadata", "Let controllers forget replicas of a broker",
        "-a 127.0.0.1:9878 -bn broker-a -b 2;3 -c DefaultCluster",
        &[CONTROLLER, opt("b", "brokerControllerIdsToClean", "ID;…", "These replicas only"), REPLICAS_OF,
          opt("c", "clusterName", "CLUSTER", "Cluster of the broker"),
          flag("l", "cleanLivingBroker", "Also replicas that are alive")], answered_by: Some("controllers");
    add_broker: "addBroker", "Start a broker in a container",
        "-c 127.0.0.1:10811 -b /opt/rocketmq/conf/broker-b.conf",
        &[CONTAINER, opt("b", "brokerConfigPath", "FILE", "Its settings, on the container's machine").required()],
        answered_by: Some("broker containers");
    remove_broker: "removeBroker", "Stop a broker of a container",
        "-c 127.0.0.1:10811 -b DefaultCluster:broker-b:0",
        &[CONTAINER, opt("b", "brokerIdentity", "CLUSTER:BROKER:ID", "Which broker").required()],
        answered_by: Some("broker containers");
}

async fn ha_status(call: &Call, answer: &mut Answer) -> Done {
    for addr in call.targets().await? {
        let status = call.admin().await?.ha_status(&addr).await?;
        answer.say("");
        match status.master {
            true => say_master(&addr, &status, answer),
            false => say_slave(&status, answer),
        }
        answer.fact(&addr, status);
    }
    Ok(())
}

fn say_master(addr: &str, status: &HaRuntimeInfo, answer: &mut Answer) {
    const NAMES: &str = "#SlaveAddr, #SlaveAckOffset, #Diff, #TransferSpeed(KB/s), #Status, #TransferFromWhere";
    answer.say(format!("#MasterAddr\t{addr}"));
    answer.say(format!(
        "#MasterCommitLogMaxOffset\t{}",
        status.master_commit_log_max_offset
    ));
    answer.say(format!("#SlaveNum\t{}", status.ha_connection_info.len()));
    answer.say(format!("#InSyncSlaveNum\t{}", status.in_sync_slave_nums));
    let mut table = Table::new(NAMES, "%-32s  %-16s %16s %16s %16s %16s");
    for slave in &status.ha_connection_info {
        table.push(row![
            &slave.addr,
            slave.slave_ack_offset,
            slave.diff,
            decimal(slave.transferred_byte_in_second as f64 / 1024.0, 2),
            Cell::shown(if slave.in_sync { "OK" } else { "Fall Behind" }, slave.in_sync),
            slave.transfer_from_where,
        ]);
    }
    answer.table("slaves", &table);
}

fn say_slave(status: &HaRuntimeInfo, answer: &mut Answer) {
    let slave = &status.ha_client_runtime_info;
    let speed = slave.transferred_byte_in_second as f64 / 1024.0;
    answer.say(format!("#MasterAddr\t{}", or_null(slave.master_addr.as_deref())));
    answer.say(format!("#CommitLogMaxOffset\t{}", slave.max_offset));
    answer.say(format!("#TransferSpeed(KB/s)\t{speed:.2}"));
    answer.say(format!("#LastReadTime\t{}", milliseconds(slave.last_read_timestamp)));
    answer.say(format!("#LastWriteTime\t{}", milliseconds(slave.last_write_timestamp)));
    answer.say(format!("#MasterFlushOffset\t{}", slave.master_flush_offset));
}

async fn broker_epoch(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let info = admin.cluster_info().await?;
    let brokers: Vec<_> = match call.text("brokerName") {
        Some(name) => info.broker_addr_table.get(name).into_iter().collect(),
        None => info.brokers(call.text("clusterName").unwrap_or_default()).collect(),
    };
    if brokers.is_empty() {
        return Err(Failure::new("no such broker"));
    }
    for addr in brokers.iter().flat_map(|broker| broker.broker_addrs.values()) {
        let mut epochs = admin.broker_epochs(addr).await?;
        answer.say("");
        answer.say(format!("#clusterName\t{}", epochs.cluster_name));
        answer.say(format!("#brokerName\t{}", epochs.broker_name));
        answer.say(format!("#brokerAddr\t{addr}"));
        answer.say(format!("#brokerId\t{}", epochs.broker_id));
        if let Some(last) = epochs.epoch_list.last_mut() {
            last.end_offset = epochs.max_offset;
        }
        for entry in &epochs.epoch_list {
            answer.say(format!(
                "#Epoch: EpochEntry{{epoch={}, startOffset={}, endOffset={}}}",
                entry.epoch, entry.start_offset, entry.end_offset
            ));
        }
        answer.fact(addr, epochs);
    }
    Ok(())
}

async fn reset_flush_offset(call: &Call, answer: &mut Answer) -> Done {
    let (addr, offset) = (call.required("brokerAddr"), call.required_number("offset")?);
    call.admin().await?.reset_master_flush_offset(addr, offset).await?;
    answer.done(addr, format!("reset master flush offset to {offset} success"));
    Ok(())
}

/// The first of several.
fn controller(call: &Call) -> &str {
    call.required("controllerAddress").split(';').next().unwrap_or_default()
}

async fn sync_state_set(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    let names: Vec<String> = match call.text("brokerName") {
        Some(name) => vec![name.to_owned()],
        None => {
            let info = admin.cluster_info().await?;
            let brokers = info.brokers(call.text("clusterName").unwrap_or_default());
            brokers.map(|broker| broker.broker_name.clone()).collect()
        }
    };
    let replicas = admin.sync_state_data(controller(call), &names).await?;
    for (name, info) in &replicas.replicas_info_table {
        answer.say("");
        answer.say(format!("#brokerName\t{name}"));
        answer.say(format!("#MasterBrokerId\t{}", or_null(info.master_broker_id)));
        answer.say(format!("#MasterAddr\t{}", or_null(info.master_address.as_deref())));
        answer.say(format!("#MasterEpoch\t{}", info.master_epoch));
        answer.say(format!("#SyncStateSetEpoch\t{}", info.sync_state_set_epoch));
        answer.say(format!("#SyncStateSetNums\t{}", info.in_sync_replicas.len()));
        let in_sync = info.in_sync_replicas.iter().map(|replica| ("InSyncReplica", replica));
        let others = info
            .not_in_sync_replicas
            .iter()
            .map(|replica| ("NotInSyncReplica", replica));
        for (title, replica) in in_sync.chain(others) {
            answer.say("");
            answer.say(format!(
                "{title}:\tReplicaIdentity{{brokerName='{}', brokerId={}, brokerAddress='{}', alive={}}}",
                replica.broker_name, replica.broker_id, replica.broker_address, replica.alive
            ));
        }
    }
    answer.facts(replicas);
    Ok(())
}

async fn controller_metadata(call: &Call, answer: &mut Answer) -> Done {
    let metadata = call.admin().await?.controller_metadata(controller(call)).await?;
    let peers = metadata.peers.unwrap_or_default();
    let peers: Vec<&str> = peers.split(';').filter(|peer| !peer.is_empty()).collect();
    answer.say("");
    for (title, name, value) in [
        ("ControllerGroup", "group", metadata.group),
        ("ControllerLeaderId", "leaderId", metadata.controller_leader_id),
        (
            "ControllerLeaderAddress",
            "leaderAddress",
            metadata.controller_leader_address,
        ),
    ] {
        answer.say(format!("#{title}\t{}", or_null(value.as_deref())));
        answer.fact(name, value);
    }
    peers.iter().for_each(|peer| answer.say(format!("#Peer:\t{peer}")));
    answer.fact("peers", peers);
    Ok(())
}

async fn controller_config(call: &Call, answer: &mut Answer) -> Done {
    for addr in call
        .required("controllerAddress")
        .split(';')
        .filter(|addr| !addr.is_empty())
    {
        let config = call.admin().await?.controller_config(addr).await?;
        answer.heading(format!("============{addr}============"));
        say_settings(addr, config, answer);
    }
    Ok(())
}

async fn update_controller_config(call: &Call, answer: &mut Answer) -> Done {
    let (key, value) = (call.required("key"), call.required("value"));
    let addrs: Vec<&str> = call
        .required("controllerAddress")
        .split(';')
        .filter(|addr| !addr.is_empty())
        .collect();
    for addr in &addrs {
        call.admin().await?.update_controller_config(addr, key, value).await?;
    }
    answer.say(format!("update controller config success!{}", list(&addrs)));
    answer.say(format!("{key} : {value}"));
    answer.fact("done", addrs);
    Ok(())
}

async fn elect_master(call: &Call, answer: &mut Answer) -> Done {
    let header = ElectMasterHeader {
        cluster_name: call.required("clusterName").to_owned(),
        broker_name: call.required("brokerName").to_owned(),
        broker_id: call.required_number("brokerId")?,
        designate_elect: true,
        invoke_time: now(),
    };
    let (elected, members) = call.admin().await?.elect_master(controller(call), &header).await?;
    answer.say("");
    answer.say(format!("#ClusterName\t{}", header.cluster_name));
    answer.say(format!("#BrokerName\t{}", header.broker_name));
    answer.say(format!(
        "#BrokerMasterAddr\t{}",
        or_null(elected.master_address.as_deref())
    ));
    answer.say(format!("#MasterEpoch\t{}", or_null(elected.master_epoch)));
    answer.say(format!("#SyncStateSetEpoch\t{}", or_null(elected.sync_state_set_epoch)));
    for (id, addr) in &members.broker_member_group.broker_addrs {
        answer.say(format!("\t#Broker\t{id}\t{addr}"));
    }
    answer.fact("masterAddress", elected.master_address);
    answer.fact("masterEpoch", elected.master_epoch);
    answer.facts(members);
    Ok(())
}

async fn clean_metadata(call: &Call, answer: &mut Answer) -> Done {
    let cluster = call.text("clusterName");
    let clean_living = call.flag("cleanLivingBroker");
    if !clean_living && cluster.is_none() {
        return Err(Failure::new(
            "cleanLivingBroker option is false, clusterName option can not be empty.",
        ));
    }
    let name = call.required("brokerName");
    let header = CleanBrokerDataHeader {
        cluster_name: cluster.map(str::to_owned),
        broker_name: name.to_owned(),
        broker_controller_ids_to_clean: call.text("brokerControllerIdsToClean").map(str::to_owned),
        is_clean_living_broker: clean_living,
        invoke_time: now(),
    };
    call.admin().await?.clean_broker_data(controller(call), &header).await?;
    answer.done(name, format!("clear broker {name} metadata from controller success! "));
    Ok(())
}

async fn add_broker(call: &Call, answer: &mut Answer) -> Done {
    let addr = call.required("brokerContainerAddr");
    call.admin()
        .await?
        .add_broker(addr, call.required("brokerConfigPath"))
        .await?;
    answer.done(addr, format!("add broker to {addr} success"));
    Ok(())
}

async fn remove_broker(call: &Call, answer: &mut Answer) -> Done {
    let addr = call.required("brokerContainerAddr");
    let identity = call.required("brokerIdentity");
    let mut parts = identity.split(':').map(str::trim);
    let header = (|| {
        Some(RemoveBrokerHeader {
            broker_cluster_name: parts.next()?.to_owned(),
            broker_name: parts.next()?.to_owned(),
            broker_id: parts.next()?.parse().ok().filter(|id| *id >= 0)?,
        })
    })();
    let header = header.ok_or_else(|| Failure::new(format!("\"{identity}\" is not cluster:broker:id")))?;
    call.admin().await?.remove_broker(addr, &header).await?;
    answer.done(addr, format!("remove broker from {addr} success"));
    Ok(())
}
