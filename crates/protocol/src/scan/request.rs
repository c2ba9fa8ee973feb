//! The fields of the hot requests, gathered one by one in whatever order and form they come.

use super::text::RawText;
use super::{ScannedRequest, Unscanned};
use crate::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2};

/// The fields of 10, and of 310 and 320 under their one-letter names.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ScannedSend<'a> {
    pub producer_group: RawText<'a>,
    pub topic: RawText<'a>,
    pub default_topic: RawText<'a>,
    pub default_topic_queue_nums: i32,
    pub queue_id: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub flag: i32,
    pub properties: Option<RawText<'a>>,
    pub reconsume_times: Option<i32>,
    pub unit_mode: bool,
    pub max_reconsume_times: Option<i32>,
    pub batch: bool,
}

/// The fields of 11 and 361.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ScannedPull<'a> {
    pub consumer_group: RawText<'a>,
    pub topic: RawText<'a>,
    pub queue_id: i32,
    pub queue_offset: i64,
    pub max_msg_nums: i32,
    pub sys_flag: i32,
    pub commit_offset: i64,
    pub suspend_timeout_millis: i64,
    pub subscription: Option<RawText<'a>>,
    pub sub_version: i64,
    pub expression_type: Option<RawText<'a>>,
    pub max_msg_bytes: Option<i32>,
    pub request_source: Option<i32>,
    /// Whether the queue id may be one of a static topic's logical queues.
    pub lo: Option<bool>,
}

/// What [`crate::Header::decode`] reads takes the same way from here on as what was scanned.
macro_rules! from_send_header {
    ($($header:ty),*) => {$(
        impl<'a> From<&'a $header> for ScannedSend<'a> {
            fn from(header: &'a $header) -> ScannedSend<'a> {
                ScannedSend {
                    producer_group: header.producer_group.as_str().into(),
                    topic: header.topic.as_str().into(),
                    default_topic: header.default_topic.as_str().into(),
                    default_topic_queue_nums: header.default_topic_queue_nums,
                    queue_id: header.queue_id,
                    sys_flag: header.sys_flag,
                    born_timestamp: header.born_timestamp,
                    flag: header.flag,
                    properties: header.properties.as_deref().map(RawText::from),
                    reconsume_times: header.reconsume_times,
                    unit_mode: header.unit_mode,
                    max_reconsume_times: header.max_reconsume_times,
                    batch: header.batch,
                }
            }
        }
    )*};
}
from_send_header!(SendMessageHeader, SendMessageHeaderV2);

impl<'a> From<&'a PullMessageHeader> for ScannedPull<'a> {
    fn from(header: &'a PullMessageHeader) -> ScannedPull<'a> {
        ScannedPull {
            consumer_group: header.consumer_group.as_str().into(),
            topic: header.topic.as_str().into(),
            queue_id: header.queue_id,
            queue_offset: header.queue_offset,
            max_msg_nums: header.max_msg_nums,
            sys_flag: header.sys_flag,
            commit_offset: header.commit_offset,
            suspend_timeout_millis: header.suspend_timeout_millis,
            subscription: header.subscription.as_deref().map(RawText::from),
            sub_version: header.sub_version,
            expression_type: header.expression_type.as_deref().map(RawText::from),
            max_msg_bytes: header.max_msg_bytes,
            request_source: header.request_source,
            lo: header.lo,
        }
    }
}

/// Takes the fields of one kind of request.
pub(super) trait Gather<'a>: Default {
    fn set(&mut self, name: &[u8], value: RawText<'a>) -> Result<(), Unscanned>;
    /// The request, when every field that must be there was.
    fn finish(self) -> Result<ScannedRequest<'a>, Unscanned>;
}

/// Runs `$body` with `$gather` bound to the gatherer of a request code.
macro_rules! with_gatherer {
    ($code:expr, $gather:ident => $body:expr) => {
        match $code {
            310 | 320 => {
                type $gather<'a> = crate::scan::request::GatherSend<'a, true>;
                $body
            }
            10 => {
                type $gather<'a> = crate::scan::request::GatherSend<'a, false>;
                $body
            }
            11 | 361 => {
                type $gather<'a> = crate::scan::request::GatherPull<'a>;
                $body
            }
            _ => Err(Unscanned),
        }
    };
}
pub(super) use with_gatherer;

/// `SHORT`: names of one letter, as in 310 and 320.
#[derive(Default)]
pub(super) struct GatherSend<'a, const SHORT: bool> {
    send: ScannedSend<'a>,
    /// A bit per letter that has come.
    seen: u32,
}

/// The letters `a` to `h` must be there.
const SEND_REQUIRED: u32 = 0xFF;

impl<'a, const SHORT: bool> Gather<'a> for GatherSend<'a, SHORT> {
    #[inline(always)]
    fn set(&mut self, name: &[u8], value: RawText<'a>) -> Result<(), Unscanned> {
        let letter = match SHORT {
            true => match name {
                [letter] => *letter,
                _ => return Ok(()),
            },
            false => short_name(name),
        };
        let send = &mut self.send;
        match letter {
            b'a' => send.producer_group = value,
            b'b' => send.topic = value,
            b'c' => send.default_topic = value,
            b'd' => send.default_topic_queue_nums = value.int()?,
            b'e' => send.queue_id = value.int()?,
            b'f' => send.sys_flag = value.int()?,
            b'g' => send.born_timestamp = value.number()?,
            b'h' => send.flag = value.int()?,
            b'i' => send.properties = Some(value),
            b'j' => send.reconsume_times = Some(value.int()?),
            b'k' => send.unit_mode = value.truth()?,
            b'l' => send.max_reconsume_times = Some(value.int()?),
            b'm' => send.batch = value.truth()?,
            _ => return Ok(()),
        }
        self.seen |= 1 << (letter - b'a');
        Ok(())
    }

    #[inline(always)]
    fn finish(self) -> Result<ScannedRequest<'a>, Unscanned> {
        match self.seen & SEND_REQUIRED == SEND_REQUIRED {
            true => Ok(ScannedRequest::Send(self.send)),
            false => Err(Unscanned),
        }
    }
}

/// The letter under which 310 sends a field of 10.
fn short_name(name: &[u8]) -> u8 {
    match name {
        b"producerGroup" => b'a',
        b"topic" => b'b',
        b"defaultTopic" => b'c',
        b"defaultTopicQueueNums" => b'd',
        b"queueId" => b'e',
        b"sysFlag" => b'f',
        b"bornTimestamp" => b'g',
        b"flag" => b'h',
        b"properties" => b'i',
        b"reconsumeTimes" => b'j',
        b"unitMode" => b'k',
        b"maxReconsumeTimes" => b'l',
        b"batch" => b'm',
        _ => 0,
    }
}

#[derive(Default)]
pub(super) struct GatherPull<'a> {
    pull: ScannedPull<'a>,
    /// A bit per required field that has come.
    seen: u32,
}

const PULL_REQUIRED: u32 = 0x1FF;

impl<'a> Gather<'a> for GatherPull<'a> {
    fn set(&mut self, name: &[u8], value: RawText<'a>) -> Result<(), Unscanned> {
        let pull = &mut self.pull;
        let required = match name {
            b"consumerGroup" => {
                pull.consumer_group = value;
                0
            }
            b"topic" => {
                pull.topic = value;
                1
            }
            b"queueId" => {
                pull.queue_id = value.int()?;
                2
            }
            b"queueOffset" => {
                pull.queue_offset = value.number()?;
                3
            }
            b"maxMsgNums" => {
                pull.max_msg_nums = value.int()?;
                4
            }
            b"sysFlag" => {
                pull.sys_flag = value.int()?;
                5
            }
            b"commitOffset" => {
                pull.commit_offset = value.number()?;
                6
            }
            b"suspendTimeoutMillis" => {
                pull.suspend_timeout_millis = value.number()?;
                7
            }
            b"subVersion" => {
                pull.sub_version = value.number()?;
                8
            }
            b"subscription" => {
                pull.subscription = Some(value);
                return Ok(());
            }
            b"expressionType" => {
                pull.expression_type = Some(value);
                return Ok(());
            }
            b"maxMsgBytes" => {
                pull.max_msg_bytes = Some(value.int()?);
                return Ok(());
            }
            b"requestSource" => {
                pull.request_source = Some(value.int()?);
                return Ok(());
            }
            b"lo" => {
                pull.lo = Some(value.truth()?);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.seen |= 1 << required;
        Ok(())
    }

    fn finish(self) -> Result<ScannedRequest<'a>, Unscanned> {
        match self.seen == PULL_REQUIRED {
            true => Ok(ScannedRequest::Pull(self.pull)),
            false => Err(Unscanned),
        }
    }
}
