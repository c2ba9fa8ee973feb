//! Reading a role's settings from a file.

use std::path::Path;

use anyhow::Context;
use oxmq_protocol::settings::Settings;
use tracing::warn;

/// Applies a properties file; what in it has no effect is said once.
pub(crate) fn load<S: Settings>(settings: &mut S, path: &Path) -> anyhow::Result<()> {
    let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    for warning in settings.load(&path.to_string_lossy(), &file)? {
        warn!("{warning}");
    }
    Ok(())
}
