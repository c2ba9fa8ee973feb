//! Name servers (spec: admin.md §3, §6).

use crate::brokers::{say_settings, warn_of_unknown};
use crate::call::{Call, Done, Failure};
use crate::declare::{Opt, commands, opt};
use crate::java::list;
use crate::output::Answer;

const NAMESPACE: Opt = opt("s", "namespace", "NAMESPACE", "Part of the table").required();
const KEY: Opt = opt("k", "key", "KEY", "Name of the value").required();
const VALUE: Opt = opt("v", "value", "VALUE", "The value").required();
const BROKER_NAME: Opt = opt("b", "brokerName", "BROKER", "Name of the broker").required();

commands! {
    wipe_write_perm: "wipeWritePerm", "Let no more be written to a broker, as name servers tell it", "-b broker-a",
        &[BROKER_NAME];
    add_write_perm: "addWritePerm", "Let a broker be written to again", "-b broker-a",
        &[BROKER_NAME];
    update_kv_config: "updateKvConfig", "Set a value in the table of the name servers", "-s space -k key -v value",
        &[NAMESPACE, KEY, VALUE];
    delete_kv_config: "deleteKvConfig", "Delete a value from the table of the name servers", "-s space -k key",
        &[NAMESPACE, KEY];
    get_config: "getNamesrvConfig", "Show the settings of name servers", "-n 127.0.0.1:9876",
        &[];
    update_config: "updateNamesrvConfig", "Change a setting of name servers",
        "-n 127.0.0.1:9876 -k enableTopicList -v true",
        &[KEY, VALUE];
}

async fn wipe_write_perm(call: &Call, answer: &mut Answer) -> Done {
    change_write_perm(call, answer, true).await
}

async fn add_write_perm(call: &Call, answer: &mut Answer) -> Done {
    change_write_perm(call, answer, false).await
}

/// At every name server, also behind one that fails.
async fn change_write_perm(call: &Call, answer: &mut Answer, wipe: bool) -> Done {
    let broker = call.required("brokerName");
    let admin = call.admin().await?;
    let what = if wipe { "wipe" } else { "add" };
    let mut failed = None;
    for addr in admin.instance().name_server_addrs() {
        let changed = match wipe {
            true => admin.wipe_write_perm(addr, broker).await,
            false => admin.add_write_perm(addr, broker).await,
        };
        let sentence = format!("{what} write perm of broker[{broker}] in name server[{addr}]");
        match changed {
            Ok(topics) => {
                answer.done(addr, format!("{sentence} OK, {topics}"));
                answer.fact("topics", topics);
            }
            Err(error) => {
                answer.say(format!("{sentence} Failed"));
                failed = Some(Failure::from(error));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn update_kv_config(call: &Call, answer: &mut Answer) -> Done {
    let (namespace, key, value) = (call.required("namespace"), call.required("key"), call.required("value"));
    call.admin().await?.put_kv_config(namespace, key, value).await?;
    answer.say("create or update kv config to namespace success.");
    answer.fact(key, value);
    Ok(())
}

async fn delete_kv_config(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    admin
        .delete_kv_config(call.required("namespace"), call.required("key"))
        .await?;
    answer.say("delete kv config from namespace success.");
    answer.fact("deleted", call.required("key"));
    Ok(())
}

async fn get_config(call: &Call, answer: &mut Answer) -> Done {
    let admin = call.admin().await?;
    for addr in admin.instance().name_server_addrs() {
        let config = admin.name_server_config(addr).await?;
        answer.heading(format!("============{addr}============"));
        say_settings(addr, config, answer);
    }
    Ok(())
}

async fn update_config(call: &Call, answer: &mut Answer) -> Done {
    let (key, value) = (call.required("key"), call.required("value"));
    let admin = call.admin().await?;
    admin.update_name_server_config(key, value).await?;
    let servers = admin.instance().name_server_addrs();
    answer.say(format!("update name server config success!{}", list(servers)));
    answer.say(format!("{key} : {value}"));
    answer.fact("done", servers);
    for addr in servers {
        if let Ok(config) = admin.name_server_config(addr).await {
            warn_of_unknown(key, addr, &config);
        }
    }
    Ok(())
}
