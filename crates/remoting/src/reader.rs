//! The task of one connection: reads, cuts the bytes into frames and hands them to the service.
//!
//! Bytes are read into the worker's scratch buffer and frames are handed over from there. A connection keeps memory of
//! its own only for a frame that is cut, and grows it only as bytes arrive, whatever length the peer announces.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use oxmq_protocol::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::stream::Input;

use crate::connection::Connection;
use crate::service::CloseReason;
use crate::worker::Phase;

/// The first piece of memory for a large frame; it doubles as bytes arrive.
const LARGE_FRAME_STEP_BYTES: usize = 64 * 1024;

/// Runs until the connection ends.
pub(crate) async fn run(connection: Rc<Connection>) {
    let _finish = FinishOnDrop(Rc::clone(&connection));
    let mut reader = Reader {
        kept: BytesMut::new(),
        held: false,
        connection: &connection,
        counted: Cell::new(0),
    };
    let reason = poll_fn(|cx| reader.poll(cx)).await;
    connection.begin_close(reason);
}

/// The end of the task ends the connection, even if the service panicked on one of its frames.
struct FinishOnDrop(Rc<Connection>);

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.worker().finish(&self.0);
    }
}

struct Reader<'a> {
    connection: &'a Rc<Connection>,
    /// Bytes that were read and not handed over: a frame that is cut, or what was held back by congestion.
    kept: BytesMut,
    /// `kept` may start with a whole frame.
    held: bool,
    /// How much of `kept` stands in the worker's sum.
    counted: Cell<usize>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.kept.clear();
        self.count_kept();
    }
}

impl Reader<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.connection.set_task(cx.waker());
        // Waiting for the socket to take output does not keep its input from being read.
        let _: Poll<()> = self.connection.poll_blocked(cx);
        loop {
            if let Some(reason) = self.connection.close_reason() {
                return Poll::Ready(reason);
            }
            match self.connection.worker().phase.get() {
                Phase::Serving if self.connection.is_paused() => return Poll::Pending,
                Phase::Serving => {}
                Phase::Draining => return Poll::Pending,
                Phase::Lingering => return self.poll_discard(cx),
            }
            let step = if self.held {
                self.deliver_kept()
            } else {
                ready!(self.poll_read(cx))
            };
            match step {
                Ok(Step::More) => {}
                // The rest of this connection's bytes is for the next turn: the others have theirs first.
                Ok(Step::Yield) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(reason) => return Poll::Ready(reason),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, CloseReason>> {
        match announced_bytes(&self.kept) {
            Some(bytes) if bytes > self.connection.worker().config.read_buffer_bytes / 2 => {
                self.poll_read_large(cx, bytes)
            }
            _ => self.poll_read_scratch(cx),
        }
    }

    /// Reads into the scratch buffer, behind what was kept.
    fn poll_read_scratch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, CloseReason>> {
        let worker = Rc::clone(self.connection.worker());
        let mut scratch = worker.scratch.borrow_mut();
        let kept_bytes = self.kept.len();
        scratch[..kept_bytes].copy_from_slice(&self.kept);
        let mut space = ReadBuf::new(&mut scratch[kept_bytes..]);
        let read = ready!(Pin::new(&mut Input(self.connection)).poll_read(cx, &mut space));
        let filled = space.remaining() == 0;
        let end = kept_bytes + space.filled().len();
        if let Err(error) = read {
            return Poll::Ready(self.failed(error));
        }
        if end == kept_bytes {
            return Poll::Ready(Err(CloseReason::Peer));
        }
        self.connection.mark_active();
        let taken = match self.deliver(&scratch[..end]) {
            Ok(taken) => taken,
            Err(reason) => return Poll::Ready(Err(reason)),
        };
        self.keep(&scratch[taken..end]);
        Poll::Ready(Ok(if filled { Step::Yield } else { Step::More }))
    }

    /// Reads on into the frame that is kept, up to its end.
    fn poll_read_large(&mut self, cx: &mut Context<'_>, frame_bytes: usize) -> Poll<Result<Step, CloseReason>> {
        let worker = self.connection.worker();
        let missing = frame_bytes - self.kept.len();
        if self.kept.capacity() - self.kept.len() < missing.min(LARGE_FRAME_STEP_BYTES) {
            if worker.input_bytes.get() > worker.config.worker_in_bytes_max {
                return Poll::Ready(Err(CloseReason::InputMemory));
            }
            self.kept
                .reserve(missing.min(self.kept.len().max(LARGE_FRAME_STEP_BYTES)));
        }
        let read = {
            let mut space = (&mut self.kept).limit(missing);
            ready!(pin!(Input(self.connection).read_buf(&mut space)).poll(cx))
        };
        match read {
            Ok(0) => Poll::Ready(Err(CloseReason::Peer)),
            Ok(count) => {
                self.connection.mark_active();
                self.count_kept();
                if count < missing {
                    return Poll::Ready(Ok(Step::More));
                }
                Poll::Ready(self.deliver_kept().map(|_| Step::Yield))
            }
            Err(error) => Poll::Ready(self.failed(error)),
        }
    }

    fn deliver_kept(&mut self) -> Result<Step, CloseReason> {
        let kept = std::mem::take(&mut self.kept);
        self.held = false;
        let taken = self.deliver(&kept)?;
        self.keep(&kept[taken..]);
        self.connection.worker().buffers.give_back(kept);
        Ok(Step::More)
    }

    /// Hands over the complete frames of `bytes` until they end or the connection is congested; how many bytes they
    /// took.
    fn deliver(&mut self, bytes: &[u8]) -> Result<usize, CloseReason> {
        let worker = self.connection.worker();
        let service = worker.service();
        let mut taken = 0;
        while let Some((frame, frame_bytes)) = Frame::peek(&bytes[taken..])? {
            if taken == 0 {
                worker.begin_turn();
            }
            service.on_frame(self.connection, frame)?;
            taken += frame_bytes;
            if let Some(reason) = self.connection.close_reason() {
                return Err(reason);
            }
            if self.connection.is_congested() {
                self.connection.pause();
                self.held = true;
                break;
            }
        }
        Ok(taken)
    }

    /// Makes `bytes` what is kept.
    fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.connection
                .worker()
                .buffers
                .give_back(std::mem::take(&mut self.kept));
        } else {
            if self.kept.capacity() == 0 {
                self.kept = self.connection.worker().buffers.take();
            }
            self.kept.clear();
            self.kept.extend_from_slice(bytes);
        }
        self.count_kept();
    }

    /// Brings the worker's sum of kept bytes up to date.
    fn count_kept(&self) {
        let counted = self.counted.replace(self.kept.len());
        let sum = &self.connection.worker().input_bytes;
        sum.set(sum.get() - counted + self.kept.len());
    }

    /// Throws away what still comes, until the peer closes.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let worker = self.connection.worker();
        let mut scratch = worker.scratch.borrow_mut();
        loop {
            let mut space = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut Input(self.connection)).poll_read(cx, &mut space)) {
                Ok(()) if !space.filled().is_empty() => {}
                _ => return Poll::Ready(CloseReason::Shutdown),
            }
        }
    }

    fn failed(&self, error: io::Error) -> Result<Step, CloseReason> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(Step::More),
            kind => Err(error.downcast().unwrap_or(CloseReason::Io(kind))),
        }
    }
}

enum Step {
    More,
    Yield,
}

/// The length of the frame at the start of `bytes`, as it says itself, once that can be read. [`Frame::peek`] has
/// accepted it.
fn announced_bytes(bytes: &[u8]) -> Option<usize> {
    let (length, _) = bytes.split_first_chunk::<4>()?;
    Some(u32::from_be_bytes(*length) as usize + 4)
}
