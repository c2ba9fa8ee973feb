//! Everything that is no hot request, and what comes back from the read threads.

use std::cell::Cell;
use std::rc::Rc;

use oxmq_protocol::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2};
use oxmq_protocol::{FieldError, FieldSet, Frame, RemotingCommand, RequestCode, response_code};
use oxmq_remoting::{CloseReason, Connection, ReplyTo};
use oxmq_store::GetError;

use super::loads::Kept;
use super::{AWAY_REPLY_BYTES, Away, Worker};
use crate::handlers::{self, Outcome};
use crate::pop::PopError;
use crate::pull::{PullError, PullRequest};
use crate::read_threads::{Done, Lane, ThreadTimes, Work};
use crate::response::{OVERLOAD, Refusal};
use crate::send::SendRequest;
use crate::slow_requests::Names;
use crate::transactions::end::EndError;

impl Worker {
    pub(super) fn command(&self, connection: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason> {
        let command = RemotingCommand::decode(frame)?;
        if command.header.is_response() {
            connection.complete(command);
            return Ok(());
        }
        let to = ReplyTo::of(&command.header, frame.serialize, connection.received());
        match RequestCode::from_code(to.code) {
            None => connection.reply_unsupported(to),
            Some(code @ (RequestCode::SendMessage | RequestCode::SendMessageV2 | RequestCode::SendBatchMessage)) => {
                match send_header(code, &command) {
                    Ok(header) => {
                        let request = SendRequest::of_header(&header);
                        if self.hold_send(connection, to, &frame, &request) {
                            return Ok(());
                        }
                        self.send(connection, to, command.header.version, &request, frame.body);
                    }
                    Err(error) => self.refuse_send(connection, to, &error.into()),
                }
            }
            Some(RequestCode::PullMessage | RequestCode::LitePullMessage) => {
                match PullMessageHeader::read(&command.header.ext_fields) {
                    Ok(header) => self.pull(connection, to, &PullRequest::new(to.code, &(&header).into())),
                    Err(error) => self.refuse_pull(connection, to, &error.into()),
                }
            }
            Some(code @ (RequestCode::SendReplyMessage | RequestCode::SendReplyMessageV2)) => {
                match send_header(code, &command) {
                    Ok(header) => self.reply_message(connection, to, header, command.body),
                    Err(error) => self.refuse_send(connection, to, &error.into()),
                }
            }
            Some(RequestCode::EndTransaction) => self.end_transaction(connection, to, &command),
            Some(RequestCode::PopMessage) => self.pop(connection, to, &command),
            Some(RequestCode::AckMessage) => self.ack(connection, to, &command),
            Some(RequestCode::BatchAckMessage) => self.batch_ack(connection, to, &command),
            Some(RequestCode::ChangeMessageInvisibleTime) => self.change_invisible_time(connection, to, &command),
            Some(RequestCode::Notification) => self.notification(connection, to, &command),
            Some(code) => self.handle(connection, to, code, command, frame),
        }
        Ok(())
    }

    fn handle(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        code: RequestCode,
        command: RemotingCommand,
        frame: Frame<'_>,
    ) {
        match handlers::handle(&self.context(connection), code, command) {
            Outcome::Reply(reply) => connection.reply(to, reply),
            Outcome::Unsupported => connection.reply_unsupported(to),
            Outcome::Offload(work) => {
                let work: Work = Box::new(move |broker| Done::Command(work(broker)));
                let away = Away::Command(connection.begin_request(AWAY_REPLY_BYTES), to, Names::of(frame));
                self.hand_over(Lane::Commands, away, work);
            }
            Outcome::Change(work) => {
                let work: Work = Box::new(move |broker| Done::Changed(work(broker)));
                let away = Away::Command(connection.begin_request(AWAY_REPLY_BYTES), to, Names::of(frame));
                self.hand_over(Lane::Commands, away, work);
            }
            Outcome::Later(reply) => {
                let request = connection.begin_request(0);
                self.answer_later(async move { request.connection().reply(to, reply.await) });
            }
        }
    }

    /// Runs what answers a request, which is in flight meanwhile.
    pub(super) fn answer_later(&self, answer: impl Future<Output = ()> + 'static) {
        let counted = Counted::enter(&self.later);
        tokio::task::spawn_local(async move {
            answer.await;
            drop(counted);
        });
    }

    pub(super) fn hand_over(&self, lane: Lane, away: Away, work: Work) {
        let ticket = self.away.borrow_mut().insert(away);
        if self.read_queue.submit(lane, self.id, ticket, work) {
            return;
        }
        match self.away.borrow_mut().remove(ticket) {
            Away::Pull(request, pull) => self.refuse_pull(request.connection(), pull.to, &PullError::Overload),
            Away::Pop(request, to, _) => self.refuse_pop(request.connection(), to, &PopError::Overload),
            Away::Command(request, to, _) | Away::Kept(Kept { request, to, .. }) => {
                let refusal = Refusal::new(response_code::SYSTEM_BUSY, OVERLOAD);
                request.connection().reply(to, refusal.into_command(to.opaque));
            }
            Away::End(request, to, ..) => self.refuse_end(request.connection(), to, &EndError::Overload),
        }
    }

    pub(super) fn came_back(&self, ticket: usize, done: Done, times: ThreadTimes) {
        let away = self.away.borrow_mut().try_remove(ticket);
        if let Some(away) = &away {
            self.note_away(away, times);
        }
        match (away, done) {
            (Some(Away::Command(request, to, _)), Done::Changed(reply)) => {
                let saved = self.broker.saver.saved();
                let announced = self.broker.registration.announced();
                self.answer_later(async move {
                    let reply = match saved.await {
                        Ok(()) => reply,
                        Err(error) => handlers::unsaved(&error).into_command(to.opaque),
                    };
                    announced.await;
                    request.connection().reply(to, reply);
                });
            }
            (Some(Away::Kept(kept)), Done::Loaded(is_readable)) => self.loaded(&kept, is_readable),
            (Some(Away::Command(request, to, _)), Done::Command(reply)) => request.connection().reply(to, reply),
            (Some(Away::End(request, to, header, outcome)), Done::Half(read)) => match read {
                Ok(record) => self.end_found(request.connection(), to, &header, outcome, record),
                Err(error) => self.refuse_end(request.connection(), to, &EndError::Read(error.to_string())),
            },
            (Some(Away::Pop(request, to, pop)), Done::Pop(collected)) if collected.is_cold() => {
                self.read_elsewhere(request, to, pop, Lane::Disk);
            }
            (Some(Away::Pop(request, to, pop)), Done::Pop(collected)) => {
                self.collected(request.connection(), to, pop, *collected, true);
            }
            (Some(Away::Pull(request, pull)), Done::Pull(got, messages)) => match got {
                Ok(got) if pull.may_wait(&self.reply(&pull, &got)) => self.wait(request.connection(), pull, &got),
                Ok(got) => self.answer(request.connection(), &pull, &got, &messages),
                Err(GetError::WouldBlock) => self.send_away(request, pull, Lane::Disk),
                Err(error) => self.refuse_pull(request.connection(), pull.to, &PullError::Read(error.to_string())),
            },
            _ => unreachable!("a ticket comes back once, with what it was given for"),
        }
    }
}

/// The header of a send, under long names or those of one letter.
fn send_header(code: RequestCode, command: &RemotingCommand) -> Result<SendMessageHeader, FieldError> {
    let fields = &command.header.ext_fields;
    match code {
        RequestCode::SendMessage | RequestCode::SendReplyMessage => SendMessageHeader::read(fields),
        _ => SendMessageHeaderV2::read(fields).map(SendMessageHeader::from),
    }
}

/// Counts a request for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn enter(count: &Rc<Cell<usize>>) -> Counted {
        count.set(count.get() + 1);
        Counted(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
