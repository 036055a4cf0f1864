//! `seccogc attack`.

use super::*;

#[test]
fn attacks_refuse_examples_that_they_cannot_compare() {
    let folder = Folder::new();
    let out = folder.path("out");
    let refusal =
        |set: &str| refusal(&["attack", "configs/attack.toml", "--quiet", "--set", set, "--out", &out]);
    assert_eq!(
        refusal("data.flip=true"),
        "error: data.flip: the attacks work on unchanged images; remove it"
    );
    assert_eq!(
        refusal("model.hidden=[20,20]"),
        "error: model.hidden: the inversion is for one hidden layer; take a number instead of a list"
    );
}
