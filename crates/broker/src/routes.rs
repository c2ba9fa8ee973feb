//! Queues of a topic on all brokers, for dealing them to consumers. Name servers know them; the background thread asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use oxmq_protocol::body::{MessageQueue, TopicRouteData};
use oxmq_protocol::requests::{GetRouteInfoHeader, request};
use oxmq_protocol::{json, perm};
use oxmq_remoting::RemotingClient;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::broker::Broker;

/// How long a route is good for: `loadBalancePollNameServerInterval` of the original.
const FRESH_MS: i64 = 30_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Questions that may wait for the name servers.
const QUESTIONS_MAX: usize = 1024;
/// Routes that are remembered.
const ROUTES_MAX: usize = 16_384;

pub(crate) struct Routes {
    known: Mutex<HashMap<String, Route>>,
    questions: mpsc::Sender<Question>,
    asked: Mutex<Option<mpsc::Receiver<Question>>>,
}

#[derive(Clone)]
struct Route {
    /// Of other brokers.
    queues: Vec<MessageQueue>,
    asked_at: i64,
}

pub(crate) struct Question {
    topic: String,
    answer: oneshot::Sender<Option<TopicRouteData>>,
}

impl Default for Routes {
    fn default() -> Routes {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        Routes {
            known: Mutex::default(),
            questions,
            asked: Mutex::new(Some(asked)),
        }
    }
}

impl Routes {
    /// The queues of the topic that may be read, on this broker as it knows them itself; `None` when nobody knows any.
    pub(crate) async fn readable_queues(&self, broker: &Broker, topic: &str) -> Option<Vec<MessageQueue>> {
        let config = broker.config();
        let own = broker.topics.get(topic).filter(|config| perm::is_readable(config.perm));
        let own_name = config.broker_name.clone();
        let is_alone = config.namesrv_addr.is_none();
        drop(config);
        let mut queues = match is_alone {
            true => Vec::new(),
            false => self.elsewhere(topic, &own_name, broker.now_ms()).await,
        };
        let count = own.map_or(0, |own| own.read_queue_nums);
        queues.extend((0..count).map(|queue_id| MessageQueue::new(topic, own_name.as_str(), queue_id)));
        (!queues.is_empty()).then_some(queues)
    }

    /// Queues on other brokers. While no name server answers, those known last.
    async fn elsewhere(&self, topic: &str, own_name: &str, now: i64) -> Vec<MessageQueue> {
        let known = self.known.lock().get(topic).cloned();
        if let Some(known) = known.as_ref().filter(|known| now - known.asked_at < FRESH_MS) {
            return known.queues.clone();
        }
        let route = self.ask(topic).await;
        let queues = match (&route, known) {
            (Some(route), _) => readable(topic, own_name, route),
            (None, Some(known)) => known.queues,
            (None, None) => Vec::new(),
        };
        let mut all = self.known.lock();
        if all.len() >= ROUTES_MAX {
            all.clear();
        }
        let remembered = Route {
            queues: queues.clone(),
            asked_at: now,
        };
        all.insert(topic.to_owned(), remembered);
        queues
    }

    async fn ask(&self, topic: &str) -> Option<TopicRouteData> {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            topic: topic.to_owned(),
            answer,
        };
        self.questions.try_send(question).ok()?;
        tokio::time::timeout(CALL_TIMEOUT, answered).await.ok()?.ok()?
    }
}

fn readable(topic: &str, own_name: &str, route: &TopicRouteData) -> Vec<MessageQueue> {
    let others = route.queue_datas.iter().filter(|queues| queues.broker_name != own_name);
    others
        .filter(|queues| perm::is_readable(queues.perm))
        .flat_map(|queues| {
            let queue = |queue_id| MessageQueue::new(topic, queues.broker_name.as_str(), queue_id);
            (0..queues.read_queue_nums.clamp(0, crate::topics::QUEUE_NUMS_MAX)).map(queue)
        })
        .collect()
}

/// Answers the questions of workers, on the thread that talks to name servers. Ends with that thread.
pub(crate) async fn answer(broker: Arc<Broker>, client: RemotingClient, name_servers: Vec<String>) {
    let Some(mut questions) = broker.routes.asked.lock().take() else {
        return;
    };
    while let Some(question) = questions.recv().await {
        let header = GetRouteInfoHeader {
            topic: question.topic,
            accept_standard_json_only: Some(true),
        };
        let mut route = None;
        for addr in &name_servers {
            let call = client.call::<request::GetRouteInfoByTopic>(addr, &header, Bytes::new(), CALL_TIMEOUT);
            match call.await {
                Ok(reply) => route = json::from_slice(&reply.body).ok(),
                // Also the answer for a topic that it does not know.
                Err(error) => tracing::debug!(addr, topic = header.topic, %error, "no route"),
            }
            if route.is_some() {
                break;
            }
        }
        // An error means that the consumer has gone.
        let _ = question.answer.send(route);
    }
}
