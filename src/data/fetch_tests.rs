use super::super::catalogue::Format;
use super::super::download::tests::{Way, serve};
use super::super::idx::tests::file;
use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

const QUIET: Voice = Voice { quiet: true };

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Incompressible labels, so that half of the gzipped file is a real half.
fn labels() -> Vec<u8> {
    let body: Vec<u8> =
        (0..100_000u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u8).collect();
    file(&[100_000], &body)
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A dataset of one file, `labels`, with these sources.
fn entry(gz: &[u8], sources: Vec<Source>) -> Entry {
    let file = DataFile {
        name: "labels",
        md5: leak(md5_hex(labels().as_slice()).unwrap()),
        bytes: labels().len() as u64,
        gz_md5: Some(leak(md5_hex(gz).unwrap())),
        embedded: None,
    };
    Entry {
        name: "toy",
        description: "a toy",
        classes: 256,
        shape: [1, 28, 28],
        counts: (100_000, 0),
        format: Format::Idx,
        files: vec![file].leak(),
        sources: sources.leak(),
    }
}

fn files_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_mirror_that_drops_the_connection_still_brings_the_file() {
    let gz = gzipped(&labels());
    let half = gz.len() / 2;
    let (address, log) = serve(gz.clone(), &[Way::Drop, Way::Ranges]);
    let toy = entry(&gz, vec![Source::Gzips(leak(address))]);
    let dir = tempfile::tempdir().unwrap();
    let report = toy.fetch(dir.path(), QUIET).unwrap();
    assert_eq!((report.brought, report.failed), (vec!["labels"], vec![]));
    assert_eq!(*log.lock().unwrap(), [("/labels.gz".to_owned(), 0), ("/labels.gz".to_owned(), half)]);
    assert_eq!(files_in(&dir.path().join("toy")), ["labels"]);
    assert_eq!(fs::read(dir.path().join("toy/labels")).unwrap(), labels());

    let again = toy.fetch(dir.path(), QUIET).unwrap();
    assert_eq!((again.brought.len(), again.source), (0, None));
    assert_eq!(log.lock().unwrap().len(), 2);
}

#[test]
fn a_later_call_continues_the_part_of_an_earlier_one() {
    let gz = gzipped(&labels());
    let half = gz.len() / 2;
    let (dead, _) = serve(gz.clone(), &[Way::Drop, Way::Lost]);
    let dir = tempfile::tempdir().unwrap();
    let error = entry(&gz, vec![Source::Gzips(leak(dead.clone()))]).fetch(dir.path(), QUIET).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch toy: tried {dead} (answered HTTP status 404); put labels (raw or with .gz) into {} \
             by hand, then `seccogc data check toy` verifies them",
            dir.path().join("toy").display()
        )
    );
    assert_eq!(files_in(&dir.path().join("toy")), ["labels.gz.part"]);

    let (address, log) = serve(gz.clone(), &[Way::Ranges]);
    entry(&gz, vec![Source::Gzips(leak(address))]).fetch(dir.path(), QUIET).unwrap();
    assert_eq!(*log.lock().unwrap(), [("/labels.gz".to_owned(), half)]);
    assert_eq!(files_in(&dir.path().join("toy")), ["labels"]);
}

#[test]
fn a_damaged_file_is_replaced_but_never_by_a_worse_one() {
    let gz = gzipped(&labels());
    let (corrupt, _) = serve(gz.clone(), &[Way::Corrupt]);
    let (good, _) = serve(gz.clone(), &[Way::Whole]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy/labels");
    fs::create_dir(dir.path().join("toy")).unwrap();
    fs::write(&path, "damaged").unwrap();

    let toy = entry(&gz, vec![Source::Gzips(leak(corrupt.clone()))]);
    let state = toy.check(dir.path()).unwrap().remove(0).state;
    assert_eq!(state.to_string(), format!("wrong (MD5 {})", md5_hex(&b"damaged"[..]).unwrap()));
    let error = toy.fetch(dir.path(), QUIET).unwrap_err().to_string();
    assert!(error.contains("the content has MD5 "), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"damaged");

    let both = vec![Source::Gzips(leak(corrupt)), Source::Gzips(leak(good.clone()))];
    let report = entry(&gz, both).fetch(dir.path(), QUIET).unwrap();
    assert_eq!((report.failed.len(), report.source), (1, Some(good)));
    assert_eq!(fs::read(&path).unwrap(), labels());
}

#[test]
fn an_archive_is_unpacked_by_file_name() {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, content) in [("folder/readme", b"hello".to_vec()), ("folder/labels", labels())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    let archive = tar.into_inner().unwrap().finish().unwrap();
    let md5 = leak(md5_hex(archive.as_slice()).unwrap());
    let (address, _) = serve(archive.clone(), &[Way::Whole]);
    let dir = tempfile::tempdir().unwrap();
    entry(&[], vec![Source::Archive(leak(address), md5)]).fetch(dir.path(), QUIET).unwrap();
    assert_eq!(files_in(&dir.path().join("toy")), ["labels"]);
    assert_eq!(fs::read(dir.path().join("toy/labels")).unwrap(), labels());
}

#[test]
fn a_host_that_is_not_there_is_given_up_quickly_and_named() {
    // Nothing listens on a port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = std::time::Instant::now();
    let source = Source::Gzips(leak(format!("http://127.0.0.1:{port}/")));
    let error = entry(&[], vec![source]).fetch(tempfile::tempdir().unwrap().path(), QUIET).unwrap_err();
    assert!(start.elapsed().as_secs() < 10);
    let error = error.to_string();
    assert!(error.starts_with(&format!("cannot fetch toy: tried http://127.0.0.1:{port}/ (")), "{error}");
    assert_eq!(error.lines().count(), 1);
}

#[test]
fn a_failing_client_is_quoted_in_one_line() {
    let here = tempfile::tempdir().unwrap();
    assert_eq!(
        run("seccogc-no-such-program", &[], here.path()).unwrap_err(),
        "seccogc-no-such-program is not on this machine"
    );
    if cfg!(unix) {
        let script = "echo notice >&2; echo 'E: no package' >&2; echo bye >&2; exit 100";
        assert_eq!(run("sh", &["-c", script], here.path()).unwrap_err(), "sh failed: E: no package");
    }
}

#[test]
fn pictures_of_the_wrong_size_do_not_become_data() {
    let pictures = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let wanted: Vec<&DataFile> = DatasetName::Cifar10.entry().unwrap().files.iter().skip(5).collect();
    let bring = || from_pictures(&wanted, pictures.path(), folder.path(), QUIET).unwrap_err();
    fs::write(pictures.path().join("test_lables.json"), "[1, 2]").unwrap();
    assert_eq!(bring(), "test_lables.json: too few labels");
    fs::write(pictures.path().join("test_lables.json"), format!("{:?}", vec![1; 10_000])).unwrap();
    let mut picture =
        png::Encoder::new(File::create(pictures.path().join("test_batch.png")).unwrap(), 1024, 1);
    picture.set_color(png::ColorType::Rgb);
    picture.write_header().unwrap().write_image_data(&[0; 3 * 1024]).unwrap();
    assert_eq!(bring(), "1024×1 (Rgb, Eight), not 1024×10000 8-bit RGB, one image a row");
    assert_eq!(files_in(folder.path()).len(), 0);
}

#[test]
fn the_embedded_dataset_is_listed_and_needs_no_fetch() {
    let dir = tempfile::tempdir().unwrap();
    let rows = list(dir.path()).unwrap();
    let states: Vec<State> = rows.iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Embedded, State::Missing, State::Missing, State::Missing]);
    assert_eq!((rows[3].train, rows[3].test, rows[3].bytes), (50_000, 10_000, 184_380_000));
    let report = fetch(DatasetName::MnistSubset, dir.path(), true).unwrap();
    assert_eq!(report.to_string(), "mnist-subset: embedded in the program, nothing to fetch");
    assert!(check(DatasetName::MnistSubset, dir.path()).unwrap().iter().all(|f| f.state == FileState::Ok));
    let missing = check(DatasetName::Mnist, dir.path()).unwrap();
    assert_eq!(missing[0].path, dir.path().join("mnist/train-images-idx3-ubyte"));
    assert_eq!(missing[0].state.to_string(), "missing");

    fs::create_dir(dir.path().join("mnist")).unwrap();
    fs::write(dir.path().join("mnist/t10k-labels-idx1-ubyte"), "damaged").unwrap();
    assert_eq!(list(dir.path()).unwrap()[1].state, State::Damaged);
}

/// Needs the network: `cargo test --release -- --ignored complete_datasets`.
#[test]
#[ignore = "downloads 220 MB"]
fn complete_datasets_are_fetched_verified_and_loaded() {
    let dir = tempfile::tempdir().unwrap();
    for name in [DatasetName::Mnist, DatasetName::FashionMnist, DatasetName::Cifar10] {
        let report = fetch(name, dir.path(), false).unwrap();
        assert_eq!(report.brought.len(), name.entry().unwrap().files.len());
        assert!(check(name, dir.path()).unwrap().iter().all(|file| file.state == FileState::Ok));
        let config = super::super::DataConfig { name, dir: Some(dir.path().into()), ..Default::default() };
        let start = std::time::Instant::now();
        let data = config.load().unwrap();
        crate::say::line(format_args!("{report}; loaded in {:?}", start.elapsed()));
        assert_eq!((data.train.len(), data.test.len()), name.entry().unwrap().counts);
    }
}
