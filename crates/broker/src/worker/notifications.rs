//! NOTIFICATION (200054): a client asks whether there is something to pop, and may wait for it.

use std::rc::Rc;

use oxmq_protocol::requests::{NotificationHeader, NotificationReply};
use oxmq_protocol::{FieldSet, RemotingCommand, response_code as code};
use oxmq_remoting::{Connection, ReplyTo};

use super::Worker;
use super::pops::EARLY_MS;
use crate::pop::waiters::Key;
use crate::pop::{Notification, PopError};

pub(super) struct WaitingNotification {
    connection: Rc<Connection>,
    to: ReplyTo,
    pub(super) notification: Rc<Notification>,
}

impl Worker {
    pub(super) fn notification(&self, connection: &Rc<Connection>, to: ReplyTo, command: &RemotingCommand) {
        if connection.local_addr().port() != self.main_port {
            return connection.reply_unsupported(to);
        }
        let header = NotificationHeader::read(&command.header.ext_fields).map_err(PopError::from);
        let now = self.broker.now_ms();
        let checked = header.and_then(|header| Notification::check(&self.broker, header, connection.peer_addr(), now));
        let notification = match checked {
            Ok(notification) => Rc::new(notification),
            Err(error) => return self.refuse_pop(connection, to, &error),
        };
        let waiting = WaitingNotification {
            connection: Rc::clone(connection),
            to,
            notification,
        };
        match waiting.notification.has_message(&self.broker) {
            true => waiting.answer(true, false),
            false => self.wait_to_notify(waiting, false),
        }
    }

    fn wait_to_notify(&self, mut waiting: WaitingNotification, again: bool) {
        let notification = Rc::clone(&waiting.notification);
        let left_ms = notification.poll_end() - self.broker.now_ms();
        if notification.poll_time <= 0 || left_ms < EARLY_MS || self.stopping.get() {
            return waiting.answer(false, false);
        }
        let key = Key::new(
            &notification.topic.topic_name,
            &notification.group,
            notification.queue_id,
        );
        let mut notifications = self.pops.notifications.borrow_mut();
        if notifications.len() >= self.limits().total {
            return waiting.answer(false, true);
        }
        let mut queues = notification.queues(&self.broker);
        let ends: Vec<_> = queues.iter().map(|queue| queue.max_offset()).collect();
        self.add_retry_queues(&mut queues, &notification.topic.topic_name, &notification.group);
        waiting.to.suspended = true;
        let wait = self.waiting_times(left_ms, notification.blocked_until(&self.broker));
        let connection = waiting.connection.id();
        notifications.add(&key, &queues, connection, wait, again, waiting);
        drop(notifications);
        self.set_pop_timer(wait);
        let grown = queues.iter().zip(ends).any(|(queue, end)| queue.max_offset() != end);
        if grown {
            self.notify_first(&key);
        }
    }

    /// Answers the first notification under a key if there is something for it.
    pub(super) fn notify_first(&self, key: &Key) {
        let first = self.pops.notifications.borrow_mut().take_first(key);
        let Some((_, waiting)) = first else {
            return;
        };
        match waiting.notification.has_message(&self.broker) {
            true => waiting.answer(true, false),
            false => self.wait_to_notify(waiting, true),
        }
    }
}

impl WaitingNotification {
    pub(super) fn answer(&self, has_msg: bool, polling_full: bool) {
        let reply = NotificationReply { has_msg, polling_full };
        let reply = RemotingCommand::response(self.to.opaque, code::SUCCESS, None).with_fields(&reply);
        self.connection.reply(self.to, reply);
    }
}
