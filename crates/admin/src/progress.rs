//! How far a command is that asks for many things one after the other: a bar on standard error, on a terminal only, and
//! only for what takes longer than a moment.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// What is over before that needs no bar.
const MOMENT: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_millis(100);
const WIDTH: usize = 30;

/// The items, with a bar that shows how many have been taken. It goes when they are dropped.
pub(crate) fn followed<I>(what: &'static str, items: I) -> Followed<I::IntoIter>
where
    I: IntoIterator<IntoIter: ExactSizeIterator>,
{
    let items = items.into_iter();
    Followed {
        bar: io::stderr().is_terminal().then(|| Bar {
            what,
            total: items.len(),
            next: Instant::now() + MOMENT,
            length: 0,
        }),
        items,
    }
}

pub(crate) struct Followed<I> {
    items: I,
    bar: Option<Bar>,
}

struct Bar {
    what: &'static str,
    total: usize,
    /// When it is shown next.
    next: Instant,
    /// Of what stands there.
    length: usize,
}

impl<I: ExactSizeIterator> Iterator for Followed<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let left = self.items.len();
        if let Some(bar) = &mut self.bar
            && Instant::now() >= bar.next
        {
            let line = line(bar.what, bar.total - left, bar.total);
            eprint!("\r{line}");
            bar.length = line.len();
            bar.next = Instant::now() + INTERVAL;
        }
        self.items.next()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.length > 0 {
            eprint!("\r{:1$}\r", "", self.length);
        }
    }
}

fn line(what: &str, done: usize, total: usize) -> String {
    let filled = done * WIDTH / total.max(1);
    format!("[{:<WIDTH$}] {done} of {total} {what}", "=".repeat(filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_its_part() {
        assert_eq!(line("topics", 0, 0), format!("[{}] 0 of 0 topics", " ".repeat(30)));
        let wanted = format!("[{}{}] 50 of 150 topics", "=".repeat(10), " ".repeat(20));
        assert_eq!(line("topics", 50, 150), wanted);
        assert_eq!(line("x", 3, 3), format!("[{}] 3 of 3 x", "=".repeat(30)));
    }

    #[test]
    fn all_items_come_whether_a_bar_is_shown_or_not() {
        let mut items = followed("numbers", 0..5);
        items.bar = Some(Bar {
            what: "numbers",
            total: 5,
            next: Instant::now(),
            length: 0,
        });
        assert!(items.eq(0..5));
    }
}
