use super::*;
use crate::data::{Augmentation, Response};
use crate::learn::{Learner, ModelConfig, SgdConfig, SolverConfig, learner};
use crate::seed::Seed;

const FEATURES: [f64; 8] = [0.5, -1.0, 2.0, 0.25, -0.75, 1.5, 1.0, 1.0];

/// Four examples of two features with two responses each.
fn dataset(response: Response, responses: &[f64], scale: Normalisation) -> Dataset {
    let rows = Examples::of_features(FEATURES.to_vec(), vec![0; 4], 2).unwrap();
    let train = rows.with_responses(responses.to_vec(), 2).unwrap();
    Dataset {
        name: "own",
        response,
        classes: 2,
        class_names: vec!["a".into(), "b".into()],
        scale,
        test: train.clone(),
        train,
        normalisation: Normalisation::identity(1),
        augmentation: Augmentation::default(),
        users: None,
    }
}

/// One step along the whole gradient, at rate 1, of a linear model.
fn step(data: &Dataset) -> (Box<dyn Learner>, Vec<f32>, Vec<f32>, f64) {
    let solver = SgdConfig { learning_rate: 1.0, batch_size: 4, steps: Some(1), ..SgdConfig::default() };
    let model: ModelConfig = toml::from_str("kind = \"softmax\"").unwrap();
    let learner = learner(&model, &SolverConfig::Sgd(solver), data, "cpu".parse().unwrap()).unwrap();
    let start = learner.init(Seed::new(5));
    let update = learner.train(&start, &data.train, &[0, 1, 2, 3], Seed::new(1));
    (learner, start, update.delta, update.loss)
}

/// What the linear model of these weights tells of an example.
fn told(weights: &[f32], i: usize, output: usize) -> f64 {
    let weight = |feature: usize| f64::from(weights[2 * feature + output]) * FEATURES[2 * i + feature];
    weight(0) + weight(1) + f64::from(weights[4 + output])
}

/// Checks loss and gradient against those by hand: the loss of an output and its derivative.
fn check_step(data: &Dataset, of: impl Fn(f64, f64) -> (f64, f64)) {
    let (learner, start, delta, loss) = step(data);
    let (mut mean, mut gradient) = (0.0, [0.0; 6]);
    for i in 0..4 {
        for output in 0..2 {
            let (own, slope) = of(told(&start, i, output), data.train.responses(i)[output]);
            mean += own / 8.0;
            gradient[output] += slope * FEATURES[2 * i] / 8.0;
            gradient[2 + output] += slope * FEATURES[2 * i + 1] / 8.0;
            gradient[4 + output] += slope / 8.0;
        }
    }
    assert!((loss - mean).abs() < 1e-6, "{loss} is not {mean}");
    let apart = delta.iter().zip(gradient).map(|(x, g)| (f64::from(*x) + g).abs());
    assert!(apart.fold(0.0, f64::max) < 1e-6, "{delta:?} {gradient:?}");
    let tested = learner.evaluate(&start, &data.test);
    assert!((tested.loss - mean).abs() < 1e-6, "{tested:?}");
}

#[test]
fn quantities_are_learnt_by_their_squared_error_after_they_are_standardised() {
    let scale = Normalisation { mean: vec![100.0, -3.0], std: vec![20.0, 0.5] };
    let responses = [120.0, -3.5, 80.0, -2.0, 100.0, -3.0, 90.0, -2.75];
    let data = dataset(Response::Quantity, &responses, scale);
    // Both are standardised alike: (x − 100)/20 = 2(y + 3) up to which is which.
    check_step(&data, |z, x| {
        let wanted = if x > 0.0 { (x - 100.0) / 20.0 } else { (x + 3.0) / 0.5 };
        ((z - wanted).powi(2), 2.0 * (z - wanted))
    });
}

#[test]
fn labels_are_learnt_by_their_binary_cross_entropy() {
    let responses = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0];
    let data = dataset(Response::Labels, &responses, Normalisation::identity(2));
    check_step(&data, |z, y| {
        let p = 1.0 / (1.0 + (-z).exp());
        (-(y * p.ln() + (1.0 - y) * (1.0 - p).ln()), p - y)
    });
}

#[test]
fn a_batch_of_several_clients_is_that_of_each() {
    let responses = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0];
    let data = dataset(Response::Labels, &responses, Normalisation::identity(2));
    let objective = of(&data);
    let device = "cpu".parse::<crate::learn::Device>().unwrap().plain();
    let outputs = [[0.5f32, -1.0, 2.0, 0.25, 9.0, 9.0], [0.125, 3.0, -7.0, -7.0, 9.0, 9.0]];
    let together = objective.losses(Tensor::from_data(outputs, &device), &data.train, &[&[2, 0], &[1], &[]]);
    let alone = |outputs: TensorData, batch: &[usize]| -> f32 {
        objective.loss(Tensor::from_data(outputs, &device), &data.train, batch).into_scalar()
    };
    let first = alone(TensorData::from([[0.5f32, -1.0], [0.125, 3.0]]), &[2, 0]);
    let second = alone(TensorData::from([[2.0f32, 0.25]]), &[1]);
    assert_eq!(together.into_data().as_slice::<f32>().unwrap(), [first, second, 0.0]);
}

#[test]
fn quantities_are_measured_in_their_own_units() {
    let scale = Normalisation { mean: vec![10.0, 0.0], std: vec![2.0, 1.0] };
    let data = dataset(Response::Quantity, &[10.0, 1.0, 12.0, 1.0, 8.0, 1.0, 10.0, 1.0], scale);
    let objective = of(&data);
    // Told: 11, 12, 9, 10 and 1, 1, 3, 1. Squares: 1, 0, 1, 0 and 0, 0, 4, 0; the second does not vary.
    let outputs = [0.5, 1.0, 1.0, 1.0, -0.5, 3.0, 0.0, 1.0];
    let metrics = objective.measure(f64::NAN, &outputs, &data.train);
    let expected = [("mse", 0.75), ("mae", 0.5), ("r2", 1.0 - 0.5 / 2.0)];
    assert_eq!(metrics, expected.map(|(name, value)| (name.to_owned(), value)));
    // Standardised: 0.25, 0, 0.25, 0 and 4, of which an example has the mean.
    let score = objective.score(&outputs, &data.train, &[0, 1, 2, 3]);
    assert_eq!(score, Score { loss: (0.25 + 0.0 + 0.25 + 0.0 + 4.0) / 2.0, hits: None });
}

#[test]
fn labels_are_measured_one_by_one() {
    let data =
        dataset(Response::Labels, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], Normalisation::identity(2));
    let objective = of(&data);
    // The first: 2 above 1 and −1, 0 below 1 and above −1: 3 of 4 pairs. Nobody has the second.
    let outputs = [2.0, -1.0, 1.0, 1.0, 0.0, -1.0, -1.0, -1.0];
    assert_eq!(objective.measure(0.0, &outputs, &data.train), [("auc".to_owned(), 0.75)]);
    let Score { loss, hits } = objective.score(&outputs, &data.train, &[0, 1, 2, 3]);
    let softplus = |z: f64| z.exp().ln_1p();
    let by_hand = [-2.0, -1.0, 1.0, 1.0, 0.0, -1.0, -1.0, -1.0].map(softplus);
    assert!((loss - by_hand.iter().sum::<f64>() / 2.0).abs() < 1e-12);
    // Right are 2, −1, −1, −1 and −1, and 0 says no.
    assert_eq!(hits, Some(2.5));
    assert!(objective.score(&[f32::NAN; 8], &data.train, &[0, 1, 2, 3]).loss.is_nan());
    let far = objective.score(&[1e30, 1e30, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &data.train, &[0]);
    assert!(far.loss.is_finite() && far.loss > 1e29);
}

#[test]
fn the_area_counts_pairs_and_halves_of_ties() {
    assert_eq!(area(vec![(3.0, true), (1.0, false), (2.0, false)]), Some(1.0));
    assert_eq!(area(vec![(1.0, true), (1.0, false), (0.0, false), (2.0, false)]), Some(0.5));
    assert_eq!(area(vec![(1.0, true), (1.0, true)]), None);
    assert_eq!(area(vec![(f32::NAN, true), (1.0, false)]), None);
    // −0 and 0 tie.
    assert_eq!(area(vec![(-0.0, true), (0.0, false)]), Some(0.5));
}

#[test]
fn two_classes_have_an_area_and_more_have_not() {
    let rows = Examples::of_features(FEATURES.to_vec(), vec![0, 1, 1, 0], 2).unwrap();
    let two = Classification { classes: 2 };
    let outputs = [0.0, 1.0, 0.0, 3.0, 0.0, 0.5, 2.0, 0.0];
    // 3 and 0.5 against 1 and −2.
    assert_eq!(two.measure(1.0, &outputs, &rows), [("auc".to_owned(), 0.75)]);
    assert!(Classification { classes: 3 }.measure(1.0, &[], &rows).is_empty());
    let text = Examples::of_tokens(vec![0, 1], vec![0, 1], 2, 1).unwrap();
    let metrics = Classification { classes: 3 }.measure(1.0, &[], &text);
    assert_eq!(metrics, [("perplexity".to_owned(), 1f64.exp())]);
}
