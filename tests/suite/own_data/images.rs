//! Image folders as a user meets them.

use std::fs;

use super::{Folder, seccogc};

/// A PNG of `side` × `side` pixels of one colour.
fn png(side: u32, colour: png::ColorType, depth: png::BitDepth, pixel: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == png::ColorType::Indexed {
        encoder.set_palette(vec![0, 0, 0, 10, 20, 30]);
    }
    let pixels = pixel.repeat((side * side) as usize);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

fn rgb(side: u32, pixel: [u8; 3]) -> Vec<u8> {
    png(side, png::ColorType::Rgb, png::BitDepth::Eight, &pixel)
}

pub fn grey(side: u32, value: u8) -> Vec<u8> {
    png(side, png::ColorType::Grayscale, png::BitDepth::Eight, &[value])
}

const IMAGES: &str = "name = \"image-folder\"\ntrain = \"flowers\"\ntest_share = 0.25\n";

/// A 4×4 JPEG of the colour (200, 100, 50), quality 95, and one of grey 77.
const ORANGE: &[u8] = include_bytes!("../../data/orange.jpg");
const GREY: &[u8] = include_bytes!("../../data/grey.jpg");

/// A photograph of a camera that lay on its side, as its EXIF data says (orientation 6).
const TURNED: &[u8] = include_bytes!("../../data/turned.jpg");

#[test]
fn every_kind_of_image_is_read_channel_by_channel() {
    let folder = Folder::new();
    folder.write("flowers/rose/a.png", rgb(4, [1, 2, 3]));
    let transparent = png(4, png::ColorType::Rgba, png::BitDepth::Eight, &[4, 5, 6, 128]);
    folder.write("flowers/rose/b.png", transparent);
    let deep = png(4, png::ColorType::Rgb, png::BitDepth::Sixteen, &[7, 255, 8, 255, 255, 255]);
    folder.write("flowers/rose/c.PNG", deep);
    folder.write("flowers/tulip/d.png", png(4, png::ColorType::Indexed, png::BitDepth::Eight, &[1]));
    folder.write("flowers/tulip/e.png", grey(4, 40));
    folder.write("flowers/tulip/f.jpg", ORANGE);
    folder.write("flowers/tulip/g.jpeg", GREY);
    folder.write("flowers/.thumbnails/x", "not seen");
    folder.write("test/tulip/a.png", grey(4, 9));
    let data = folder.load("name = \"image-folder\"\ntrain = \"flowers\"\ntest = \"test\"").unwrap();
    assert_eq!(data.class_names, ["rose", "tulip"]);
    assert_eq!(data.train.shape(), [3, 4, 4]);
    assert_eq!(data.train.labels(), [0, 0, 0, 1, 1, 1, 1]);
    let colours =
        [[1, 2, 3], [4, 5, 6], [7, 8, 255], [10, 20, 30], [40, 40, 40], [200, 100, 50], [77, 77, 77]];
    for (i, colour) in colours.into_iter().enumerate() {
        for (plane, value) in data.train.pixels(i).chunks(16).zip(colour) {
            // JPEG is lossy; a plain colour is off by rounding only.
            let tolerance = if i >= 5 { 2 } else { 0 };
            assert!(plane.iter().all(|pixel| pixel.abs_diff(value) <= tolerance), "image {i}: {plane:?}");
        }
    }
    assert_eq!((data.test.labels(), data.test.pixels(0)), (&[1][..], &[9; 48][..]));
}

#[test]
fn grey_folders_have_one_channel_and_train() {
    let folder = Folder::new();
    for i in 0..10 {
        folder.write(&format!("flowers/dark/{i}.png"), grey(5, 10 + i));
        folder.write(&format!("flowers/light/{i}.png"), grey(5, 200 + i));
    }
    let data = folder.load(IMAGES).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (15, 5));
    assert_eq!(data.train.shape(), [1, 5, 5]);
    let config = format!(
        "rounds = 10\nclients = 2\n[data]\n{IMAGES}flip = true\ncrop = 1\n[model]\nkind = \"cnn\"\n\
         [protocol]\nkind = \"ideal\"\n"
    );
    let path = folder.write("flowers.toml", config);
    let out = folder.path("run");
    let args = ["train", path.to_str().unwrap(), "--out", out.to_str().unwrap(), "--csv", "--quiet"];
    let output = seccogc(&args);
    let table = String::from_utf8(output.stdout).unwrap();
    let last: seccogc::record::Row =
        csv::Reader::from_reader(table.as_bytes()).deserialize().last().unwrap().unwrap();
    assert_eq!(last.test_accuracy, Some(1.0), "{table}");
}

#[test]
fn every_damage_of_an_image_folder_is_one_line() {
    let refusal_after = |change: &dyn Fn(&Folder)| {
        let folder = Folder::new();
        folder.write("flowers/rose/a.png", rgb(4, [1, 2, 3]));
        folder.write("flowers/tulip/b.png", rgb(4, [4, 5, 6]));
        change(&folder);
        folder.refusal(IMAGES)
    };
    let remove = |folder: &Folder, name: &str| fs::remove_dir_all(folder.path(name)).unwrap();
    assert_eq!(
        refusal_after(&|folder| drop(folder.write("flowers/tulip/c.png", grey(3, 1)))),
        "flowers/tulip/c.png: 3×3 pixels, but 4×4 in flowers/rose/a.png; bring all images to one size, for example with `mogrify -resize 4x4!`"
    );
    assert_eq!(
        refusal_after(&|folder| drop(folder.write("flowers/rose/notes.txt", "about roses"))),
        "flowers/rose/notes.txt: not a .png, .jpg or .jpeg file; remove it from the folder"
    );
    assert_eq!(
        refusal_after(&|folder| drop(folder.write("flowers/readme", "about flowers"))),
        "flowers/readme: not a folder; put every image into the folder of its class"
    );
    assert_eq!(
        refusal_after(&|folder| remove(folder, "flowers/rose")),
        "flowers: 1 class folder; a classification needs at least two, each with images"
    );
    assert_eq!(
        refusal_after(&|folder| {
            remove(folder, "flowers/rose");
            remove(folder, "flowers/tulip");
            fs::create_dir_all(folder.path("flowers/rose")).unwrap();
            fs::create_dir_all(folder.path("flowers/tulip")).unwrap();
        }),
        "flowers: no image; put PNG or JPEG files into the folders of the classes"
    );
    assert_eq!(
        refusal_after(&|folder| remove(folder, "flowers")),
        "flowers: cannot read: No such file or directory (os error 2)"
    );
    for (name, bytes) in [("x.png", &rgb(4, [1, 2, 3])[..]), ("x.jpg", ORANGE)] {
        for damaged in [&bytes[..bytes.len() / 2], &bytes[..bytes.len() - 20], b"no image at all", b""] {
            let line = refusal_after(&|folder| drop(folder.write(&format!("flowers/rose/{name}"), damaged)));
            let start = format!("flowers/rose/{name}: damaged image (");
            assert!(line.starts_with(&start) && line.lines().count() == 1, "{line}");
        }
    }
}

/// EXIF data with an orientation.
fn exif(orientation: u8) -> Vec<u8> {
    [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], b"\0\0\0\0\0\0"].concat()
}

/// A grey PNG of 2×3 pixels with this orientation; its values are 10, 20, …, 60.
fn turned_png(orientation: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut info = png::Info::with_size(2, 3);
    info.exif_metadata = Some(exif(orientation).into());
    let encoder = png::Encoder::with_info(&mut bytes, info).unwrap();
    encoder.write_header().unwrap().write_image_data(&[10, 20, 30, 40, 50, 60]).unwrap();
    bytes
}

#[test]
fn images_stand_as_their_exif_data_says() {
    let folder = Folder::new();
    folder.write("flowers/rose/a.png", turned_png(6));
    folder.write("flowers/tulip/b.png", turned_png(8));
    folder.write("flowers/tulip/c.png", turned_png(5));
    folder.write("flowers/tulip/d.png", turned_png(7));
    let section = "name = \"image-folder\"\ntrain = \"flowers\"\ntest = \"flowers\"";
    let data = folder.load(section).unwrap();
    assert_eq!(data.train.shape(), [1, 2, 3]);
    let shown: Vec<&[u8]> = (0..4).map(|i| data.train.pixels(i)).collect();
    // Of the rows 10 20, 30 40 and 50 60.
    assert_eq!(shown[0], [50, 30, 10, 60, 40, 20]);
    assert_eq!(shown[1], [20, 40, 60, 10, 30, 50]);
    assert_eq!(shown[2], [10, 30, 50, 20, 40, 60]);
    assert_eq!(shown[3], [60, 40, 20, 50, 30, 10]);

    // The same photograph without its EXIF data lies on its side.
    let start = TURNED.windows(2).position(|marker| marker == [0xff, 0xe1]).unwrap();
    let length = usize::from(u16::from_be_bytes([TURNED[start + 2], TURNED[start + 3]]));
    let lying = [&TURNED[..start], &TURNED[start + 2 + length..]].concat();
    let folder = Folder::new();
    for (name, bytes) in [("flowers/rose/a.jpg", TURNED), ("lilies/rose/a.jpg", &lying)] {
        folder.write(name, bytes);
        folder.write(&name.replace("rose", "tulip"), bytes);
    }
    let read = |name| folder.load(&section.replace("flowers", name)).unwrap().train;
    let (upright, lying) = (read("flowers"), read("lilies"));
    let [channels, height, width] = lying.shape();
    assert_eq!(upright.shape(), [channels, width, height]);
    let plane = height * width;
    for i in 0..channels * plane {
        let (channel, x, y) = (i / plane, i % height, i % plane / height);
        let source = channel * plane + (height - 1 - x) * width + y;
        assert_eq!(upright.pixels(0)[i], lying.pixels(0)[source], "{channel} {x} {y}");
    }
    assert_ne!(upright.pixels(0), lying.pixels(0));
}

/// What a run over a folder of two classes warns of.
fn warnings(folder: &Folder, keys: &str) -> Vec<String> {
    let config = format!(
        "rounds = 1\nclients = 2\n[data]\nname = \"image-folder\"\ntrain = \"flowers\"\n{keys}\n[protocol]\nkind = \"ideal\"\n"
    );
    let path = folder.write("warn.toml", config);
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("run");
    let output = seccogc(&["train", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let shown = folder.shorten(&String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{shown}");
    shown.lines().filter_map(|line| line.trim().strip_prefix("WARN ")).map(str::to_owned).collect()
}

#[test]
fn sixteen_bits_are_scaled_by_those_that_are_used() {
    let deep = |value: u16| png(4, png::ColorType::Grayscale, png::BitDepth::Sixteen, &value.to_be_bytes());
    let folder = Folder::new();
    for i in 0..3 {
        folder.write(&format!("flowers/dark/{i}.png"), deep(0x0100 + i));
        folder.write(&format!("flowers/light/{i}.png"), deep(0x0fff - i));
    }
    folder.write("test/dark/a.png", deep(0x0200));
    folder.write("test/light/a.png", deep(0x1fff));
    let section = "name = \"image-folder\"\ntrain = \"flowers\"\ntest = \"test\"\n";
    let data = folder.load(section).unwrap();
    assert_eq!((data.train.pixels(0)[0], data.train.pixels(3)[0]), (0x10, 0xff));
    // The test images are scaled like the training images.
    assert_eq!((data.test.pixels(0)[0], data.test.pixels(1)[0]), (0x20, 0xff));
    let all = folder.load(&format!("{section}bits = 16")).unwrap();
    assert_eq!((all.train.pixels(0)[0], all.train.pixels(3)[0]), (0x01, 0x0f));
    let doubt = "flowers: 16-bit images that use 12 bits are scaled by these; data.bits = 12 says so";
    assert_eq!(warnings(&folder, ""), [doubt]);
    assert!(warnings(&folder, "bits = 12").is_empty());
}

#[test]
fn transparency_and_twins_are_told() {
    let clear = |alpha| png(4, png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, &[9, alpha]);
    let folder = Folder::new();
    for i in 0..3 {
        folder.write(&format!("flowers/rose/{i}.png"), clear(255));
        folder.write(&format!("flowers/Rose/{i}.png"), clear(if i < 2 { 0 } else { 255 }));
    }
    let twins =
        "flowers: classes that differ in writing only: `Rose` and `rose`; write them alike if they are one";
    let clear = "flowers: 2 of 6 images transparent in places; the colours are taken as they are stored";
    assert_eq!(warnings(&folder, ""), [twins, clear]);
}

#[test]
fn the_parts_of_a_dataset_are_no_classes() {
    let folder = Folder::new();
    for name in ["pets/train/cat/a.png", "pets/train/dog/b.png", "pets/Test/cat/a.png"] {
        folder.write(name, grey(4, 1));
    }
    let section = "name = \"image-folder\"\ntrain = \"pets\"\n";
    assert_eq!(
        folder.refusal(section),
        "pets: holds parts of a dataset, not classes; take data.train = \"pets/train\", data.test = \"pets/Test\""
    );
    fs::remove_dir_all(folder.path("pets/Test")).unwrap();
    assert_eq!(
        folder.refusal(section),
        "pets: holds parts of a dataset, not classes; take data.train = \"pets/train\""
    );
    // Images of trains may well be a class.
    let vehicles = Folder::new();
    vehicles.write("pets/train/a.png", grey(4, 1));
    vehicles.write("pets/bus/a.png", grey(4, 1));
    assert_eq!(vehicles.load(section).unwrap().class_names, ["bus", "train"]);
    vehicles.write("pets/bus/old/a.png", grey(4, 1));
    assert_eq!(
        vehicles.refusal(section),
        "pets/bus/old: a folder within that of a class; put images into the folder of their class itself"
    );
}

/// A PNG that says it has this size, and nothing else.
fn claims(side: u32) -> Vec<u8> {
    let mut bytes = grey(4, 1);
    let sides = [side.to_be_bytes(), side.to_be_bytes()].concat();
    bytes[16..24].copy_from_slice(&sides);
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    bytes
}

#[test]
fn huge_images_are_refused_before_memory_is_taken() {
    let folder = Folder::new();
    folder.write("flowers/rose/a.png", claims(1_000_000));
    folder.write("flowers/tulip/b.png", claims(1_000_000));
    let refusal = folder.refusal(IMAGES);
    let start = "flowers: 2 images of 1000000×1000000 pixels would take ";
    let end = " are free; make them smaller or fewer";
    assert!(refusal.starts_with(start) && refusal.ends_with(end), "{refusal}");
    folder.write("flowers/rose/a.png", grey(4, 1));
    let refusal = folder.refusal(IMAGES);
    assert!(refusal.starts_with("flowers/tulip/b.png: 1000000×1000000 pixels, but 4×4 in "), "{refusal}");
}

#[cfg(unix)]
#[test]
fn names_do_not_reach_the_terminal_raw() {
    let folder = Folder::new();
    folder.write("flowers/\u{1b}[2Jrose/a.png", grey(4, 1));
    folder.write("flowers/tulip/\u{1b}]0;x\u{7}.png", "no image");
    let path =
        folder.write("raw.toml", format!("clients = 2\n[data]\n{IMAGES}[protocol]\nkind = \"ideal\"\n"));
    let out = folder.path("run");
    let args = ["train", path.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let refused = seccogc(&args);
    let shown = String::from_utf8(refused.stderr).unwrap();
    assert!(shown.contains("flowers/tulip/\\u{1b}]0;x\\u{7}.png: damaged image ("), "{shown}");
    assert_eq!((refused.status.code(), shown.lines().count()), (Some(2), 1), "{shown}");
    fs::remove_dir_all(folder.path("flowers/tulip")).unwrap();
    folder.write("flowers/tulip/a.png", grey(4, 9));
    folder.write("flowers/tulip/b.png", grey(4, 9));
    let output = seccogc(&args);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && shown.contains("\\u{1b}[2Jrose"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn a_test_folder_must_fit_the_training_folder() {
    let folder = Folder::new();
    folder.write("flowers/rose/a.png", rgb(4, [1, 2, 3]));
    folder.write("flowers/tulip/b.png", rgb(4, [4, 5, 6]));
    folder.write("test/lily/a.png", rgb(4, [1, 2, 3]));
    let section = "name = \"image-folder\"\ntrain = \"flowers\"\ntest = \"test\"";
    assert_eq!(
        folder.refusal(section),
        "test/lily: no training images are of this class; name it like a training folder"
    );
    fs::remove_dir_all(folder.path("test/lily")).unwrap();
    folder.write("test/rose/a.png", rgb(5, [1, 2, 3]));
    assert_eq!(
        folder.refusal(section),
        "test/rose/a.png: 5×5 pixels, but 4×4 in flowers/rose/a.png; bring all images to one size, for example with `mogrify -resize 4x4!`"
    );
}
