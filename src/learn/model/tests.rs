use super::*;
use crate::learn::tests::{cpu, dataset, mlp, model, niid_cnn};
use crate::learn::{SolverConfig, learner};
use crate::seed::Seed;

#[test]
fn parameter_counts_are_those_of_the_literature() {
    let two_layers = ModelConfig::Mlp(MlpConfig { hidden: Hidden::Several(vec![200, 200]) });
    for (model, shape, count) in [
        // McMahan et al. 2017, section 3: "2NN" 199,210, CNN 1,663,370, CIFAR network "about 10⁶" on 24×24
        // crops.
        (&two_layers, [1, 28, 28], 199_210),
        (&model("cnn"), [1, 28, 28], 1_663_370),
        (&model("cifar-cnn"), [3, 24, 24], 1_068_298),
        // LeCun et al. 1998 with dense C3: 156 + 2,416 + 48,120 + 10,164 + 850.
        (&model("lenet5"), [1, 32, 32], 61_706),
        (&model("lenet5"), [1, 28, 28], 61_706),
        // Li et al. 2022: 156 + 2,416 + (16·4·4 + 1)·120 + 10,164 + 850, and 456 + 2,416 +
        // (16·5·5 + 1)·120 + …
        (&niid_cnn(), [1, 28, 28], 44_426),
        (&niid_cnn(), [3, 32, 32], 62_006),
        // Simonyan, Zisserman 2015: 1,792 + 73,856 + 295,168 + 590,080 + 1,180,160 + 3 · 2,359,808 and 5,130;
        // two numbers a channel of 2,752 in place of one.
        (&model("vgg11"), [3, 32, 32], 9_225_610),
        (&toml::from_str("kind = 'vgg11'\ngroups = 2").unwrap(), [3, 32, 32], 9_228_362),
        // He et al. 2016, table 1: 1,856, four units of 36,992, then 73,984 + 3 · 147,712 + 8,448,
        // 295,424 + 3 · 590,336 + 33,280, 1,180,672 + 3 · 2,360,320 + 132,096, and 5,130.
        (&model("resnet18"), [3, 32, 32], 11_173_962),
        // He et al. 2016, table 6: 0.27M.
        (&model("resnet20"), [3, 32, 32], 269_722),
        (&model("softmax"), [1, 28, 28], 7_850),
        (&mlp(200), [1, 28, 28], 159_010),
        (&model("softmax"), [3, 32, 32], 30_730),
        (&mlp(200), [3, 32, 32], 616_610),
        (&model("cnn"), [3, 32, 32], 2_156_490),
        (&model("lenet5"), [3, 32, 32], 62_006),
        (&model("cifar-cnn"), [3, 32, 32], 1_756_426),
        (&model("cifar-cnn"), [1, 28, 28], 1_384_586),
        (&model("resnet20"), [1, 28, 28], 269_434),
        // The smallest images, and sides that are neither even nor equal.
        (&model("cnn"), [1, 4, 5], 90_506),
        (&model("lenet5"), [1, 12, 13], 15_626),
        (&model("cifar-cnn"), [1, 4, 5], 229_514),
        (&model("resnet20"), [2, 8, 9], 269_578),
    ] {
        let data = dataset(4, shape, 10);
        let learner = learner(model, &SolverConfig::default(), &data, cpu()).unwrap();
        assert_eq!(learner.parameters(), count, "{} {shape:?}", model.kind());
        assert_eq!(model.size(shape, 10).unwrap(), count);
        let sizes = learner.layers().iter().map(|(_, s)| s.iter().product::<usize>()).sum::<usize>();
        assert_eq!(sizes, count);
        assert_eq!(learner.init(Seed::new(0)).len(), count);
        let layers = model.layers(shape, 10, &cpu()).unwrap();
        assert_eq!(layers.iter().map(Parameter::size).sum::<usize>(), count);
        let evaluation = learner.evaluate(&learner.init(Seed::new(0)), &data.test);
        assert!(evaluation.loss.is_finite() && evaluation.examples == 4);
    }
    let refused = mlp(usize::MAX).size([1, 28, 28], 10).unwrap_err().to_string();
    assert!(refused.starts_with("hidden: 18446744073709551615 parameters are too many"), "{refused}");
    assert!(mlp(340_000).size([1, 28, 28], 10).is_ok() && mlp(342_000).size([1, 28, 28], 10).is_err());
}

#[test]
fn hidden_layers_are_read_as_a_number_or_a_list() {
    let read = |text: &str| toml::from_str::<MlpConfig>(text);
    assert_eq!(read("hidden = [30, 20]").unwrap().hidden.units(), [30, 20]);
    assert_eq!(toml::to_string(&read("hidden = 30").unwrap()).unwrap(), "hidden = 30\n");
    for (text, want) in [
        (
            "hidden = \"wide\"",
            "invalid type: string \"wide\", expected a number of hidden units, or a list of them",
        ),
        ("hidden = -1", "the number of hidden units is negative"),
    ] {
        assert!(read(text).unwrap_err().message().contains(want), "{text}");
    }
    let check = |hidden: &str| read(hidden).unwrap().check([1, 2, 2]).unwrap_err().to_string();
    assert_eq!(check("hidden = []"), "hidden: must name at least one layer; use softmax for none");
    assert_eq!(check("hidden = [4, 0]"), "hidden: must be at least 1; set the number of hidden units");
}

#[test]
fn convolutions_refuse_images_that_are_too_small_and_tables() {
    let refusal = |kind, shape| model(kind).check(shape).unwrap_err().to_string();
    for (kind, side) in
        [("cnn", 4), ("lenet5", 12), ("cifar-cnn", 4), ("resnet20", 8), ("resnet18", 8), ("vgg11", 32)]
    {
        assert!(model(kind).check([1, side, side]).is_ok());
        for [height, width] in [[side - 1, 99], [99, side - 1], [1, 13]] {
            assert_eq!(
                refusal(kind, [1, height, width]),
                format!(
                    "kind: {kind} needs images of at least {side}×{side} pixels, not {height}×{width}; use mlp or softmax"
                )
            );
        }
    }
    assert!(niid_cnn().check([1, 16, 16]).is_ok());
    assert!(niid_cnn().check([1, 15, 16]).unwrap_err().to_string().contains("at least 16×16 pixels"));
    for (kind, groups, rule) in [
        ("resnet20", 3, "3 does not divide the 16 channels; take 1, 2, 4, 8 or 16"),
        ("resnet18", 0, "0 does not divide the 64 channels; take 1, 2, 4, 8, 16, 32 or 64"),
        ("vgg11", 128, "128 does not divide the 64 channels; take 1, 2, 4, 8, 16, 32 or 64"),
    ] {
        let model: ModelConfig = toml::from_str(&format!("kind = '{kind}'\ngroups = {groups}")).unwrap();
        assert_eq!(model.check([3, 32, 32]).unwrap_err().to_string(), format!("groups: {rule}"));
    }
}

/// In a residual block whose convolutions are 0, what comes out is the shortcut: every second pixel in the
/// first half of the channels, zeros in the rest.
#[test]
fn shortcuts_have_no_parameters() {
    let data = dataset(6, [1, 8, 8], 4);
    let learner = learner(&model("resnet20"), &SolverConfig::default(), &data, cpu()).unwrap();
    let mut weights = learner.init(Seed::new(4));
    let mut at = 0;
    let mut output = 0;
    for (name, shape) in learner.layers() {
        let size: usize = shape.iter().product();
        match name.as_str() {
            name if name.starts_with("blocks") && name.ends_with("conv.weight") => {
                weights[at..at + size].fill(0.0)
            }
            "output.weight" => output = at,
            _ => {}
        }
        at += size;
    }
    let loss = |weights: &[f32]| learner.evaluate(weights, &data.test).loss;
    let before = loss(&weights);
    // Rows 16 to 63 of the output layer belong to channels that are zero then.
    let mut changed = weights.clone();
    changed[output + 16 * 4..output + 64 * 4].fill(9.0);
    assert_eq!(loss(&changed), before);
    changed[output] += 1.0;
    assert_ne!(loss(&changed), before);
}
