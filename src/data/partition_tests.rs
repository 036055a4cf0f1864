use super::*;
use proptest::prelude::*;
use statrs::distribution::{Beta, ContinuousCDF};

fn labels(n: usize, classes: usize) -> Vec<u16> {
    (0..n).map(|i| (i * 7 % classes) as u16).collect()
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

fn classes_per_client(classes: usize) -> PartitionConfig {
    PartitionConfig::ClassesPerClient(ClassesPerClient { classes })
}

fn dirichlet_of(alpha: f64) -> PartitionConfig {
    PartitionConfig::Dirichlet(Dirichlet { alpha, balanced: false, least: None })
}

fn balanced(alpha: f64) -> PartitionConfig {
    PartitionConfig::Dirichlet(Dirichlet { alpha, balanced: true, least: None })
}

fn quantity(alpha: f64) -> PartitionConfig {
    PartitionConfig::Quantity(Quantity { alpha, least: None })
}

fn refusal(config: &PartitionConfig, n: usize, clients: usize) -> String {
    split(config.partition(), &labels(n, 10), 10, clients, Seed::new(1))
        .unwrap_err()
        .within("partition")
        .to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn parts_are_disjoint_and_use_every_example(
        n in 200usize..600, clients in 1usize..12, seed: u64, kind in 0usize..5, held in 1usize..=10,
    ) {
        let kinds =
            [PartitionConfig::default(), dirichlet_of(5.0), classes_per_client(held), quantity(5.0), balanced(0.1)];
        let config = kinds[kind].clone();
        let labels = labels(n, 10);
        let parts = split(config.partition(), &labels, 10, clients, Seed::new(seed)).unwrap();
        prop_assert_eq!(parts.len(), clients);
        prop_assert!(parts.iter().all(|part| !part.is_empty() && part.is_sorted()));
        let mut used: Vec<usize> = parts.concat();
        used.sort_unstable();
        let everything: Vec<usize> = if kind == 2 {
            // Classes without a holder stay out: only when there are fewer slots than classes.
            let held_classes: Vec<bool> =
                (0..10).map(|class| used.iter().any(|&i| usize::from(labels[i]) == class)).collect();
            prop_assert_eq!(held_classes.iter().filter(|held| **held).count(), 10.min(clients * held));
            (0..n).filter(|&i| held_classes[usize::from(labels[i])]).collect()
        } else {
            (0..n).collect()
        };
        prop_assert_eq!(used, everything);
    }

    #[test]
    fn classes_are_held_as_evenly_as_possible(clients in 1usize..40, held in 1usize..=10, seed: u64) {
        let labels = labels(4000, 10);
        let parts = split(classes_per_client(held).partition(), &labels, 10, clients, Seed::new(seed)).unwrap();
        let table = class_table(&labels, &names(10), &parts).counts;
        prop_assert!(table.iter().all(|row| row.iter().filter(|n| **n > 0).count() == held));
        let column = |class: usize| table.iter().map(move |row| row[class]).filter(|n| *n > 0);
        let holders: Vec<usize> = (0..10).map(|class| column(class).count()).collect();
        prop_assert!(holders.iter().max().unwrap() - holders.iter().min().unwrap() <= 1);
        for class in (0..10).filter(|class| holders[*class] > 0) {
            prop_assert!(column(class).max().unwrap() - column(class).min().unwrap() <= 1);
        }
    }
}

#[test]
fn iid_sizes_differ_by_one_and_the_seed_decides() {
    let labels = labels(103, 10);
    let parts =
        |seed| split(PartitionConfig::default().partition(), &labels, 10, 10, Seed::new(seed)).unwrap();
    let sizes: Vec<usize> = parts(1).iter().map(Vec::len).collect();
    assert!(sizes.iter().all(|size| [10, 11].contains(size)), "{sizes:?}");
    assert_eq!(parts(1), parts(1));
    assert_ne!(parts(1), parts(2));
}

#[test]
fn one_class_per_client_is_the_extreme() {
    let labels = labels(1000, 10);
    let parts = split(classes_per_client(1).partition(), &labels, 10, 10, Seed::new(3)).unwrap();
    let mut seen: Vec<u16> = parts
        .iter()
        .map(|part| {
            assert_eq!(part.len(), 100);
            assert!(part.iter().all(|&i| labels[i] == labels[part[0]]));
            labels[part[0]]
        })
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

/// The coordinates of a symmetric Dirichlet vector are Beta(α, (n−1)α). Kolmogorov-Smirnov test of 4000 first
/// coordinates at significance 0.001 for each α; fixed seed.
#[test]
fn dirichlet_marginals_are_beta() {
    for alpha in [0.05, 0.5, 1.0, 10.0] {
        let n = 5;
        let mut rng = Seed::new(11).rng();
        let mut draws: Vec<f64> = (0..4000).map(|_| dirichlet(alpha, n, &mut rng)[0]).collect();
        draws.sort_by(f64::total_cmp);
        let beta = Beta::new(alpha, (n - 1) as f64 * alpha).unwrap();
        let count = draws.len() as f64;
        let distance = draws.iter().enumerate().fold(0.0f64, |worst, (i, &x)| {
            let p = beta.cdf(x);
            worst.max((p - i as f64 / count).abs()).max((p - (i as f64 + 1.0) / count).abs())
        });
        // √(−ln(0.001/2)/2) = 1.949.
        assert!(distance * count.sqrt() < 1.949, "alpha {alpha}: {}", distance * count.sqrt());
    }
}

#[test]
fn dirichlet_survives_tiny_concentrations() {
    let p = dirichlet(1e-6, 10, &mut Seed::new(5).rng());
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12 && p.iter().all(|x| x.is_finite()), "{p:?}");
    assert!(p.iter().any(|&x| x > 0.999), "{p:?}");
}

/// The share of a class in a client is Beta(α, (n−1)α) until classes run out: its mean square is (1 +
/// α)/(n(1 + nα)), squared mean and variance added. As every example is used, the last ones go to clients who
/// would rather have others: under strong skew a third of the mean square is lost, by a simulation of this
/// law.
#[test]
fn balanced_clients_are_equally_large_and_nearly_as_skewed_as_the_distribution() {
    let labels = labels(40_000, 10);
    for (alpha, least) in [(0.1, 0.65), (1.0, 0.9)] {
        let mut squares = Vec::new();
        for seed in 0..20 {
            let parts = split(balanced(alpha).partition(), &labels, 10, 16, Seed::new(seed)).unwrap();
            assert!(parts.iter().all(|part| part.len() == 2500));
            let rows = class_table(&labels, &names(10), &parts).counts;
            squares.extend(rows.iter().flatten().map(|&n| (n as f64 / 2500.0).powi(2)));
        }
        let mean = squares.iter().sum::<f64>() / squares.len() as f64;
        let law = (1.0 + alpha) / (10.0 * (1.0 + 10.0 * alpha));
        assert!(mean < law && mean > least * law, "alpha {alpha}: {mean} against {law}");
    }
}

#[test]
fn classes_are_drawn_as_wanted_while_they_last() {
    let mut rng = Seed::new(3).rng();
    let stock = vec![vec![0; 5], Vec::new(), vec![0; 3], vec![0; 1]];
    let mut counts = [0u32; 4];
    (0..40_000).for_each(|_| counts[draw_class(&[0.2, 0.5, 0.3, 0.0], &stock, &mut rng)] += 1);
    // Two fifths and three fifths without the class that has run out; six standard deviations are 588.
    assert!(counts[1] == 0 && counts[3] == 0 && counts[0].abs_diff(16_000) < 588, "{counts:?}");
    let mut counts = [0u32; 4];
    (0..40_000).for_each(|_| counts[draw_class(&[0.0, 1.0, 0.0, 0.0], &stock, &mut rng)] += 1);
    // What is left, 5 : 3 : 1, where nothing that is wanted is.
    assert!(
        counts[1] == 0 && counts[0].abs_diff(22_222) < 597 && counts[3].abs_diff(4_444) < 378,
        "{counts:?}"
    );
}

#[test]
fn quantity_varies_sizes_and_mixes_classes() {
    let labels = labels(20_000, 10);
    let parts = split(quantity(1.0).partition(), &labels, 10, 10, Seed::new(2)).unwrap();
    let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
    let (small, large) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(large > &(2 * small), "{sizes:?}");
    let largest = parts.iter().max_by_key(|part| part.len()).unwrap();
    let row = &class_table(&labels, &names(10), std::slice::from_ref(largest)).counts[0];
    // Hypergeometric counts: six standard deviations hold for all ten with probability over 1 − 10⁻⁷.
    let mean = largest.len() as f64 / 10.0;
    assert!(row.iter().all(|&n| (n as f64 - mean).abs() < 6.0 * (mean * 0.9).sqrt()), "{row:?}");
}

#[test]
fn impossible_partitions_are_refused_in_one_line() {
    for config in [dirichlet_of(0.0), quantity(0.0)] {
        assert_eq!(refusal(&config, 100, 2), "partition.alpha: must be a positive number, not 0; try 0.5");
    }
    assert_eq!(
        refusal(&dirichlet_of(f64::NAN), 100, 2),
        "partition.alpha: must be a positive number, not NaN; try 0.5"
    );
    assert_eq!(refusal(&classes_per_client(0), 100, 2), "partition.classes: must be at least 1, not 0");
    assert_eq!(refusal(&classes_per_client(11), 100, 2), "partition.classes: must be at most 10, not 11");
    assert_eq!(
        refusal(&PartitionConfig::default(), 100, 0),
        "partition: 100 examples cannot be divided among 0 clients; use 1 to 100"
    );
    assert_eq!(
        refusal(&PartitionConfig::default(), 100, 101),
        "partition: 100 examples cannot be divided among 101 clients; use 1 to 100"
    );
    let empty = refusal(&dirichlet_of(0.001), 100, 50);
    let rule =
        " would get no example; raise alpha, use fewer clients or another seed, or draw again with least = 1";
    assert!(empty.starts_with("partition.alpha: client ") && empty.ends_with(rule), "{empty}");
    assert!(refusal(&quantity(0.001), 100, 50).ends_with(rule));
}

#[test]
fn draws_are_repeated_until_every_client_has_enough() {
    let labels = labels(400, 10);
    let divide = |least, seed| {
        let partition = Dirichlet { alpha: 0.3, balanced: false, least };
        split(&partition, &labels, 10, 10, Seed::new(seed))
    };
    let smallest = |parts: &[Vec<usize>]| parts.iter().map(Vec::len).min().unwrap();
    let mut repeated = 0;
    for seed in 0..20 {
        let first = divide(None, seed).ok().filter(|parts| smallest(parts) >= 8);
        let parts = divide(Some(8), seed).unwrap();
        assert!(smallest(&parts) >= 8);
        assert_eq!(divide(Some(8), seed).unwrap(), parts);
        // A first draw that is good enough is the one without the key.
        match first {
            Some(first) => assert_eq!(first, parts),
            None => repeated += 1,
        }
    }
    assert!((1..20).contains(&repeated), "{repeated}");
    let refusal = |partition: &dyn Partition| {
        split_by(partition, &labels, 10, 10, Seed::new(1), " with seed 1")
            .unwrap_err()
            .within("partition")
            .to_string()
    };
    assert_eq!(
        refusal(&Dirichlet { least: Some(41), ..Dirichlet::default() }),
        "partition.least: 41 for each of 10 clients are more than 400 examples; give at most 40"
    );
    let never = refusal(&Quantity { alpha: 0.01, least: Some(30) });
    let start =
        "partition.least: none of 1000 draws with seed 1 gives every client 30 examples, the best one ";
    let end = "; lower it, or at alpha: raise alpha, use fewer clients or another seed";
    assert!(never.starts_with(start) && never.ends_with(end), "{never}");
    let none = refusal(&Quantity { least: Some(0), ..Quantity::default() });
    assert_eq!(none, "partition.least: must be at least 1, not 0");
    let empty = refusal(&Quantity { alpha: 0.001, least: None });
    assert!(empty.contains(" would get no example with seed 1; "), "{empty}");
}

/// Clients are counted from 1, as in tables: of two, one gets everything.
#[test]
fn the_client_without_examples_is_named_by_its_number() {
    let labels = labels(50, 10);
    let mut named = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let partition = Quantity { alpha: 1e-6, least: None };
        let error = split(&partition, &labels, 10, 2, Seed::new(seed)).unwrap_err().to_string();
        named.insert(error.split_once(" would").unwrap().0.to_owned());
    }
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["alpha: client 1", "alpha: client 2"]);
}

#[test]
fn balanced_clients_take_what_is_left_when_classes_run_out() {
    let labels = labels(1000, 10);
    let parts = split(balanced(0.001).partition(), &labels, 10, 10, Seed::new(1)).unwrap();
    let held: Vec<usize> = class_table(&labels, &names(10), &parts)
        .counts
        .iter()
        .map(|row| row.iter().filter(|n| **n > 0).count())
        .collect();
    assert!(held.iter().any(|&classes| classes > 1), "{held:?}");
}

#[test]
fn a_client_left_without_examples_of_its_class_is_refused() {
    // Class 1 has one example, but ten of the twenty clients hold it.
    let mut labels = vec![0u16; 99];
    labels.push(1);
    let error =
        split(classes_per_client(1).partition(), &labels, 2, 20, Seed::new(1)).unwrap_err().to_string();
    let rule = " would get no example; raise classes or use fewer clients";
    assert!(error.starts_with("classes: client ") && error.ends_with(rule), "{error}");
}

#[test]
fn sections_are_read_by_their_kind() {
    let read = |text: &str| toml::from_str::<PartitionConfig>(text);
    assert_eq!(read("kind = 'dirichlet'\nalpha = 0.1").unwrap(), dirichlet_of(0.1));
    assert_eq!(read("kind = 'dirichlet'\nalpha = 0.1\nbalanced = true").unwrap(), balanced(0.1));
    assert_eq!(read("kind = 'classes-per-client'").unwrap(), classes_per_client(1));
    assert!(read("kind = 'iid'\nalpha = 1.0").unwrap_err().message().contains("alpha"));
    let written = toml::to_string(&quantity(2.0)).unwrap();
    assert_eq!(read(&written).unwrap(), quantity(2.0));
}

#[test]
fn the_table_is_aligned_with_totals() {
    let labels = [vec![0; 12], vec![1; 100], vec![2; 3]].concat();
    let parts = vec![(0..12).collect(), (12..105).collect(), (105..115).collect::<Vec<usize>>()];
    assert_eq!(
        class_table(&labels, &names(3), &parts).to_string(),
        "client   0    1  2  total\n     1  12    0  0     12\n     2   0   93  0     93\n     3   0    7  3     10\n total  12  100  3    115"
    );
}

#[test]
fn columns_are_as_wide_as_the_names_of_the_classes() {
    let names = ["rose".to_owned(), "ox-eye".to_owned()];
    assert_eq!(
        class_table(&[0, 1, 1], &names, &[vec![0, 1], vec![2]]).to_string(),
        "client  rose  ox-eye  total\n     1     1       1      2\n     2     0       1      1\n total     1       2      3"
    );
}

#[test]
fn the_held_out_share_is_rounded_and_leaves_both_sides_something() {
    let examples: Vec<usize> = (100..110).collect();
    for (share, count) in [(0.2, 2), (0.25, 3), (0.001, 1), (0.999, 9)] {
        let (kept, held) = hold_out(&examples, share, Seed::new(1));
        assert_eq!(held.len(), count, "{share}");
        assert!(kept.is_sorted() && held.is_sorted());
        let mut all = [kept, held].concat();
        all.sort_unstable();
        assert_eq!(all, examples);
    }
    assert_eq!(hold_out(&examples, 0.5, Seed::new(1)), hold_out(&examples, 0.5, Seed::new(1)));
    assert_ne!(hold_out(&examples, 0.5, Seed::new(1)), hold_out(&examples, 0.5, Seed::new(2)));
}
