//! Serving decoded commands: for every server whose speed is not decided by decoding.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use oxmq_protocol::{Frame, Header, RemotingCommand, RequestCode, SerializeType, response_code};

use crate::connection::Connection;
use crate::service::{CloseReason, Service};

const RESPONSE_FLAG: i32 = 1;

/// What becomes of a request.
pub enum Outcome {
    /// The opaque and the response flag are filled in.
    Reply(RemotingCommand),
    Nothing,
    Later(Pin<Box<dyn Future<Output = RemotingCommand>>>),
    /// Answered with code 3.
    Unsupported,
}

impl Outcome {
    pub fn later(reply: impl Future<Output = RemotingCommand> + 'static) -> Outcome {
        Outcome::Later(Box::pin(reply))
    }
}

impl From<RemotingCommand> for Outcome {
    fn from(reply: RemotingCommand) -> Outcome {
        Outcome::Reply(reply)
    }
}

/// Handles requests whose codes stand in the request table; all others are answered with code 3 before they get here.
pub trait CommandHandler: 'static {
    fn handle(&self, connection: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome;

    fn on_open(&self, _connection: &Rc<Connection>) {}

    fn on_close(&self, _connection: &Rc<Connection>) {}
}

/// What a reply needs to know of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    pub code: i32,
    pub opaque: i32,
    /// Replies are written as their requests were.
    pub serialize: SerializeType,
    pub oneway: bool,
    /// When the turn began that brought the request.
    pub received: Instant,
    /// The request has waited for something to happen. Whoever lets it wait says so.
    pub suspended: bool,
}

impl ReplyTo {
    pub fn of(request: &Header, serialize: SerializeType, received: Instant) -> ReplyTo {
        ReplyTo {
            code: request.code,
            opaque: request.opaque,
            serialize,
            oneway: request.is_oneway(),
            received,
            suspended: false,
        }
    }

    /// The reply as it is sent; `None` if the request was one-way.
    pub(crate) fn address(self, mut reply: RemotingCommand) -> Option<RemotingCommand> {
        reply.header.opaque = self.opaque;
        reply.header.flag |= RESPONSE_FLAG;
        (!self.oneway).then_some(reply)
    }
}

impl Connection {
    /// Answers a request, unless it was one-way.
    pub fn reply(self: &Rc<Self>, to: ReplyTo, reply: RemotingCommand) {
        self.answered(&to, reply.header.code);
        if let Some(reply) = to.address(reply) {
            self.send(&reply, to.serialize);
        }
    }

    /// Tells the service of an answer. For those that are not written by [`Connection::reply`].
    pub fn answered(&self, to: &ReplyTo, code: i32) {
        self.worker().service().on_reply(self, to, code, self.takes_output());
    }

    /// Answers a request with code 3.
    pub fn reply_unsupported(self: &Rc<Self>, to: ReplyTo) {
        let remark = format!(" request type {} not supported", to.code);
        let code = response_code::REQUEST_CODE_NOT_SUPPORTED;
        self.reply(to, RemotingCommand::response(to.opaque, code, Some(remark)));
    }
}

/// The [`Service`] around a [`CommandHandler`].
pub struct CommandService<H> {
    handler: H,
    in_flight: Rc<Cell<usize>>,
}

impl<H: CommandHandler> CommandService<H> {
    pub fn new(handler: H) -> CommandService<H> {
        CommandService {
            handler,
            in_flight: Rc::default(),
        }
    }

    fn settle(&self, connection: &Rc<Connection>, to: ReplyTo, outcome: Outcome) {
        match outcome {
            Outcome::Reply(reply) => connection.reply(to, reply),
            Outcome::Nothing => {}
            Outcome::Unsupported => connection.reply_unsupported(to),
            Outcome::Later(reply) => {
                let connection = Rc::clone(connection);
                let guards = (connection.begin_request(0), InFlight::enter(&self.in_flight));
                tokio::task::spawn_local(async move {
                    let reply = reply.await;
                    connection.reply(to, reply);
                    drop(guards);
                });
            }
        }
    }
}

impl<H: CommandHandler> Service for CommandService<H> {
    fn on_open(&self, connection: &Rc<Connection>) {
        self.handler.on_open(connection);
    }

    fn on_frame(&self, connection: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason> {
        let command = RemotingCommand::decode(frame)?;
        if command.header.is_response() {
            connection.complete(command);
            return Ok(());
        }
        let to = ReplyTo::of(&command.header, frame.serialize, connection.received());
        let outcome = match RequestCode::from_code(command.header.code) {
            Some(code) => self.handler.handle(connection, code, command),
            None => Outcome::Unsupported,
        };
        self.settle(connection, to, outcome);
        Ok(())
    }

    fn on_close(&self, connection: &Rc<Connection>) {
        self.handler.on_close(connection);
    }

    fn in_flight(&self) -> usize {
        self.in_flight.get()
    }
}

impl<H: CommandHandler> CommandHandler for std::sync::Arc<H> {
    fn handle(&self, connection: &Rc<Connection>, code: RequestCode, command: RemotingCommand) -> Outcome {
        (**self).handle(connection, code, command)
    }

    fn on_open(&self, connection: &Rc<Connection>) {
        (**self).on_open(connection);
    }

    fn on_close(&self, connection: &Rc<Connection>) {
        (**self).on_close(connection);
    }
}

/// Counts a reply that is still to come, until it is written or given up.
struct InFlight(Rc<Cell<usize>>);

impl InFlight {
    fn enter(count: &Rc<Cell<usize>>) -> InFlight {
        count.update(|count| count + 1);
        InFlight(Rc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.update(|count| count - 1);
    }
}
