//! Compiled expressions by their text, so that a request that brings its own is compiled once and not with every pull.
//! Expressions that do not compile are kept as well: they are asked for again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use oxmq_filter::{CompileError, Expression};
use parking_lot::RwLock;

/// As in the original.
const EXPRESSIONS_MAX: usize = 100;
/// Sum of their texts; what is compiled takes some ten times as much.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

pub(crate) type Compiled = Result<Arc<Expression>, CompileError>;

#[derive(Debug, Default)]
pub(crate) struct ExpressionCache {
    state: RwLock<State>,
    /// Counts uses.
    clock: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    table: HashMap<String, Entry>,
    text_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    compiled: Compiled,
    used: AtomicU64,
}

impl ExpressionCache {
    pub(crate) fn compile(&self, text: &str) -> Compiled {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(entry) = self.state.read().table.get(text) {
            entry.used.store(now, Ordering::Relaxed);
            return entry.compiled.clone();
        }
        let compiled = Expression::compile(text).map(Arc::new);
        let mut state = self.state.write();
        state.insert(text, compiled.clone(), now);
        compiled
    }
}

impl State {
    fn insert(&mut self, text: &str, compiled: Compiled, now: u64) {
        if text.len() > TEXT_BYTES_MAX / 4 || self.table.contains_key(text) {
            return;
        }
        while self.table.len() >= EXPRESSIONS_MAX || self.text_bytes + text.len() > TEXT_BYTES_MAX {
            let used = |entry: &Entry| entry.used.load(Ordering::Relaxed);
            let oldest = self.table.iter().min_by_key(|(_, entry)| used(entry));
            let Some(oldest) = oldest.map(|(text, _)| text.clone()) else {
                break;
            };
            self.table.remove(&oldest);
            self.text_bytes -= oldest.len();
        }
        self.text_bytes += text.len();
        let used = AtomicU64::new(now);
        self.table.insert(text.to_owned(), Entry { compiled, used });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_leaves() {
        let cache = ExpressionCache::default();
        let kept = cache.compile("a = 1").unwrap();
        let refused = cache.compile("a >").unwrap_err();
        for number in 0..EXPRESSIONS_MAX * 3 {
            cache.compile(&format!("b = {number}")).unwrap();
            assert!(Arc::ptr_eq(&kept, &cache.compile("a = 1").unwrap()));
        }
        assert_eq!(cache.compile("a >").unwrap_err(), refused);
        assert_eq!(cache.state.read().table.len(), EXPRESSIONS_MAX);
    }

    #[test]
    fn long_texts_are_bounded_together() {
        let cache = ExpressionCache::default();
        for number in 0..50 {
            cache.compile(&format!("b = '{number}{}'", "x".repeat(60_000))).unwrap();
        }
        cache.compile(&"(".repeat(10_000_000)).unwrap_err();
        let state = cache.state.read();
        let bytes: usize = state.table.keys().map(String::len).sum();
        assert_eq!(bytes, state.text_bytes);
        assert!(bytes <= TEXT_BYTES_MAX && state.table.len() > 10);
    }
}
