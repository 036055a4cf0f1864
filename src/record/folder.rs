//! Folders for results: free ones, empty ones, and whose they are.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::make_parent;
use crate::error::{Error, Result};

/// The file in a run directory that the process which writes it holds locked.
const LOCK: &str = ".seccogc-lock";

/// Creates an empty folder, or takes one that is empty.
///
/// # Errors
/// A folder that holds something, or that cannot be created or written.
pub fn claim(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    let mut entries = fs::read_dir(path).map_err(Error::io("read", path))?;
    if entries.next().is_some() {
        return Err(Error::file(
            path,
            "the output folder is not empty; name another with --out, or go on in it with --resume",
        ));
    }
    Ok(())
}

/// Takes the folder of a run for this process, until the file is closed.
pub(super) fn lock(path: &Path) -> Result<File> {
    let name = path.join(LOCK);
    let file = OpenOptions::new().create(true).append(true).open(&name).map_err(Error::io("write", &name))?;
    match file.try_lock() {
        // Some network file systems know no locks; nobody is kept from working there.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::file(path, "another process is writing this run; wait until it ends, or stop it"))
        }
    }
}

/// `base`, `base-2`, `base-3`, …
fn names(base: &Path) -> impl Iterator<Item = PathBuf> {
    let numbered = (2u32..).map(|n| {
        let mut name = base.as_os_str().to_owned();
        name.push(format!("-{n}"));
        PathBuf::from(name)
    });
    std::iter::once(base.to_owned()).chain(numbered)
}

/// Makes the first of `base`, `base-2`, `base-3`, … that does not exist. Processes that ask at the same time
/// get different folders.
///
/// # Errors
/// A folder that cannot be created.
pub fn free_folder(base: &Path) -> Result<PathBuf> {
    make_parent(base)?;
    for path in names(base) {
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create", path)(error)),
        }
    }
    Err(Error::file(base, "every numbered name is taken; give a folder with --out"))
}

/// The last of `base`, `base-2`, `base-3`, … before the first that does not exist.
#[must_use]
pub fn last_name(base: &Path) -> Option<PathBuf> {
    names(base).take_while(|path| path.exists()).last()
}
