//! Where a message waits until it may be consumed: on a delay level, on the timer wheel, or nowhere
//! (spec: storage.md §15, §16.1; behaviour.md §3.4).
//!
//! Decides only. [`crate::schedule`] and [`crate::timer`] deliver what waits.

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::{self, SCHEDULE_TOPIC, TIMER_TOPIC, TRANS_HALF_TOPIC};
use oxmq_protocol::{properties, property};
use oxmq_store::TagsCode;
use thiserror::Error;

use crate::broker::Broker;
use crate::topics::QUEUE_NUMS_MAX;

/// A place to wait in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Nowhere,
    /// Level 1 is the first.
    Level(u8),
    /// `out_ms` is the wanted time in steps of the wheel: the message is due behind it, and within one step.
    Timer {
        out_ms: i64,
    },
}

/// The properties by which a message asks for a delivery time of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TimerProperties<'a> {
    pub(crate) delay_sec: Option<&'a [u8]>,
    pub(crate) delay_ms: Option<&'a [u8]>,
    pub(crate) deliver_ms: Option<&'a [u8]>,
    /// It has been through the wheel.
    pub(crate) is_settled: bool,
    /// It cancels another message.
    pub(crate) cancels: bool,
}

/// Why a message may not wait as it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimerRefusal {
    #[error("accurate timer message is not enabled, timerWheelEnable is false")]
    Disabled,
    #[error(
        "timer message illegal, the delay time should not be bigger than the max delay {max_delay_ms}ms; or if set del \
         msg, the delay time should be bigger than the current time"
    )]
    Illegal { max_delay_ms: i64 },
    #[error(
        "timer message is under flow control, max num limit is {} or the current value is greater than {limit} and less \
         than {}, trigger random flow control",
        limit * 2,
        limit * 2
    )]
    Congested { limit: i64 },
}

impl Waiting {
    /// A level beyond the last one means the last one.
    pub(crate) fn on_level(level: i32, level_max: u8) -> Waiting {
        match u8::try_from(level.min(level_max.into())) {
            Ok(level @ 1..) => Waiting::Level(level),
            _ => Waiting::Nowhere,
        }
    }

    /// Topic and queue of the place.
    pub(crate) fn queue(self) -> Option<(&'static str, i32)> {
        match self {
            Waiting::Nowhere => None,
            Waiting::Level(level) => Some((SCHEDULE_TOPIC, i32::from(level) - 1)),
            Waiting::Timer { .. } => Some((TIMER_TOPIC, 0)),
        }
    }

    /// What the consume queue of the place holds of the message; `hash` is that of its tags.
    pub(crate) fn tags_code(self, hash: TagsCode) -> TagsCode {
        match self {
            Waiting::Level(level) => TagsCode::DelayLevel(level),
            Waiting::Nowhere | Waiting::Timer { .. } => hash,
        }
    }

    /// Appends the properties of a message that waits: its own without those that the way through this place replaces,
    /// and those that lead it back to where it was sent to.
    pub(crate) fn write(
        self,
        out: &mut BytesMut,
        text: &[u8],
        topic: &str,
        queue_id: i32,
        is_dropped: fn(&[u8]) -> bool,
    ) {
        for (name, value) in properties::iter(text) {
            if !is_dropped(name) && !self.replaces(name) {
                properties::write(out, name, value);
            }
        }
        match self {
            Waiting::Nowhere => return,
            Waiting::Level(level) => write_number(out, property::DELAY_TIME_LEVEL, level.into()),
            Waiting::Timer { out_ms } => write_number(out, property::TIMER_OUT_MS, out_ms),
        }
        properties::write(out, property::REAL_TOPIC.as_bytes(), topic.as_bytes());
        write_number(out, property::REAL_QUEUE_ID, queue_id.into());
    }

    fn replaces(self, name: &[u8]) -> bool {
        match self {
            Waiting::Nowhere => false,
            Waiting::Level(_) => matches!(
                name,
                b"DELAY" | b"REAL_TOPIC" | b"REAL_QID" | b"TIMER_DELIVER_MS" | b"TIMER_DELAY_SEC" | b"TIMER_DELAY_MS"
            ),
            Waiting::Timer { .. } => matches!(name, b"TIMER_OUT_MS" | b"REAL_TOPIC" | b"REAL_QID"),
        }
    }
}

impl TimerProperties<'_> {
    /// Takes a property in; false if it is none of these.
    pub(crate) fn take<'a>(seen: &mut TimerProperties<'a>, name: &[u8], value: &'a [u8]) -> bool {
        match name {
            b"TIMER_DELAY_SEC" => seen.delay_sec = Some(value),
            b"TIMER_DELAY_MS" => seen.delay_ms = Some(value),
            b"TIMER_DELIVER_MS" => seen.deliver_ms = Some(value),
            b"TIMER_OUT_MS" => seen.is_settled = true,
            b"TIMER_DEL_UNIQKEY" => seen.cancels = true,
            _ => return false,
        }
        true
    }

    fn is_wish(&self) -> bool {
        !self.is_settled && (self.delay_sec.is_some() || self.delay_ms.is_some() || self.deliver_ms.is_some())
    }

    /// The time asked for; `None` where there is no number, or a time that no clock shows.
    pub(crate) fn deliver_at(&self, now: i64) -> Option<i64> {
        if let Some(seconds) = self.delay_sec {
            return number(seconds)?.checked_mul(1000)?.checked_add(now);
        }
        match self.delay_ms {
            Some(delay_ms) => number(delay_ms)?.checked_add(now),
            None => number(self.deliver_ms?),
        }
    }

    /// Where a message goes that asks for this.
    fn decide(&self, now: i64, max_delay_ms: i64, precision_ms: i64) -> Result<Waiting, TimerRefusal> {
        let illegal = TimerRefusal::Illegal { max_delay_ms };
        let deliver_at = self.deliver_at(now).ok_or(illegal)?;
        if deliver_at <= now {
            return if self.cancels {
                Err(illegal)
            } else {
                Ok(Waiting::Nowhere)
            };
        }
        if max_delay_ms > 0 && deliver_at - now > max_delay_ms {
            return Err(illegal);
        }
        Ok(Waiting::Timer {
            out_ms: step_before(deliver_at, precision_ms),
        })
    }
}

impl Broker {
    /// Where a message waits that has these properties. `level` 0 or below means none; a level goes before a time.
    pub(crate) fn waiting(&self, level: i32, timer: &TimerProperties<'_>) -> Result<Waiting, TimerRefusal> {
        let on_level = Waiting::on_level(level, self.delay_level_max);
        if on_level != Waiting::Nowhere || !timer.is_wish() {
            return Ok(on_level);
        }
        let config = self.config();
        if !config.timer_wheel_enable {
            return Err(TimerRefusal::Disabled);
        }
        let max_delay_ms = config.timer_max_delay_sec.saturating_mul(1000);
        let place = timer.decide(self.now_ms(), max_delay_ms, self.timer_precision_ms)?;
        if let Waiting::Timer { out_ms } = place {
            let entered = self.timers.congestion.enter(out_ms);
            entered.map_err(|limit| TimerRefusal::Congested { limit })?;
        }
        Ok(place)
    }
}

/// Where a message goes that has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    pub(crate) topic: &'a str,
    pub(crate) queue_id: i32,
}

impl<'a> Origin<'a> {
    pub(crate) fn of(record: &RecordRef<'a>) -> Result<Origin<'a>, &'static str> {
        let text = |name| properties::find(record.properties(), name).and_then(|value| std::str::from_utf8(value).ok());
        let topic = text(property::REAL_TOPIC).ok_or("it has no real topic")?;
        if topic == TRANS_HALF_TOPIC {
            return Err("half messages are not delayed");
        }
        topic::validate_topic(topic).map_err(|_| "its real topic has an illegal name")?;
        let queue_id = text(property::REAL_QUEUE_ID).and_then(|id| id.parse().ok());
        let queue_id = queue_id
            .filter(|id| (0..QUEUE_NUMS_MAX).contains(id))
            .ok_or("it has no real queue")?;
        Ok(Origin { topic, queue_id })
    }
}

/// The last step of the wheel before a time: a message is due behind its slot.
fn step_before(time_ms: i64, precision_ms: i64) -> i64 {
    (time_ms - 1).div_euclid(precision_ms) * precision_ms
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn write_number(out: &mut BytesMut, name: &str, number: i64) {
    properties::write(out, name.as_bytes(), number.to_string().as_bytes());
}

/// Nothing of its own is dropped of a message of the broker.
pub(crate) fn keep_all(_: &[u8]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use oxmq_protocol::record::RecordFields;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::stored;

    const DAY_MS: i64 = 86_400_000;
    const NOW: i64 = 1_700_000_000_123;

    fn ask(name: &str, value: &str) -> Result<Waiting, TimerRefusal> {
        let mut asked = TimerProperties::default();
        assert!(TimerProperties::take(&mut asked, name.as_bytes(), value.as_bytes()));
        asked.decide(NOW, 3 * DAY_MS, 1000)
    }

    #[test]
    fn a_time_is_rounded_down_to_the_step_before_it() {
        let timer = |out_ms| Ok(Waiting::Timer { out_ms });
        assert_eq!(ask("TIMER_DELAY_SEC", "5"), timer(1_700_000_005_000));
        assert_eq!(ask("TIMER_DELAY_MS", "877"), timer(1_700_000_000_000));
        assert_eq!(ask("TIMER_DELAY_MS", "878"), timer(1_700_000_001_000));
        assert_eq!(ask("TIMER_DELIVER_MS", "1700000002000"), timer(1_700_000_001_000));
    }

    #[test]
    fn times_beyond_both_ends() {
        let illegal = Err(TimerRefusal::Illegal {
            max_delay_ms: 3 * DAY_MS,
        });
        assert_eq!(ask("TIMER_DELIVER_MS", "5"), Ok(Waiting::Nowhere));
        assert_eq!(ask("TIMER_DELAY_SEC", "0"), Ok(Waiting::Nowhere));
        assert_eq!(ask("TIMER_DELAY_SEC", "-9223372036854775807"), illegal);
        for absurd in ["259201", "9223372036854775807", "", "1.5", "x", "99999999999999999999"] {
            assert_eq!(ask("TIMER_DELAY_SEC", absurd), illegal, "{absurd}");
        }
        let far = TimerProperties {
            deliver_ms: Some(b"9223372036854775807"),
            ..TimerProperties::default()
        };
        assert!(
            matches!(far.decide(NOW, 0, 1000), Ok(Waiting::Timer { .. })),
            "no limit"
        );
        let cancel = TimerProperties {
            cancels: true,
            delay_sec: Some(b"0"),
            ..TimerProperties::default()
        };
        assert_eq!(cancel.decide(NOW, 3 * DAY_MS, 1000), illegal);
    }

    #[test]
    fn levels_end_at_the_last_one() {
        assert_eq!(Waiting::on_level(3, 18).queue(), Some((SCHEDULE_TOPIC, 2)));
        assert_eq!(Waiting::on_level(99, 18), Waiting::Level(18));
        assert_eq!(Waiting::on_level(0, 18), Waiting::Nowhere);
        assert_eq!(Waiting::on_level(-1, 18), Waiting::Nowhere);
    }

    #[test]
    fn what_leads_back_replaces_what_was_there() {
        let mut text = BytesMut::new();
        for (name, value) in [
            ("a", "b"),
            ("DELAY", "9"),
            ("REAL_TOPIC", "forged"),
            ("TIMER_DELAY_SEC", "3"),
            ("POP_CK", "forged"),
        ] {
            properties::write(&mut text, name.as_bytes(), value.as_bytes());
        }
        let written = |place: Waiting| {
            let mut out = BytesMut::new();
            place.write(&mut out, &text, "orders", 2, crate::put::is_stamped);
            String::from_utf8_lossy(&out)
                .replace('\u{1}', "=")
                .replace('\u{2}', " ")
        };
        assert_eq!(written(Waiting::Level(4)), "a=b DELAY=4 REAL_TOPIC=orders REAL_QID=2 ");
        assert_eq!(
            written(Waiting::Timer { out_ms: 1000 }),
            "a=b DELAY=9 TIMER_DELAY_SEC=3 TIMER_OUT_MS=1000 REAL_TOPIC=orders REAL_QID=2 "
        );
    }

    proptest! {
        #[test]
        fn the_step_is_before_the_time_and_less_than_a_step_away(time in 1i64..4_000_000_000_000, precision in 1i64..5000) {
            let step = step_before(time, precision);
            prop_assert!(step < time && time <= step + precision);
            prop_assert_eq!(step % precision, 0);
        }
    }

    fn check(properties: &[(&str, &str)], expected: Result<(&str, i32), &'static str>) {
        let bytes = stored(&RecordFields::new(SCHEDULE_TOPIC.as_bytes(), b"x"), properties);
        let record = RecordRef::parse(&bytes).unwrap();
        let origin = Origin::of(&record);
        assert_eq!(origin.map(|origin| (origin.topic, origin.queue_id)), expected);
    }

    #[test]
    fn a_message_goes_where_the_message_was_sent_to() {
        check(
            &[("REAL_TOPIC", "orders"), ("REAL_QID", "3"), ("DELAY", "1")],
            Ok(("orders", 3)),
        );
        check(&[("REAL_QID", "3")], Err("it has no real topic"));
        check(&[("REAL_TOPIC", "orders")], Err("it has no real queue"));
        check(
            &[("REAL_TOPIC", "orders"), ("REAL_QID", "-1")],
            Err("it has no real queue"),
        );
        check(
            &[("REAL_TOPIC", "../x"), ("REAL_QID", "3")],
            Err("its real topic has an illegal name"),
        );
        check(
            &[("REAL_TOPIC", TRANS_HALF_TOPIC), ("REAL_QID", "0")],
            Err("half messages are not delayed"),
        );
    }
}
