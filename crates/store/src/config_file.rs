//! Whole files that must never be found half written: the JSON files below `config/` (spec: storage.md §18.1).

use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, RealDisk};

/// What `accept` makes of the file, or of its `.bak` when the file is missing, empty or refused; `None` when there is
/// neither, or nothing in them. Where contents are refused and there is no other version it is an error: they are not to be
/// taken for nothing.
pub fn load<T>(disk: &dyn Disk, path: &Path, accept: impl Fn(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let mut passed_over = None;
    let mut is_damaged = false;
    for candidate in [path.to_path_buf(), with_suffix(path, ".bak")] {
        let bytes = match read_all(disk, &candidate) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // What a power cut leaves of a file that was not flushed.
        let is_empty = bytes.iter().all(|byte| *byte == 0);
        if let Some(value) = (!is_empty).then(|| accept(&bytes)).flatten() {
            if candidate != path {
                tracing::error!(path = %candidate.display(), instead_of = %path.display(), "the version before is used");
            }
            return Ok(Some(value));
        }
        tracing::error!(path = %candidate.display(), bytes = bytes.len(), "this file is damaged and cannot be used");
        is_damaged |= !is_empty;
        passed_over.get_or_insert(candidate);
    }
    match passed_over.filter(|_| is_damaged) {
        None => Ok(None),
        Some(damaged) => {
            let message = format!(
                "{} is damaged, and there is no version before it that could be used: restore it, or remove it to begin \
                 with nothing",
                damaged.display()
            );
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
    }
}

/// Replaces the file: temporary file, flush, previous version kept as `.bak`, rename, flush of the directory.
///
/// Between the two renames the file does not exist and `.bak` holds the previous version, which `load` then takes.
pub fn save(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    if !disk.exists(dir) {
        create_dir_durably(disk, dir)?;
    }
    let temporary = with_suffix(path, ".tmp");
    let file = disk.create(&temporary)?;
    file.write_all_at(&[IoSlice::new(bytes)], 0)?;
    file.sync_data()?;
    if disk.exists(path) {
        disk.rename(path, &with_suffix(path, ".bak"))?;
    }
    disk.rename(&temporary, path)?;
    disk.sync_dir(dir)
}

/// The same on the real disk, for files that may hold secrets: whoever could not read the old file cannot read the new one.
pub fn save_as_readable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Ok(old) = fs::metadata(path) {
        let temporary = fs::File::create(with_suffix(path, ".tmp"))?;
        temporary.set_permissions(old.permissions())?;
    }
    save(&RealDisk, path, bytes)
}

/// Creates a directory and makes its name, and those of parents that were missing too, survive a power cut.
pub(crate) fn create_dir_durably(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|ancestor| !disk.exists(ancestor)).collect();
    let created = disk.create_dir_all(dir).and_then(|()| {
        let mut parents = missing.iter().rev().filter_map(|created| created.parent());
        parents.try_for_each(|parent| disk.sync_dir(parent))
    });
    if created.is_err() {
        // Found there, it would be taken for durable.
        for created in missing {
            let _ = disk.remove_dir(created);
        }
    }
    created
}

fn read_all(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; file.len()? as usize];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    fn text(bytes: &[u8]) -> Option<String> {
        let text = String::from_utf8(bytes.to_vec()).ok()?;
        text.starts_with('{').then_some(text)
    }

    #[test]
    fn the_previous_version_is_used_when_the_file_is_damaged() {
        let disk = SimulatedDisk::new();
        let path = Path::new("/store/config/topics.json");
        assert_eq!(load(&disk, path, text).unwrap(), None);
        save(&disk, path, b"{1}").unwrap();
        save(&disk, path, b"{2}").unwrap();
        assert_eq!(load(&disk, path, text).unwrap().as_deref(), Some("{2}"));
        disk.create(path).unwrap();
        assert_eq!(load(&disk, path, text).unwrap().as_deref(), Some("{1}"));
    }

    #[test]
    fn damage_without_another_version_is_not_taken_for_nothing() {
        let disk = SimulatedDisk::new();
        let path = Path::new("/store/config/topics.json");
        save(&disk, path, b"?").unwrap();
        assert_eq!(load(&disk, path, text).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // A power cut under a broker that does not flush its files.
        for empty in [&b""[..], &[0; 70]] {
            save(&disk, path, empty).unwrap();
            disk.remove_file(Path::new("/store/config/topics.json.bak")).unwrap();
            assert_eq!(load(&disk, path, text).unwrap(), None);
        }
    }

    #[test]
    fn a_file_that_others_may_not_read_stays_so() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.conf");
        save_as_readable(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        save_as_readable(&path, b"two").unwrap();
        for (path, text) in [(path.clone(), b"two"), (with_suffix(&path, ".bak"), b"one")] {
            assert_eq!(fs::read(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_saved_file_survives_a_power_cut_at_any_operation() {
        let path = Path::new("/store/config/topics.json");
        for stop in 0.. {
            for seed in 0..8 {
                let disk = SimulatedDisk::new();
                save(&disk, path, b"{1}").unwrap();
                disk.stop_after(stop);
                let saved = save(&disk, path, b"{2}").is_ok();
                let after = disk.crash(seed);
                let found = load(&after, path, text).unwrap().unwrap();
                assert!(
                    found == "{2}" || (found == "{1}" && !saved),
                    "stop {stop} seed {seed}: {found}"
                );
                if saved && seed == 7 {
                    return;
                }
            }
        }
    }
}
