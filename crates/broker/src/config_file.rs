//! One JSON file below `config/`, read and written as a whole (spec: storage.md §18.1).
//!
//! Reading accepts what a Java broker writes; a damaged file falls back to its `.bak`. Writing blocks until the file is
//! durable, so it never happens on an event loop.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oxmq_protocol::json;
use oxmq_store::disk::Disk;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

#[derive(Debug, Clone)]
pub struct ConfigFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl ConfigFile {
    pub fn new(disk: &Arc<dyn Disk>, path: impl Into<PathBuf>) -> ConfigFile {
        ConfigFile {
            disk: Arc::clone(disk),
            path: path.into(),
        }
    }

    /// The contents, or `None` when there is no readable file.
    pub fn load<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        oxmq_store::config_file::load(&*self.disk, &self.path, |bytes| {
            json::from_slice(bytes)
                .inspect_err(|error| tracing::warn!(path = %self.path.display(), %error, "cannot read the file"))
                .ok()
        })
    }

    pub fn save<T: Serialize>(&self, contents: &T) -> io::Result<()> {
        oxmq_store::config_file::save(&*self.disk, &self.path, &json::to_vec(contents))
    }
}

/// How often something changed, and how far that was saved. Changes during a save stay unsaved.
#[derive(Debug, Default)]
pub(crate) struct Unsaved {
    changes: AtomicU64,
    saved: Mutex<u64>,
    changed: Notify,
}

impl Unsaved {
    pub(crate) fn mark(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits for a change after the last one that was waited for. For one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Runs `save` unless everything is saved. One save at a time: a second caller waits and then finds nothing to do.
    pub(crate) fn save(&self, save: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut saved = self.saved.lock();
        let changes = self.changes.load(Ordering::Acquire);
        if *saved != changes {
            save()?;
            *saved = changes;
        }
        Ok(())
    }
}

#[cfg(test)]
impl ConfigFile {
    /// A file on the real disk.
    pub(crate) fn in_folder(folder: &std::path::Path, name: &str) -> ConfigFile {
        let disk: Arc<dyn Disk> = Arc::new(oxmq_store::disk::RealDisk);
        ConfigFile::new(&disk, folder.join(name))
    }
}
