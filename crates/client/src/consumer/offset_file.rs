//! The file in which a broadcasting consumer keeps its offsets, as Java writes it (spec: behaviour.md §6.8).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oxmq_protocol::body::{QueueMap, ResetOffsetBody};
use oxmq_protocol::json;
use tracing::warn;

use crate::error::ClientError;

/// `<dir>/<clientId>/<group>/offsets.json`, with the one before it as `.bak`.
#[derive(Debug, Clone)]
pub(crate) struct OffsetFile {
    path: PathBuf,
}

impl OffsetFile {
    pub(crate) fn new(dir: &Path, client_id: &str, group: &str) -> OffsetFile {
        OffsetFile {
            path: dir.join(client_id).join(group).join("offsets.json"),
        }
    }

    /// Where Java keeps them too.
    pub(crate) fn default_dir() -> PathBuf {
        std::env::home_dir().unwrap_or_default().join(".rocketmq_offsets")
    }

    /// What was saved last; nothing when there are no files. Files that cannot be read are an error, because taking
    /// them for nothing would skip or repeat messages.
    pub(crate) fn load(&self) -> Result<QueueMap<i64>, ClientError> {
        match read(&self.path) {
            Ok(Some(offsets)) => return Ok(offsets),
            Ok(None) => {}
            Err(error) => warn!(path = %self.path.display(), %error, "offsets cannot be read, trying the ones before"),
        }
        let before = self.backup_path();
        read(&before)
            .map(Option::unwrap_or_default)
            .map_err(|source| offset_file_error(&before, source))
    }

    /// Replaces the file as a whole.
    pub(crate) fn save(&self, offsets: QueueMap<i64>) -> Result<(), ClientError> {
        let body = json::to_vec(&ResetOffsetBody { offset_table: offsets });
        let replace = || {
            if let Some(dir) = self.path.parent() {
                fs::create_dir_all(dir)?;
            }
            let new = self.path.with_extension("json.tmp");
            fs::write(&new, body)?;
            if self.path.exists() {
                fs::rename(&self.path, self.backup_path())?;
            }
            fs::rename(&new, &self.path)
        };
        replace().map_err(|source| offset_file_error(&self.path, source))
    }

    fn backup_path(&self) -> PathBuf {
        self.path.with_extension("json.bak")
    }
}

/// `None` when there is no file or it is empty.
fn read(path: &Path) -> io::Result<Option<QueueMap<i64>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let body: ResetOffsetBody =
        json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(body.offset_table))
}

fn offset_file_error(path: &Path, source: io::Error) -> ClientError {
    ClientError::OffsetFile {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxmq_protocol::body::MessageQueue;

    fn offsets(offset: i64) -> QueueMap<i64> {
        [(MessageQueue::new("t", "b", 3), offset)].into_iter().collect()
    }

    #[test]
    fn offsets_survive_a_restart_and_a_broken_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = OffsetFile::new(dir.path(), "127.0.0.1@DEFAULT", "g");
        assert!(file.load().unwrap().is_empty());
        file.save(offsets(1)).unwrap();
        file.save(offsets(2)).unwrap();
        assert_eq!(file.load().unwrap(), offsets(2));
        for broken in ["", "{\"offsetTab"] {
            fs::write(&file.path, broken).unwrap();
            assert_eq!(file.load().unwrap(), offsets(1), "{broken}");
        }
        fs::write(file.backup_path(), "{").unwrap();
        assert!(file.load().is_err());
    }

    #[test]
    fn the_file_of_a_java_client_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = OffsetFile::new(dir.path(), "c", "g");
        fs::create_dir_all(file.path.parent().unwrap()).unwrap();
        let java = "{\n\t\"offsetTable\":{{\n\t\t\t\"brokerName\":\"b\",\n\t\t\t\"queueId\":3,\n\t\t\t\"topic\":\"t\"\n\t\t}:123\n\t}\n}";
        fs::write(&file.path, java).unwrap();
        assert_eq!(file.load().unwrap(), offsets(123));
    }
}
