//! The Python package says the same as the crate: its version, and the configurations that come with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[test]
fn the_package_has_the_version_of_the_crate() {
    let manifest: toml::Table = fs::read_to_string("python/Cargo.toml").unwrap().parse().unwrap();
    for (key, value) in
        [("version", env!("CARGO_PKG_VERSION")), ("rust-version", env!("CARGO_PKG_RUST_VERSION"))]
    {
        assert_eq!(manifest["package"][key].as_str(), Some(value), "{key}");
    }
}

#[test]
fn the_package_brings_the_configurations() {
    let all = |folder: &str| -> BTreeMap<String, String> {
        let files = fs::read_dir(Path::new(folder)).unwrap().map(|entry| entry.unwrap().path());
        let of = |path: std::path::PathBuf| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        };
        files.filter(|path| path.extension().is_some_and(|kind| kind == "toml")).map(of).collect()
    };
    let own = all("configs");
    assert!(own.len() > 5);
    assert_eq!(own, all("python/seccogc/configs"), "copy configs/*.toml to python/seccogc/configs");
}
