//! The seeds of the fuzz targets, played by what the targets do, without a fuzzer.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn every_target_takes_its_seeds_and_what_is_cut_from_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, target) in targets::TARGETS {
        let seeds =
            fs::read_dir(folder.join(name)).unwrap().map(|seed| fs::read(seed.unwrap().path()).unwrap());
        let seeds: Vec<Vec<u8>> = seeds.collect();
        let accepted = seeds.iter().filter(|seed| target(seed)).count();
        // Nothing that is sealed under another secret opens.
        assert_eq!(accepted > 0, name != "seal", "{name}: {accepted} of {} seeds are accepted", seeds.len());
        for seed in seeds {
            for place in 0..seed.len() {
                target(&seed[..place]);
                let mut other = seed.clone();
                other[place] ^= 0x80;
                target(&other);
            }
        }
    }
}
