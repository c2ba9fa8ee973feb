//! A worker's requests that are beyond a quota ([`crate::quotas`]) or the limit of cold data ([`crate::cold_reads`]): held until there is room, in the order in which they came.
//!
//! A send takes its share of the quota when it comes, and is served when that has flowed back: sends of one client to one
//! topic stay in their order. Deliveries take what there is when their turn comes; those that find nothing wait behind the
//! others. What is held counts as under way on its connection, so that a client that sends on is not read from any more.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::{Frame, batch};
use oxmq_remoting::{Connection, ReplyTo};
use oxmq_store::GetLimits;

use super::loads::Kept;
use super::{WaitingPull, Worker};
use crate::cold_reads;
use crate::pop::Pop;
use crate::pull::Pull;
use crate::quotas::{Applied, Exceeded, Grant, Quota, Rates, Scope};
use crate::send::{SendError, SendRequest};

/// Requests held by one worker. Beyond it sends are refused, and consumers told to ask again.
const HELD_MAX: usize = 10_000;
/// Bytes of sends held by one worker.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Throttle {
    /// By the time at which they go on, and as they came.
    held: RefCell<BTreeMap<(u64, u64), Held>>,
    held_bytes: Cell<usize>,
    held_sends: Cell<usize>,
    serial: Cell<u64>,
    /// What is being served has passed its quotas.
    pub(super) passing: Cell<bool>,
    /// Of connections, where there are quotas for them.
    connections: RefCell<HashMap<u64, ConnectionQuotas>>,
}

struct ConnectionQuotas {
    sent: Arc<Quota>,
    delivered: Arc<Quota>,
}

enum Held {
    Send(Kept, usize),
    Pull(u64, Box<WaitingPull>),
    /// A pull of cold data, answered when its time is over.
    ColdPull(Box<WaitingPull>),
    Pop(Box<HeldPop>),
}

struct HeldPop {
    connection: Rc<Connection>,
    to: ReplyTo,
    pop: Rc<Pop>,
    /// It has waited for messages.
    again: bool,
}

impl Throttle {
    pub(super) fn in_flight(&self) -> usize {
        self.held.borrow().len()
    }

    pub(super) fn next_time_ms(&self) -> Option<u64> {
        self.held.borrow().keys().next().map(|(due_ms, _)| *due_ms)
    }

    fn is_full(&self) -> bool {
        self.held.borrow().len() >= HELD_MAX
    }

    fn push(&self, due_ms: u64, held: Held) {
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        if let Held::Send(_, bytes) = &held {
            self.held_bytes.update(|held| held + bytes);
            self.held_sends.update(|held| held + 1);
        }
        self.held.borrow_mut().insert((due_ms, serial), held);
    }

    /// The first, if it is due.
    fn take(&self, now_ms: u64) -> Option<Held> {
        let mut all = self.held.borrow_mut();
        let first = all.first_entry().filter(|first| first.key().0 <= now_ms)?;
        let held = first.remove();
        if let Held::Send(_, bytes) = &held {
            self.held_bytes.update(|held| held - bytes);
            self.held_sends.update(|held| held - 1);
        }
        Some(held)
    }

    /// A connection is closed. What it has sent is stored all the same.
    pub(super) fn forget(&self, connection: u64) {
        self.connections.borrow_mut().remove(&connection);
        self.held.borrow_mut().retain(|_, held| match held {
            Held::Send(..) => true,
            Held::Pull(_, waiting) | Held::ColdPull(waiting) => waiting.connection.id() != connection,
            Held::Pop(held) => held.connection.id() != connection,
        });
    }
}

impl Worker {
    /// Holds or refuses a send that is beyond a quota. False when it may pass.
    #[inline]
    pub(super) fn hold_send(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        frame: &Frame<'_>,
        request: &SendRequest<'_>,
    ) -> bool {
        let Some(topic) = self.topics.get(&self.broker, request.topic) else {
            return false;
        };
        if !topic.has_quota && !self.broker.quotas.has_defaults() || self.throttle.passing.get() {
            return false;
        }
        let config = self.broker.config();
        let mut quotas = Applied::default();
        if let Some(quota) = self.connection_quota(connection, Rates::of_clients(&config), |quotas| &quotas.sent) {
            quotas.add(quota);
        }
        if let Some(quota) = self.broker.quotas.of_topic(&config, &topic.config) {
            quotas.add(quota);
        }
        if quotas.is_empty() {
            return false;
        }
        let hold_ms = config.quota_hold_time_ms;
        drop(config);
        self.reserve(connection, to, frame, request, &quotas, hold_ms)
    }

    fn reserve(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        frame: &Frame<'_>,
        request: &SendRequest<'_>,
        quotas: &Applied,
        hold_ms: u64,
    ) -> bool {
        let messages = match request.batch {
            true => batch::items(frame.body).count() as u64,
            false => 1,
        };
        let bytes = frame.body.len() + request.properties.len();
        let frame_bytes = frame.header.len() + frame.body.len();
        let has_room = !self.throttle.is_full() && self.throttle.held_bytes.get() + frame_bytes <= HELD_BYTES_MAX;
        let hold_ns = if has_room { hold_ms * 1_000_000 } else { 0 };
        let now = self.broker.quotas.now_ns();
        match quotas.reserve(now, messages, bytes as u64, hold_ns) {
            // Those that are held came before.
            Ok(None) if self.throttle.held_sends.get() == 0 => false,
            Ok(exceeded) => {
                if let Some(exceeded) = &exceeded {
                    self.count_held(exceeded, Quota::count_delayed, messages);
                }
                let wait_ns = exceeded.map_or(0, |exceeded| exceeded.wait_ns);
                let kept = Kept::new(connection.begin_request(frame_bytes), to, frame);
                self.hold(wait_ns, Held::Send(kept, frame_bytes));
                true
            }
            Err(exceeded) => {
                self.count_held(&exceeded, Quota::count_refused, messages);
                let quota = &exceeded.quota;
                let error = SendError::Quota(format!("{} {}", quota.scope.name(), quota.name).trim_end().to_owned());
                self.refuse_send(connection, to, &error);
                true
            }
        }
    }

    /// What may be delivered now; nothing where there is no quota.
    pub(super) fn grant(
        &self,
        connection: &Rc<Connection>,
        group: &SubscriptionGroupConfig,
        wanted: GetLimits,
    ) -> Result<Option<Grant>, Exceeded> {
        if group.attributes.is_empty() && !self.broker.quotas.has_defaults() {
            return Ok(None);
        }
        let config = self.broker.config();
        let mut quotas = Applied::default();
        if let Some(quota) = self.connection_quota(connection, Rates::of_clients(&config), |quotas| &quotas.delivered) {
            quotas.add(quota);
        }
        if let Some(quota) = self.broker.quotas.of_group(&config, group) {
            quotas.add(quota);
        }
        drop(config);
        if quotas.is_empty() {
            return Ok(None);
        }
        let now = self.broker.quotas.now_ns();
        quotas.grant(now, wanted.count, wanted.bytes).map(Some)
    }

    pub(super) fn pop_grant(&self, connection: &Rc<Connection>, pop: &Pop) -> Result<Option<Grant>, Exceeded> {
        match self.broker.group(&pop.group) {
            Some(group) => self.grant(connection, &group, GetLimits::count(pop.count_max.max(1))),
            None => Ok(None),
        }
    }

    pub(super) fn hold_pull(&self, deadline_ms: u64, pull: WaitingPull, exceeded: &Exceeded) {
        if self.throttle.is_full() || self.stopping.get() {
            return self.put_off(&pull);
        }
        self.count_held(exceeded, Quota::count_delayed, 1);
        let wait_ns = self.at_most_until(deadline_ms, exceeded.wait_ns);
        self.hold(wait_ns, Held::Pull(deadline_ms, Box::new(pull)));
    }

    /// Holds a pull of cold data of which its group has read its share; it gets one message then.
    pub(super) fn hold_cold_pull(&self, connection: &Rc<Connection>, mut pull: Pull) {
        pull.to.suspended = true;
        pull.suspend_ms = None;
        pull.limits.count = 1;
        let waiting = WaitingPull {
            connection: Rc::clone(connection),
            looked_until: pull.from,
            pull,
        };
        if self.throttle.is_full() || self.stopping.get() {
            return self.put_off(&waiting);
        }
        self.hold(cold_reads::HOLD_MS * 1_000_000, Held::ColdPull(Box::new(waiting)));
    }

    pub(super) fn hold_pop(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        pop: Rc<Pop>,
        again: bool,
        exceeded: &Exceeded,
    ) {
        let hold_ms = i64::try_from(self.broker.config().quota_hold_time_ms).unwrap_or(i64::MAX);
        let left_ms = pop.poll_end().max(pop.born_time.saturating_add(hold_ms)) - self.broker.now_ms();
        if left_ms <= 0 || self.throttle.is_full() || self.stopping.get() {
            return self.answer_no_messages(connection, to, &pop);
        }
        self.count_held(exceeded, Quota::count_delayed, 1);
        let wait_ns = self.at_most_until(self.now_ms() + left_ms as u64, exceeded.wait_ns);
        let to = ReplyTo { suspended: true, ..to };
        let connection = Rc::clone(connection);
        let held = HeldPop {
            connection,
            to,
            pop,
            again,
        };
        self.hold(wait_ns, Held::Pop(Box::new(held)));
    }

    fn at_most_until(&self, deadline_ms: u64, wait_ns: u64) -> u64 {
        wait_ns.min(deadline_ms.saturating_sub(self.now_ms()) * 1_000_000)
    }

    fn hold(&self, wait_ns: u64, held: Held) {
        let due_ms = self.now_ms() + wait_ns.div_ceil(1_000_000);
        self.throttle.push(due_ms, held);
        self.set_timer(due_ms);
    }

    /// Lets go on what is due, or everything when the server stops.
    pub(super) fn release_held(&self) {
        if self.throttle.in_flight() == 0 {
            return;
        }
        let until_ms = if self.stopping.get() { u64::MAX } else { self.now_ms() };
        while let Some(held) = self.throttle.take(until_ms) {
            match held {
                Held::Send(kept, _) => self.serve_kept(&kept),
                Held::Pull(deadline_ms, waiting) => self.pull_again(deadline_ms, *waiting),
                Held::ColdPull(waiting) => self.answer_now(*waiting),
                Held::Pop(held) => self.look_for_messages(&held.connection, held.to, held.pop, held.again),
            }
        }
    }

    /// The quota of a connection, where there is one for all.
    fn connection_quota(
        &self,
        connection: &Rc<Connection>,
        rates: Rates,
        which: impl Fn(&ConnectionQuotas) -> &Arc<Quota>,
    ) -> Option<Arc<Quota>> {
        if rates.is_unlimited() {
            return None;
        }
        let mut connections = self.throttle.connections.borrow_mut();
        let quotas = connections.entry(connection.id()).or_insert_with(|| ConnectionQuotas {
            sent: Arc::new(Quota::new(Scope::Client, "")),
            delivered: Arc::new(Quota::new(Scope::Client, "")),
        });
        let quota = Arc::clone(which(quotas));
        quota.set_rates(self.broker.quotas.now_ns(), rates);
        Some(quota)
    }

    /// Connections have no names: they are counted together.
    fn count_held(&self, exceeded: &Exceeded, count: fn(&Quota, u64), messages: u64) {
        match exceeded.quota.scope {
            Scope::Client => count(&self.broker.quotas.clients, messages),
            Scope::Topic | Scope::Group => count(&exceeded.quota, messages),
        }
    }
}
