//! Where a configuration's files lie.

use std::path::{Path, PathBuf};

/// The absolute form of a path that is relative to `folder`.
pub(crate) fn absolute(folder: &Path, path: &Path) -> PathBuf {
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}
