//! Access control at the door of one worker: what it remembers of its connections, and how a denial is answered.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use oxmq_protocol::response_code as code;
use oxmq_remoting::Connection;

use super::request::SignedRequest;
use super::{Access, Denial, Stateful};
use crate::broker::Broker;
use crate::response::Refusal;

pub(crate) struct Gate {
    broker: Arc<Broker>,
    workers: usize,
    content: RefCell<Vec<u8>>,
    vouchers: RefCell<HashMap<u64, Voucher>>,
}

/// A connection has signed as this user.
struct Voucher {
    user: String,
    /// Of the snapshot of users that said so.
    snapshot: u64,
    until: Instant,
}

impl Gate {
    /// Nothing while access is not controlled.
    pub(crate) fn of(broker: &Arc<Broker>, workers: usize) -> Option<Gate> {
        (!broker.access.is_off()).then(|| Gate {
            broker: Arc::clone(broker),
            workers: workers.max(1),
            content: RefCell::default(),
            vouchers: RefCell::default(),
        })
    }

    #[inline]
    pub(crate) fn admit(
        &self,
        connection: &Rc<Connection>,
        request: &SignedRequest<'_>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let access: &Access = &self.broker.access;
        let from = connection.peer_addr().ip().to_canonical();
        let vouched = |user: &str, snapshot: u64, is_signed: &mut dyn FnMut() -> bool| match access.stateful {
            None => is_signed(),
            Some(stateful) => {
                let now = Instant::now();
                self.is_vouched_for(connection.id(), user, snapshot, now)
                    || is_signed() && self.vouch(stateful, connection.id(), user, snapshot, now)
            }
        };
        let checked = access.check(request, body, from, &mut self.content.borrow_mut(), vouched);
        checked.map_err(|denial| {
            let user = request.get(oxmq_remoting::signing::ACCESS_KEY);
            tracing::debug!(target: "audit", request = request.code, %from, ?user, %denial, "refused");
            let code = match denial {
                Denial::Plain(_) => code::SYSTEM_ERROR,
                _ => code::NO_PERMISSION,
            };
            Refusal::new(code, denial.to_string())
        })
    }

    pub(crate) fn on_close(&self, connection: u64) {
        self.vouchers.borrow_mut().remove(&connection);
    }

    fn is_vouched_for(&self, connection: u64, user: &str, snapshot: u64, now: Instant) -> bool {
        let vouchers = self.vouchers.borrow();
        let voucher = vouchers.get(&connection);
        voucher.is_some_and(|voucher| voucher.until > now && voucher.snapshot == snapshot && voucher.user == user)
    }

    /// Remembers it if there is room. True.
    fn vouch(&self, stateful: Stateful, connection: u64, user: &str, snapshot: u64, now: Instant) -> bool {
        let mut vouchers = self.vouchers.borrow_mut();
        let voucher = Voucher {
            user: user.to_owned(),
            snapshot,
            until: now + stateful.expires,
        };
        let room = vouchers.len() < stateful.connections_max.div_ceil(self.workers);
        if room || vouchers.contains_key(&connection) {
            vouchers.insert(connection, voucher);
        }
        true
    }
}
