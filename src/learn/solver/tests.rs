use super::*;

fn parse(text: &str) -> SolverConfig {
    toml::from_str(text).unwrap()
}

/// The weights after steps along these gradients, one parameter of each size, from `task.start`.
fn steps(text: &str, task: &Task<'_>, sizes: &[usize], gradients: &[&[f32]]) -> Vec<f32> {
    let solver = parse(text);
    solver.solver().check_all().unwrap();
    let device = "cpu".parse::<crate::learn::Device>().unwrap().plain();
    let tensor = |x: &[f32]| Tensor::<1>::from_data(TensorData::new(x.to_vec(), [x.len()]), &device);
    let mut steps = solver.solver().begin(&[*task], sizes);
    let mut weights = task.start.to_vec();
    for gradient in gradients {
        let mut at = 0;
        for (parameter, size) in sizes.iter().enumerate() {
            let part = at..at + size;
            let moved =
                steps.step(parameter, tensor(&weights[part.clone()]), tensor(&gradient[part.clone()]));
            weights[part].copy_from_slice(moved.into_data().as_slice::<f32>().unwrap());
            at += size;
        }
    }
    weights
}

fn assert_near(got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((f64::from(*got) - want).abs() < 1e-6 * want.abs().max(1.0), "{got} for {want}");
    }
}

#[test]
fn nesterov_looks_ahead() {
    // v = 2, then 0.5·2 + 4 = 5; steps of 0.1·(2 + 0.5·2) and 0.1·(4 + 0.5·5).
    let text = "kind = \"sgd\"\nlearning_rate = 0.1\nmomentum = 0.5\nnesterov = ";
    let run = |nesterov| steps(&format!("{text}{nesterov}"), &Task::new(&[1.0]), &[1], &[&[2.0], &[4.0]]);
    assert_near(&run("true"), &[1.0 - 0.3 - 0.65]);
    assert_near(&run("false"), &[1.0 - 0.2 - 0.5]);
}

#[test]
fn adam_and_adamw_by_hand() {
    let text = "kind = \"adam\"\nlearning_rate = 0.1\nbeta1 = 0.5\nbeta2 = 0.75\nepsilon = 1.0\nweight_decay = 0.5\n";
    // m = 1, 2.5 and v = 1, 4.75, divided by 1/2, 3/4 and 1/4, 7/16.
    let first = 0.1 * 2.0 / (2.0 + 1.0);
    let second = 0.1 * (2.5 / 0.75) / ((4.75f64 / 0.4375).sqrt() + 1.0);
    let plain = steps(&text.replace("weight_decay = 0.5", ""), &Task::new(&[1.0]), &[1], &[&[2.0], &[4.0]]);
    assert_near(&plain, &[1.0 - first - second]);
    let decoupled = format!("{text}decoupled_weight_decay = true");
    let weights = steps(&decoupled, &Task::new(&[1.0]), &[1], &[&[2.0], &[4.0]]);
    assert_near(&weights, &[(0.95 - first) * 0.95 - second]);
    // Coupled: the first gradient is 1.5 + 0.5·1.
    assert_near(&steps(text, &Task::new(&[1.0]), &[1], &[&[1.5]]), &[1.0 - first]);
}

#[test]
fn the_local_objective_adds_its_terms_at_the_right_places() {
    let task = Task {
        start: &[1.0, 2.0, 3.0],
        global: &[0.0, 1.0, 5.0],
        correction: &[10.0, 20.0, 30.0],
        rate: 0.5,
    };
    let text = "kind = \"fedprox\"\nproximal = 2.0\nweight_decay = 3.0\nlearning_rate = 0.2";
    let got = steps(text, &task, &[1, 2], &[&[1.0, 1.0, 1.0]]);
    // g + 3w + correction + 2(w − x), along which the step is 0.1.
    assert_near(&got, &[1.0 - 0.1 * 16.0, 2.0 - 0.1 * 29.0, 3.0 - 0.1 * 36.0]);
}

#[test]
fn scaffold_sends_update_and_control_in_one_unit() {
    let solver = parse("kind = \"scaffold\"\nclip_norm = 100.0");
    let solver = solver.solver();
    assert_eq!((solver.coordinates(2), solver.has_controls()), (4, true));
    assert_eq!(solver.correction(&[1.0, 2.0], &[0.5, 4.0]), [0.5, -2.0]);
    // Δc = −c − Δ/(Kη) with K = 4 and η = 1/2, sent as ηΔc.
    let work = Work { steps: 4, rate: 0.5, mean_count: 4.0 };
    let sent = solver.encode(vec![2.0, -4.0], work, &[1.0, 2.0]);
    assert_eq!(sent, [2.0, -4.0, -1.0, 0.0]);
    let mut own = [0.5, 4.0];
    solver.advance(&mut own, &sent, 0.5);
    assert_eq!(own, [-1.5, 4.0]);
    // Half of the weight arrived.
    let mut server = [1.0, 2.0];
    let direction = solver.direction(&mut server, vec![2.0, -4.0, -1.0, 0.0], 0.5, 0.5);
    assert_eq!((direction, server), (vec![2.0, -4.0], [0.0, 2.0]));
    assert_eq!(solver.encode(vec![0.0; 2], Work { steps: 0, ..work }, &[1.0, 2.0]), [0.0; 4]);
}

#[test]
fn what_is_sent_is_clipped_as_a_whole() {
    let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let work = Work { steps: 4, rate: 0.5, mean_count: 8.0 };
    for kind in SolverConfig::KINDS {
        let solver = parse(&format!("kind = \"{kind}\"\nclip_norm = 1.0"));
        let sent = solver.solver().encode(vec![30.0, -40.0], work, &[1.0, 2.0]);
        assert!(norm(&sent) <= 1.0 && norm(&sent) > 0.999, "{kind}: {sent:?}");
        assert!((sent[0] / sent[1] + 0.75).abs() < 1e-6);
    }
    let free = parse("kind = \"fednova\"").solver().encode(vec![30.0, -40.0], work, &[]);
    assert_eq!(free, [60.0, -80.0], "eight steps are the mean, four were taken");
}

#[test]
fn every_rule_names_its_key() {
    for (text, key) in [
        ("kind = \"sgd\"\nlearning_rate = 0.0", "learning_rate"),
        ("kind = \"sgd\"\nlearning_rate = nan", "learning_rate"),
        ("kind = \"sgd\"\nmomentum = 1.0", "momentum"),
        ("kind = \"sgd\"\nnesterov = true", "nesterov"),
        ("kind = \"sgd\"\nweight_decay = -1.0", "weight_decay"),
        ("kind = \"sgd\"\nepochs = 1\nsteps = 1", "steps"),
        ("kind = \"sgd\"\nepochs = 0", "epochs"),
        ("kind = \"sgd\"\nsteps = 0", "steps"),
        ("kind = \"sgd\"\nbatch_size = 0", "batch_size"),
        ("kind = \"sgd\"\nclip_norm = 0.0", "clip_norm"),
        ("kind = \"adam\"\nbeta1 = 1.0", "beta1"),
        ("kind = \"adam\"\nbeta2 = -0.1", "beta2"),
        ("kind = \"adam\"\nepsilon = 0.0", "epsilon"),
        ("kind = \"fedprox\"\nproximal = -1.0", "proximal"),
        ("kind = \"fedprox\"\nmomentum = 2.0", "momentum"),
        ("kind = \"scaffold\"\nlearning_rate = -1.0", "learning_rate"),
        ("kind = \"fednova\"\nmomentum = 1.0", "momentum"),
        ("kind = \"feddyn\"\nalpha = 0.0", "alpha"),
    ] {
        let error = parse(text).solver().check_all().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{key}: ")), "{text}: {error}");
    }
    for kind in SolverConfig::KINDS {
        let solver = parse(&format!("kind = \"{kind}\""));
        solver.solver().check_all().unwrap();
        assert_eq!(solver.solver().batch_size(), 32);
        let accumulates = !["scaffold", "fednova", "feddyn"].contains(kind);
        assert_eq!(solver.solver().accumulates(), accumulates, "{kind}");
    }
}

#[test]
fn toml_accepts_steps_alone() {
    let solver = parse("kind = \"sgd\"\nsteps = 5");
    solver.solver().check_all().unwrap();
    assert_eq!(solver.solver().steps(1000), 5);
    assert_eq!(SolverConfig::default().solver().steps(65), 3);
    let error = toml::from_str::<SolverConfig>("kind = \"sgd\"\nstep = 5").unwrap_err();
    assert!(error.to_string().contains("unknown field `step`"), "{error}");
}

#[test]
fn clipping_bounds_the_norm_and_keeps_short_updates() {
    let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let mut long: Vec<f32> = (0..10_000).map(|i| (i as f32).sin()).collect();
    let before = long.clone();
    clip(&mut long, 1.0);
    assert!(norm(&long) <= 1.0 && norm(&long) > 1.0 - 1e-6, "{}", norm(&long));
    let scale = long[1] / before[1];
    assert!(before.iter().zip(&long).all(|(b, a)| (b * scale - a).abs() <= 1e-6 * a.abs()));
    let mut short = vec![0.3, 0.4];
    clip(&mut short, 0.6);
    assert_eq!(short, [0.3, 0.4]);
    let mut diverged = vec![f32::NAN, 1.0];
    clip(&mut diverged, 0.1);
    assert!(diverged[0].is_nan() && diverged[1] == 1.0);
}
