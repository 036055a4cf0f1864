//! A folder for every user, with a subfolder of images per class in it: `users/NAME/CLASS/`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Users;
use super::moments::Moments;
use crate::data::image_folder::{Pictures, bits_in_use, entries, name};
use crate::data::table::check_classes;
use crate::data::{Examples, Normalisation};
use crate::{Error, Result};

/// Users with folders of images of one size, which are decoded when their client trains.
pub(in crate::data) struct Folders {
    users: Vec<(PathBuf, u32)>,
    classes: Vec<String>,
    /// The first user's images, whose size all have.
    leads: Pictures,
    grey: bool,
    bits: u32,
    normalisation: Normalisation,
    digest: [u8; 32],
}

impl std::fmt::Debug for Folders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folders").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Folders {
    /// Looks at every image twice: which colours and bits they have decides how they are seen. 16-bit values
    /// use `bits`, or as many as the largest of them.
    pub fn survey(path: &Path, bits: Option<u32>) -> Result<Self> {
        let folders: Vec<PathBuf> = entries(path)?.into_iter().filter(|entry| entry.is_dir()).collect();
        let mut classes = BTreeSet::new();
        for folder in &folders {
            classes.extend(entries(folder)?.iter().filter(|entry| entry.is_dir()).map(|entry| name(entry)));
        }
        let classes: Vec<String> = classes.into_iter().collect();
        check_classes(&classes).map_err(|problem| {
            Error::file(path, format!("{problem}; put images into folders NAME/CLASS/"))
        })?;
        let mut leads: Option<Pictures> = None;
        let (mut users, mut grey, mut used) = (Vec::new(), true, None);
        for folder in folders {
            if !holds_images(&folder)? {
                continue;
            }
            let pictures = Pictures::read(&folder, &classes, leads.as_ref())?;
            grey &= pictures.are_grey();
            used = used.max(pictures.bits());
            users.push((folder, pictures.len() as u32));
            leads.get_or_insert(pictures);
        }
        let Some(leads) = leads else {
            return Err(Error::file(path, "no image; put PNG or JPEG files into folders NAME/CLASS/"));
        };
        let leads = leads.first();
        let bits = bits_in_use(bits, used, path);
        let normalisation = Normalisation::identity(1);
        let mut own = Self { users, classes, leads, grey, bits, normalisation, digest: [0; 32] };
        let (mut moments, mut digest) = (Moments::new(if grey { 1 } else { 3 }), Sha256::new());
        for user in 0..own.users.len() {
            let examples = own.read(user)?;
            moments.add(&examples);
            digest.update(examples.digest());
        }
        (own.normalisation, own.digest) = (moments.normalisation(), digest.finalize().into());
        Ok(own)
    }

    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// The examples of several users one after another.
    pub fn gather(&self, mut users: impl Iterator<Item = usize>) -> Result<Examples> {
        let mut all = match users.next() {
            Some(first) => self.read(first)?,
            None => return Ok(self.read(0)?.subset(&[])),
        };
        for user in users {
            all.append(&self.read(user)?)?;
        }
        Ok(all)
    }
}

fn holds_images(folder: &Path) -> Result<bool> {
    for class in entries(folder)? {
        if !entries(&class)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Users for Folders {
    fn number(&self) -> usize {
        self.users.len()
    }

    fn count(&self, user: usize) -> usize {
        self.users[user].1 as usize
    }

    fn read(&self, user: usize) -> Result<Examples> {
        let (folder, rows) = &self.users[user];
        let examples =
            Pictures::read(folder, &self.classes, Some(&self.leads))?.examples(self.grey, self.bits)?;
        match examples.len() == *rows as usize {
            true => Ok(examples),
            false => Err(Error::file(folder, "the images have changed since the run began")),
        }
    }

    fn digest(&self) -> [u8; 32] {
        self.digest
    }
}
