//! A name server and brokers that do what the test says.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use oxmq_protocol::body::{BrokerData, QueueData, TopicRouteData};
use oxmq_protocol::requests::{GetRouteInfoHeader, SendMessageHeaderV2, SendMessageReply};
use oxmq_protocol::{FieldSet, RemotingCommand, RequestCode, json, response_code};
use oxmq_remoting::{CommandHandler, Connection, Outcome, ServerConfig, ServerHandle, serve_commands};

/// Brokers `b0`, `b1`, …, each with the same queues for every topic but those called `Missing…`.
pub(crate) struct ScriptedServers {
    pub(crate) brokers: Vec<Arc<ScriptedBroker>>,
    pub(crate) name_server: String,
    _handles: Vec<ServerHandle>,
}

/// What a broker does with the next send.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Code(i32),
    Close,
    Silence,
}

#[derive(Default)]
pub(crate) struct ScriptedBroker {
    /// Sends beyond the script succeed.
    pub(crate) script: Mutex<VecDeque<Answer>>,
    requests: Mutex<Vec<RemotingCommand>>,
}

impl ScriptedBroker {
    pub(crate) fn plan(&self, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().extend(answers);
    }

    /// The requests with this code so far.
    pub(crate) fn seen(&self, code: RequestCode) -> Vec<RemotingCommand> {
        let requests = self.requests.lock().unwrap();
        let wanted = requests.iter().filter(|request| request.header.code == code.code());
        wanted.cloned().collect()
    }
}

impl ScriptedServers {
    pub(crate) fn start(broker_count: usize, queues: i32) -> ScriptedServers {
        let mut handles = Vec::new();
        let mut brokers = Vec::new();
        let mut route = TopicRouteData::default();
        for index in 0..broker_count {
            let (broker, broker_name) = (Arc::<ScriptedBroker>::default(), format!("b{index}"));
            let addr = listen(&mut handles, Arc::clone(&broker));
            brokers.push(broker);
            route.broker_datas.push(BrokerData {
                broker_addrs: [(0, addr)].into(),
                broker_name: broker_name.clone(),
                ..BrokerData::default()
            });
            route.queue_datas.push(QueueData {
                broker_name,
                perm: 6,
                read_queue_nums: queues,
                write_queue_nums: queues,
                ..QueueData::default()
            });
        }
        let name_server = listen(&mut handles, Arc::new(NameServer { route }));
        ScriptedServers {
            brokers,
            name_server,
            _handles: handles,
        }
    }
}

fn listen<H: CommandHandler + Send + Sync>(handles: &mut Vec<ServerHandle>, handler: Arc<H>) -> String {
    let mut config = ServerConfig::new("scripted", vec![([127, 0, 0, 1], 0).into()]);
    config.workers = 1;
    let handle = serve_commands(config, handler).unwrap();
    let addr = handle.local_addrs()[0].to_string();
    handles.push(handle);
    addr
}

struct NameServer {
    route: TopicRouteData,
}

impl CommandHandler for NameServer {
    fn handle(&self, _: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome {
        assert_eq!(code, RequestCode::GetRouteInfoByTopic);
        let header = GetRouteInfoHeader::read(&command.header.ext_fields).unwrap();
        if header.topic.starts_with("Missing") {
            return respond(response_code::TOPIC_NOT_EXIST).into();
        }
        respond(response_code::SUCCESS)
            .with_body(json::to_vec_standard(&self.route))
            .into()
    }
}

fn respond(code: i32) -> RemotingCommand {
    RemotingCommand::response(0, code, Some("as the script says".into()))
}

impl CommandHandler for ScriptedBroker {
    fn handle(&self, connection: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome {
        self.requests.lock().unwrap().push(command.clone());
        if !matches!(code, RequestCode::SendMessageV2 | RequestCode::SendBatchMessage) {
            return respond(response_code::SUCCESS).into();
        }
        let answer = self.script.lock().unwrap().pop_front();
        let code = match answer.unwrap_or(Answer::Code(response_code::SUCCESS)) {
            Answer::Code(code) => code,
            Answer::Close => {
                connection.close();
                return Outcome::Nothing;
            }
            Answer::Silence => return Outcome::Nothing,
        };
        let header = SendMessageHeaderV2::read(&command.header.ext_fields).unwrap();
        let reply = SendMessageReply {
            msg_id: "7F00000100002A9F0000000000000FA0".into(),
            queue_id: header.queue_id,
            queue_offset: 7,
            ..SendMessageReply::default()
        };
        respond(code).with_fields(&reply).into()
    }
}
