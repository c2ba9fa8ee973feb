//! Generated documents. The test fails when one is stale and rewrites it when `OXMQ_UPDATE` is set.

use std::path::Path;

use oxmq_broker::BrokerConfig;
use oxmq_namesrv::NamesrvConfig;
use oxmq_protocol::settings::Settings;

fn configuration() -> String {
    format!(
        "# Configuration\n\
         \n\
         Generated from the settings tables (`config.rs` of each role); `cargo xtask fix` rewrites it.\n\
         \n\
         Settings have RocketMQ's keys and are read from properties files (`key=value`). A value that cannot be \
         read stops the start with file, line and reason. A key without effect is said once and otherwise ignored. \
         \"Live\" settings can be changed at run time and take effect at once, others that can be changed are \
         saved and take effect at the next start; paths, addresses and names are changed in the file only.\n\
         \n\
         `oxmq` alone reads `namesrv.conf` and `broker.conf` in its data folder when they are there. The environment \
         gives `NAMESRV_ADDR` (name servers of a broker) and `OXMQ_LOG` (what goes to standard error: `info`, \
         `oxmq_broker=debug,warn`; without it warnings and errors; \
         for log files see [logs.md](logs.md)).\n\
         \n\
         ## Name server\n\
         \n\
         {}\n\
         ## Broker\n\
         \n\
         {}",
        NamesrvConfig::markdown(),
        BrokerConfig::markdown()
    )
}

/// What is said before the commands.
const COMMANDS: &str = "\
# Commands of mqadmin

Generated from the tables of commands (`crates/admin`) and `tests/interop/mqadmin.txt`; `cargo xtask fix` rewrites it.

`oxmq admin COMMAND`, or `mqadmin COMMAND` where a link of that name leads to the executable, knows the commands of
RocketMQ's tool, with its options and its output. Names are found in any case. Every command takes

| Option | Meaning |
|---|---|
| `-n`, `--namesrvAddr HOST:PORT;…` | name servers (default: `NAMESRV_ADDR`, else `127.0.0.1:9876`) |
| `--json` | the answer as JSON |
| `-h`, `--help` | its options and an example, as `mqadmin help COMMAND` shows |

It ends with 0 when everything was done. Otherwise it ends with 1 and one line on standard error, in which `CODE:` is what
a server answered; the original prints a stack trace and ends with 0.

```console
$ oxmq admin topicStatus -t orders
oxmq admin topicStatus: CODE: 17 DESC: No topic route info in name server for the topic: orders
$ echo $?
1
$ oxmq admin sendMessage -t orders -p hello -k ORD-1 --json
{
  \"sent\": [
    {
      \"brokerName\": \"broker-a\",
      \"msgId\": \"7F0000018CF3CA9B8F2900000000000000000000\",
      \"qid\": 2,
      \"sendResult\": \"SEND_OK\"
    }
  ]
}
```

Tables become lists of objects with the names of the columns in camel case; numbers are numbers. Headings are bold on a
terminal only, and not where `NO_COLOR` is set. What takes longer than half a second shows on standard error how far it is, on a terminal
only. `oxmq completion bash` and `mqadmin completion bash` (zsh, fish, elvish, powershell) print what lets a shell complete names and
options:

```sh
oxmq completion bash > /etc/bash_completion.d/oxmq
```

Requests are signed when `$ROCKETMQ_HOME/conf/tools.yml` holds `accessKey` and `secretKey`, as for the original.

Commands marked \"compared\" print the same as mqadmin 5.5.0 in the interoperability suite. Not here:
`exportMetadataInRocksDB`, which reads a local RocksDB. Brokers of OxMQ have no light topics and keep timer messages in files
only, and answer the commands about these as such a broker of the original does.

";

fn commands() -> String {
    COMMANDS.to_owned() + &oxmq_admin::markdown(include_str!("../../../tests/interop/mqadmin.txt"))
}

#[test]
fn documents_are_current() {
    for (name, current) in [("configuration.md", configuration()), ("commands.md", commands())] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        if std::env::var_os("OXMQ_UPDATE").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == current, "docs/{name} is stale: run cargo xtask fix");
    }
}
