use super::*;

/// Three clients with p = (0.9, 0.5, 0.1) and 0.8 between all of them.
fn three(reciprocal: bool) -> Delivery {
    let between = (0..3).map(|k| (0..3).map(|m| if k == m { 1.0 } else { 0.8 }).collect()).collect();
    Delivery { between, up: vec![0.9, 0.5, 0.1], reciprocal }
}

fn free(_: usize, _: usize) -> f64 {
    0.0
}

fn near(got: f64, want: f64) {
    assert!((got - want).abs() < 2e-6, "{got} for {want}");
}

fn matrix(got: &[Vec<f64>], want: [[f64; 3]; 3]) {
    for (got, want) in got.iter().zip(want) {
        got.iter().zip(want).for_each(|(got, want)| near(*got, want));
    }
}

/// 1/p on the diagonal: nobody relays.
fn alone(delivery: &Delivery) -> Vec<Vec<f64>> {
    let clients = delivery.up.len();
    let weight = |j: usize, k: usize| if j == k { 1.0 / delivery.up[k] } else { 0.0 };
    (0..clients).map(|j| (0..clients).map(|k| weight(j, k)).collect()).collect()
}

#[test]
fn three_clients_have_these_weights() {
    let delivery = three(false);
    near(variance(&delivery, &alone(&delivery)), 10.111_111);
    near(variance(&delivery, &start(&delivery).unwrap()), 10.839_506);
    let alpha = optimal(&delivery, &free).unwrap();
    matrix(&alpha, [[1.111_111, 0.901_009, 1.164_135], [0.0, 0.702_548, 0.263_126], [0.0, 0.0, 0.565_722]]);
    near(variance(&delivery, &alpha), 1.241_997);
    let moments = [(0, 0, 0.111_111), (1, 1, 0.287_055), (2, 2, 0.318_631)];
    for (k, l, want) in [moments, [(0, 1, 0.072_081), (0, 2, 0.093_131), (1, 2, 0.097_388)]].concat() {
        near(second_moment(&delivery, &alpha, k, l), want);
        near(second_moment(&delivery, &alpha, l, k), want);
    }
}

#[test]
fn reciprocal_links_end_at_the_same_weights() {
    // The best weights never use both directions of a pair.
    let delivery = three(true);
    near(variance(&delivery, &start(&delivery).unwrap()), 11.006_173);
    let mut alpha = start(&delivery).unwrap();
    settle(&delivery, &free, &mut alpha, Stage::Bound);
    near(variance(&delivery, &alpha), 1.248_122);
    matrix(
        &optimal(&delivery, &free).unwrap(),
        [[1.111_111, 0.901_009, 1.164_135], [0.0, 0.702_548, 0.263_126], [0.0, 0.0, 0.565_722]],
    );
}

#[test]
fn noise_makes_relaying_dear() {
    // d = 10, R = 1 and the classical b of ε = 10, δ = 10⁻³.
    let b = 0.2 * (2.0 * (1.25f64 / 1e-3).ln()).sqrt();
    near(b, 0.755_296);
    near(10.0 * b * b, 5.704_719);
    let penalty = |j: usize, k: usize| if j == k { 0.0 } else { 10.0 * b * b };
    let delivery = three(false);
    let alpha = optimal(&delivery, &penalty).unwrap();
    let close = |got: f64, want: f64| assert!((got - want).abs() < 2e-5, "{got} for {want}");
    let want = [[1.11111, 0.15153, 0.58652], [0.0, 1.78180, 0.43499], [0.0, 0.0, 4.03710]];
    alpha.iter().flatten().zip(want.iter().flatten()).for_each(|(got, want)| close(*got, *want));
    near(variance(&delivery, &alpha), 2.929_391);
    let power = |j: usize, k: usize| path(&delivery, k, j) * penalty(j, k) * alpha[j][k] * alpha[j][k];
    let power: f64 = (0..3).flat_map(|j| (0..3).map(move |k| (j, k))).map(|(j, k)| power(j, k)).sum();
    near(power, 1.939_048);
    // High dimension: d = 7850, ε = 1, δ = 10⁻⁵, and nobody relays.
    let b = 2.0 * (2.0 * (1.25f64 / 1e-5).ln()).sqrt();
    let penalty = |j: usize, k: usize| if j == k { 0.0 } else { 7850.0 * b * b };
    let alpha = optimal(&delivery, &penalty).unwrap();
    assert!((0..3).all(|j| (0..3).all(|k| j == k || alpha[j][k] < 1e-4)), "{alpha:?}");
    close(variance(&delivery, &alpha), 10.1109);
}

#[test]
fn without_neighbours_weights_are_inverse_probabilities() {
    let mut delivery = three(false);
    delivery.between = (0..3).map(|k| (0..3).map(|m| f64::from(u8::from(k == m))).collect()).collect();
    let alpha = optimal(&delivery, &free).unwrap();
    for (got, want) in alpha.iter().flatten().zip(alone(&delivery).iter().flatten()) {
        assert!((got - want).abs() < 1e-12, "{alpha:?}");
    }
    near(variance(&delivery, &alpha), 0.1 / 0.9 + 1.0 + 9.0);
}

#[test]
fn ten_clients_of_the_authors_example() {
    // Their README: uplinks lose 0.05 to 0.95 of the messages, links between clients a tenth.
    let lost = [0.05, 0.1, 0.1, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95];
    let up: Vec<f64> = lost.iter().map(|lost| 1.0 - lost).collect();
    let between = (0..10).map(|k| (0..10).map(|m| if k == m { 1.0 } else { 0.9 }).collect()).collect();
    let delivery = Delivery { between, up, reciprocal: false };
    near(variance(&delivery, &alone(&delivery)), 35.870_092);
    let alpha = optimal(&delivery, &free).unwrap();
    near(variance(&delivery, &alpha), 2.544_248);
    let used = (0..10).flat_map(|j| (0..10).map(move |k| (j, k))).filter(|&(j, k)| j != k);
    assert_eq!(used.filter(|&(j, k)| alpha[j][k] > 1e-9).count(), 44);
}

#[test]
fn every_pass_lowers_what_it_minimises_and_stays_unbiased() {
    for seed in 0..20u64 {
        let mut rng = crate::seed::Seed::new(seed).rng();
        let mut draw = || 0.05 + 0.95 * rand::RngExt::random::<f64>(&mut rng);
        let up: Vec<f64> = (0..6).map(|_| draw()).collect();
        let drawn: Vec<Vec<f64>> = (0..6).map(|_| (0..6).map(|_| draw()).collect()).collect();
        let pair = |k: usize, m: usize| if k == m { 1.0 } else { drawn[k.min(m)][k.max(m)] };
        let between: Vec<Vec<f64>> = (0..6).map(|k| (0..6).map(|m| pair(k, m)).collect()).collect();
        for reciprocal in [false, true] {
            let delivery = Delivery { between: between.clone(), up: up.clone(), reciprocal };
            let mut alpha = start(&delivery).unwrap();
            let before = variance(&delivery, &alpha);
            settle(&delivery, &free, &mut alpha, Stage::Exact);
            let after = variance(&delivery, &alpha);
            assert!(after <= before, "seed {seed}: {before} to {after}");
            for k in 0..6 {
                let counts = alpha.iter().enumerate().map(|(j, row)| path(&delivery, k, j) * row[k]);
                let sum: f64 = counts.sum();
                assert!((sum - 1.0).abs() < 1e-9, "seed {seed}: client {k} counts {sum}");
            }
            let moves = [(0, 1, 0.01), (2, 3, -0.01), (4, 4, 0.02)];
            for (j, k, by) in moves {
                // Along the constraint: what relay j gets more, the client's own upload gets less.
                let mut other = alpha.clone();
                other[j][k] += by / path(&delivery, k, j);
                other[k][k] -= by / path(&delivery, k, k);
                let allowed = other[j][k] >= 0.0 && other[k][k] >= 0.0;
                assert!(!allowed || variance(&delivery, &other) >= after - 1e-9, "seed {seed}: {j} {k}");
            }
        }
    }
}

#[test]
fn paths_that_never_fail_take_all() {
    let mut delivery = three(false);
    delivery.up[0] = 1.0;
    delivery.between[2][0] = 1.0;
    let alpha = optimal(&delivery, &free).unwrap();
    assert_eq!([alpha[0][0], alpha[0][2], alpha[2][2]], [1.0, 1.0, 0.0]);
}

#[test]
fn nothing_is_sent_where_relaying_gains_nothing() {
    // Equal uplinks: by S all ways to the server are worth the same, and those over relays can fail twice.
    let between = (0..10).map(|k| (0..10).map(|m| if k == m { 1.0 } else { 0.9 }).collect()).collect();
    let delivery = Delivery { between, up: vec![0.6; 10], reciprocal: false };
    let alpha = optimal(&delivery, &free).unwrap();
    for (j, row) in alpha.iter().enumerate() {
        for (k, weight) in row.iter().enumerate() {
            assert!(if j == k { (weight - 1.0 / 0.6).abs() < 1e-9 } else { *weight == 0.0 }, "{alpha:?}");
        }
    }
}

#[test]
fn a_client_that_nothing_is_heard_of_is_refused() {
    let mut delivery = three(false);
    delivery.up[2] = 0.0;
    assert!(optimal(&delivery, &free).is_ok(), "others carry it");
    delivery.between[2] = vec![0.0, 0.0, 1.0];
    assert!(optimal(&delivery, &free).unwrap_err().to_string().contains("client 3"));
}
