//! Files that are written whole or not at all.

use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};

/// How the names of files begin that are not written yet.
pub(crate) const TEMPORARY: &str = ".seccogc-";

/// Writes a file whole or not at all: to a temporary name in the same folder, then renamed.
///
/// # Errors
/// The operating system's refusal.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    // As readable as a file made by any other program: the umask decides.
    replace(path, bytes, 0o666)
}

/// [`write_atomically`] where nothing lies yet; its folder is made.
///
/// # Errors
/// A file that exists; the operating system's refusal.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    if path.exists() {
        return Err(Error::file(path, "exists already, and is not overwritten; name another"));
    }
    write_named(path, bytes)
}

/// [`write_atomically`] where a user says; its folder is made.
///
/// # Errors
/// The operating system's refusal.
pub fn write_named(path: &Path, bytes: &[u8]) -> Result<()> {
    make_parent(path)?;
    write_atomically(path, bytes)
}

/// Makes the folder of a file, where there is none.
///
/// # Errors
/// The operating system's refusal.
pub fn make_parent(path: &Path) -> Result<()> {
    std::fs::create_dir_all(folder(path)).map_err(Error::io("create", folder(path)))
}

/// [`write_atomically`], and a power failure afterwards does not bring the old file back.
///
/// # Errors
/// The operating system's refusal.
#[cfg(feature = "deploy")]
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, 0o666)?;
    sync_folder(path)
}

/// [`write_durably`] for the owner's eyes only.
///
/// # Errors
/// The operating system's refusal.
#[cfg(feature = "deploy")]
pub fn write_secretly(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, 0o600)?;
    sync_folder(path)
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg_attr(not(unix), allow(unused_variables, reason = "permissions are of other kinds elsewhere"))]
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    let mut file = builder.tempfile_in(folder(path)).map_err(Error::io("write", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.as_file().sync_all().map_err(Error::io("write", path))?;
    file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    Ok(())
}

/// A rename is on the disk when the folder is; elsewhere folders cannot be opened as files.
#[cfg(feature = "deploy")]
fn sync_folder(path: &Path) -> Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder(path))
        .and_then(|folder| folder.sync_all())
        .map_err(Error::io("write", path))?;
    Ok(())
}
