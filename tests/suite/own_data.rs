//! The user's own data as a user meets it: tables and image folders that train, and one line for every
//! damage.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use seccogc::config::Config;
use seccogc::data::Dataset;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The dataset of a `[data]` section in a configuration of this folder.
    fn load(&self, data: &str) -> Result<Dataset, String> {
        let path = self.write("run.toml", format!("clients = 2\n[data]\n{data}"));
        let config = Config::load(&path, &[]).map_err(|error| self.shorten(&error.to_string()))?;
        config.data.load().map_err(|error| self.shorten(&error.to_string()))
    }

    fn refusal(&self, data: &str) -> String {
        self.load(data).err().unwrap()
    }

    /// `text` without the path of the folder.
    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn seccogc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seccogc")).args(args).output().unwrap()
}

/// Three classes of points around three centres, 60 each; the second feature has a unit a million times
/// larger.
fn blobs() -> String {
    let mut table = String::from("x,y,species\n");
    for i in 0..180 {
        let class = i % 3;
        let (a, b) = (f64::from(i * 37 % 60) / 60.0 - 0.5, f64::from(i * 53 % 60) / 60.0 - 0.5);
        let (x, y) = [(0.0, 0.0), (2.0, 1.0), (-1.0, 3.0)][class as usize];
        let species = ["setosa", "versicolor", "virginica"][class as usize];
        table += &format!("{},{},{species}\n", x + a, 1e6 * (y + b));
    }
    table
}

#[test]
fn a_table_trains_a_model_over_failing_links() {
    let folder = Folder::new();
    folder.write("flowers.csv", blobs());
    let config = "rounds = 20\nclients = 3\n[evaluation]\nevery = 20\nclient_share = 0.25\n\
        [data]\nname = \"table\"\ntrain = \"flowers.csv\"\nlabel = \"species\"\n\
        [model]\nkind = \"mlp\"\nhidden = [8, 8]\n[solver]\nkind = \"sgd\"\nlearning_rate = 0.2\nepochs = 4\n\
        [protocol]\nkind = \"sec-cogc\"\nstragglers = 1\n";
    let path = folder.write("flowers.toml", config);
    let out = folder.path("run");
    let output = seccogc(&["train", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{shown}");
    assert!(shown.starts_with("client  setosa  versicolor  virginica  total\n"), "{shown}");

    let mut rounds = csv::Reader::from_path(out.join("rounds.csv")).unwrap();
    let rows: Vec<seccogc::record::Row> = rounds.deserialize().collect::<Result<_, _>>().unwrap();
    let last = rows.last().unwrap();
    assert!(last.test_accuracy > Some(0.95), "{last:?}");
    assert!(rows[..19].iter().all(|row| row.client_accuracy_worst.is_none()));

    // The figures of the round are those of its clients, and the final line shows them.
    let mut clients = csv::Reader::from_path(out.join("clients.csv")).unwrap();
    let rows: Vec<seccogc::record::ClientRow> = clients.deserialize().collect::<Result<_, _>>().unwrap();
    let accuracies: Vec<f64> = rows.iter().filter_map(|row| row.test_accuracy).collect();
    assert_eq!((rows.len(), accuracies.len()), (60, 3));
    // 144 of 180 examples are for training, 48 a client, 12 of them held out.
    assert!(rows.iter().all(|row| row.examples == 36));
    assert!(accuracies.iter().all(|a| (a * 12.0).fract() == 0.0), "{accuracies:?}");
    let worst = accuracies.iter().copied().fold(f64::INFINITY, f64::min);
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    assert_eq!((last.client_accuracy_worst, last.client_accuracy_best), (Some(worst), Some(best)));
    let line = format!("(clients {:.2} to {:.2} %, std ", 100.0 * worst, 100.0 * best);
    assert!(shown.contains(&line), "{shown}");

    // The resolved configuration still finds the table.
    let resumed = seccogc(&["train", "--resume", out.to_str().unwrap(), "--quiet"]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
}

#[test]
fn rows_set_aside_are_a_fifth_and_the_same_for_every_run() {
    let folder = Folder::new();
    folder.write("flowers.csv", blobs());
    let section = "name = \"table\"\ntrain = \"flowers.csv\"\n";
    let data = folder.load(section).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.classes), (144, 36, 3));
    assert_eq!(data.class_names, ["setosa", "versicolor", "virginica"]);
    assert_eq!(data.train.shape(), [1, 1, 2]);
    assert_eq!(folder.load(section).unwrap().test, data.test);
    assert_ne!(folder.load(&format!("{section}test_seed = 2")).unwrap().test, data.test);
    let half = folder.load(&format!("{section}test_share = 0.5\nstandardise = false")).unwrap();
    assert_eq!((half.train.len(), half.test.len()), (90, 90));
    assert_eq!(half.normalisation.std, [1.0]);
    // The statistics are those of the training rows alone.
    let mut values = Vec::new();
    let all: Vec<usize> = (0..144).collect();
    data.train.extend_batch(&all, &data.normalisation, &mut values);
    for column in 0..2 {
        let column: Vec<f64> = values.iter().skip(column).step_by(2).map(|x| f64::from(*x)).collect();
        let mean = column.iter().sum::<f64>() / 144.0;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 144.0;
        assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4, "{mean} {variance}");
    }
}

#[test]
fn a_test_table_of_its_own_is_used_whole() {
    let folder = Folder::new();
    folder.write("train.csv", "4;1\n5;2\n6;3\n7;1\n");
    folder.write("test.csv", "8;3\n9;1\n");
    let section =
        "name = \"table\"\ntrain = \"train.csv\"\ntest = \"test.csv\"\nheader = false\ndelimiter = \";\"";
    let data = folder.load(section).unwrap();
    assert_eq!((data.train.labels(), data.test.labels()), (&[0, 1, 2, 0][..], &[2, 0][..]));
    folder.write("test.csv", "8;4\n");
    assert_eq!(folder.refusal(section), "test.csv: line 1: no training example is of class `4`");
    folder.write("test.csv", "8;9;4\n");
    assert_eq!(folder.refusal(section), "test.csv: 3 columns where the training table has 2");
    fs::remove_file(folder.path("test.csv")).unwrap();
    assert_eq!(folder.refusal(section), "test.csv: cannot read: No such file or directory (os error 2)");
}

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

fn grey(side: u32, value: u8) -> Vec<u8> {
    png(side, png::ColorType::Grayscale, png::BitDepth::Eight, &[value])
}

const IMAGES: &str = "name = \"image-folder\"\ntrain = \"flowers\"\ntest_share = 0.25\n";

/// A 4×4 JPEG of the colour (200, 100, 50), quality 95, and one of grey 77.
const ORANGE: &[u8] = include_bytes!("../data/orange.jpg");
const GREY: &[u8] = include_bytes!("../data/grey.jpg");

#[test]
fn every_kind_of_image_is_read_channel_by_channel() {
    let folder = Folder::new();
    folder.write("flowers/rose/a.png", rgb(4, [1, 2, 3]));
    let transparent = png(4, png::ColorType::Rgba, png::BitDepth::Eight, &[4, 5, 6, 128]);
    folder.write("flowers/rose/b.png", transparent);
    let deep = png(4, png::ColorType::Rgb, png::BitDepth::Sixteen, &[7, 255, 8, 255, 9, 255]);
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
    let colours = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 20, 30], [40, 40, 40], [200, 100, 50], [77, 77, 77]];
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
        "flowers: 1 class folders; a classification needs at least two, each with images"
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

#[test]
fn keys_that_a_dataset_has_no_use_for_are_refused() {
    let folder = Folder::new();
    let table = "name = \"table\"\ntrain = \"t.csv\"\n";
    for (section, want) in [
        ("name = \"table\"", "train: is missing; name the CSV file of the training examples"),
        ("name = \"image-folder\"", "train: is missing; name the folder of the training examples"),
        (
            "train = \"t.csv\"",
            "train: is for name = \"table\" and \"image-folder\", not mnist-subset; remove it",
        ),
        (
            "name = \"image-folder\"\ntrain = \"t\"\nlabel = 1",
            "label: is for name = \"table\", not image-folder; remove it",
        ),
        (
            &format!("{table}test = \"u.csv\"\ntest_share = 0.5"),
            "test_share: cannot stand beside `test`; remove one of the two",
        ),
        (&format!("{table}test_share = 1.0"), "test_share: 1 must be above 0 and below 1; try 0.2"),
        (
            &format!("{table}delimiter = \"é\""),
            "delimiter: 'é' cannot separate fields; take one ASCII character such as \";\"",
        ),
        (&format!("{table}flip = true"), "flip: a table's rows cannot be mirrored; remove it"),
        (&format!("{table}crop = 1"), "crop: a table's rows cannot be cropped; remove it"),
    ] {
        assert_eq!(folder.refusal(section), format!("run.toml: data.{want}"), "{section}");
    }
    assert_eq!(
        folder.refusal(&format!("{table}label = true")),
        "run.toml: data.label: invalid type: boolean `true`, expected the name of a column, or its number from 1"
    );
    assert_eq!(folder.refusal("crop = 28"), "crop: 28 is not below the sides of 28×28 images; try 4");
}
