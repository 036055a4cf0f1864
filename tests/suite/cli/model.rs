//! `seccogc model`.

use super::*;

#[test]
fn models_are_shown_with_layers_and_counts() {
    let text = |args: &[&str]| {
        let output = seccogc(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let two_layers = ["--set", "model.hidden=[200,200]"];
    assert_eq!(
        text(&[&["model", "show", "configs/mnist.toml"][..], &two_layers].concat()),
        "mlp on mnist-subset: 1×28×28 → 10 classes\n\n\
         | layer    | kind   | shapes                   | parameters |\n\
         |:---------|:-------|:-------------------------|-----------:|\n\
         | hidden.0 | Linear | weight 784×200, bias 200 |    157,000 |\n\
         | hidden.1 | Linear | weight 200×200, bias 200 |     40,200 |\n\
         | output   | Linear | weight 200×10, bias 10   |      2,010 |\n\n\
         199,210 parameters, 0.80 MB as 32-bit numbers\n"
    );
    // The data need not be there.
    let resnet =
        text(&["model", "show", "--kind", "resnet20", "--data", "cifar10", "--data-dir", "/nowhere"]);
    assert!(resnet.starts_with("resnet20 on cifar10: 3×32×32 → 10 classes\n"), "{resnet}");
    assert!(resnet.ends_with("\n269,722 parameters, 1.08 MB as 32-bit numbers\n"), "{resnet}");
    let list = text(&["model", "list"]);
    // Embedding 640, 4 · 256 · (8 + 256 + 2) and 4 · 256 · (2 · 256 + 2), 257 · 80.
    let lstm = 640 + 272_384 + 526_336 + 20_560;
    assert_eq!(lstm, 819_920);
    for (kind, counts) in [
        ("lenet5", ["61,706", "62,006", "–"]),
        ("cnn", ["1,663,370", "2,156,490", "–"]),
        ("resnet18", ["11,172,810", "11,173,962", "–"]),
        ("vgg11", ["–", "9,225,610", "–"]),
        ("char-lstm", ["–", "–", "819,920"]),
        ("gru", ["–", "–", "63,952"]),
    ] {
        let line = list.lines().find(|line| line.starts_with(&format!("| {kind} ")));
        let cells: Vec<&str> = line.unwrap().split('|').map(str::trim).collect();
        assert_eq!(cells[2..5], counts, "{list}");
    }
    assert_eq!(list.lines().count(), 2 + 10);

    let folder = Folder::new();
    let table = folder.file("own.toml", "[data]\nname = \"table\"\ntrain = \"own.csv\"");
    folder.file("own.csv", "x,y,class\n1,2,a\n2,3,b\n3,4,c\n");
    assert!(
        text(&["model", "show", &table, "--kind", "softmax"])
            .starts_with("softmax on table: 1×1×2 → 3 classes\n")
    );
    assert_eq!(
        refusal(&["model", "show", &table, "--kind", "lenet5"]),
        "error: model.kind: lenet5 needs images of at least 12×12 pixels, not 1×2; use mlp or softmax"
    );
}
