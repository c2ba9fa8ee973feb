//! Small files that survive a power cut: written beside, synced, renamed, with the previous version kept as `.bak`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Replaces the file; creates its folder on first use.
pub(crate) fn save(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    match fs::read(path) {
        Ok(previous) => replace(&backup_of(path), path, &previous)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    replace(path, path, contents)?;
    File::open(folder)?.sync_all()
}

/// The file beside `path` that has its previous version.
pub(crate) fn backup_of(path: &Path) -> PathBuf {
    with_suffix(path, ".bak")
}

/// Whoever cannot read `like` cannot read the new file: settings may be secrets.
fn replace(path: &Path, like: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = with_suffix(path, ".tmp");
    let mut file = File::create(&temporary)?;
    if let Ok(like) = fs::metadata(like) {
        file.set_permissions(like.permissions())?;
    }
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_previous_version_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/kvConfig.json");
        for contents in ["one", "two", "three"] {
            save(&path, contents.as_bytes()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert_eq!(
            fs::metadata(backup_of(&path)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read(backup_of(&path)).unwrap(), b"two");
    }
}
