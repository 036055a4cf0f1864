//! The rates of the theorems, and the papers' examples.

use nalgebra::DMatrix;
use seccogc::algebra::LinearForm;
use seccogc::algebra::linear::rank;
use seccogc::keys::FormalKeys;
use seccogc::network::Perfect;
use seccogc::protocol::groupwise::coefficients;
use seccogc::protocol::{Message, Protocol, Secret};

use super::*;

/// Symbols per coordinate of the input in a client's two messages, from the bytes that are sent.
fn rates<C: TwoRound<M61>>(scheme: C) -> [(usize, usize); 2] {
    let (clients, len) = (scheme.clients(), 2 * scheme.unit());
    let inputs = inputs::<M61>(clients, len);
    let inputs: Vec<&dyn Input<M61>> = inputs.iter().map(|x| x as _).collect();
    let mut sent = [Vec::new(), Vec::new()];
    let keys = SeededKeys(Seed::new(1));
    let observe = |message: &_, _, link: LinkUse| {
        assert_eq!(link.bytes as usize, HEADER_BYTES + Message::<M61>::bytes(message));
        match (link.to, link.transfer) {
            (PartyId::Server, 0) => sent[0].push(Message::<M61>::bytes(message) / M61::BYTES),
            (PartyId::Server, _) => sent[1].push(Message::<M61>::bytes(message) / M61::BYTES),
            _ => assert_eq!(Message::<M61>::bytes(message), clients.div_ceil(8)),
        }
    };
    run(&Rounds::new(scheme), 1, &inputs, &keys, &Perfect, 1, observe);
    sent.map(|sizes| {
        assert!(sizes.len() == clients && sizes.iter().all(|size| *size == sizes[0]));
        (sizes[0], len)
    })
}

fn binomial(n: usize, k: usize) -> usize {
    (0..k).fold(1, |c, i| if i < n { c * (n - i) / (i + 1) } else { 0 })
}

#[test]
fn messages_have_the_rates_of_the_theorems() {
    let (zhao_sun, groupwise) = parameters(6);
    let same = |(got, len): (usize, usize), (up, down): (usize, usize)| got * down == up * len;
    for [k, u, t] in zhao_sun {
        let [first, second] = rates(ZhaoSun::<M61>::new(k, u, t).unwrap());
        assert!(
            same(first, (1, 1)) && same(second, (1, u - t)),
            "zhao-sun {k} {u} {t}: {first:?} {second:?}"
        );
    }
    for [k, u, s] in groupwise {
        let [first, second] = rates(Groupwise::<M61>::new(k, u, s, Seed::new(3)).unwrap());
        let all = binomial(k - 1, s - 1);
        let absent = if k > u { binomial(k - 1 - u, s - 1) } else { 0 };
        let right = same(first, (all, all - absent)) && same(second, (1, u));
        assert!(right, "groupwise {k} {u} {s}: {first:?} {second:?}");
        // (48), with equality iff U = 1 or S = 2; the paper says K = S.
        let (known, sent) = (u * binomial(k - 2, s - 2), all - absent);
        assert!(known >= sent, "{k} {u} {s}");
        assert!(k == u || (known == sent) == (u == 1 || s == 2), "{k} {u} {s}");
    }
}

/// Joint entropy of forms in uniform unknowns, in symbols.
pub(super) fn entropy(forms: &[LinearForm<M61>]) -> usize {
    let unknowns: Vec<_> = forms.iter().flat_map(|form| form.terms().map(|(unknown, _)| unknown)).collect();
    rank(&DMatrix::from_fn(forms.len(), unknowns.len(), |i, j| forms[i].coefficient(unknowns[j])))
}

#[test]
fn key_entropies_of_the_small_example() {
    // 001, (88): K = 3, U = 2, T = 0, L = 2; columns S_1(1), S_1(2), S_2(1), S_2(2), S_3(1), S_3(2).
    let rows = |rows: &[[i64; 6]]| rank(&DMatrix::from_fn(rows.len(), 6, |i, j| M61::integer(rows[i][j])));
    let (s1, s2, s3) = (
        [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]],
        [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]],
        [[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1]],
    );
    let z1 = [s1[0], s1[1], [1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0], [1, 0, 1, 0, 1, 0]];
    let z2 = [s2[0], s2[1], [0, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1]];
    let z3 = [s3[0], s3[1], [0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 1], [0, 1, 0, 1, 0, 1]];
    assert_eq!([rows(&z1), rows(&z2), rows(&z3)], [4, 5, 4], "(89)");
    // Sharing every mask once needs less, and as little in total as Theorem 2 allows.
    let protocol = Rounds::new(ZhaoSun::<M61>::new(3, 2, 0).unwrap());
    let keys = Protocol::<LinearForm<M61>>::deal(&protocol, 1, 2, &FormalKeys);
    let held = |key: &_| Secret::held(key).into_iter().flatten().cloned().collect::<Vec<LinearForm<M61>>>();
    let keys: Vec<_> = keys.iter().map(held).collect();
    assert_eq!(keys.iter().map(|key| entropy(key)).collect::<Vec<_>>(), [4, 4, 4, 0]);
    assert_eq!(entropy(&keys.concat()), 6);
}

#[test]
fn the_groupwise_example_of_the_paper() {
    // 002, Table I, over F_7: columns a_V for V = 123, 124, 125, 134, 135, 145.
    let first = [
        [0, 1, 0, 0, 1, 1],
        [1, 0, 1, 1, 1, 1],
        [0, 0, 0, 1, 0, 1],
        [0, 1, 1, 1, 0, 1],
        [1, 1, 0, 1, 0, 1],
        [1, 0, 0, 0, 0, 1],
    ];
    let all = coefficients(5, 3, &DMatrix::from_fn(6, 6, |i, j| F7::integer(first[j][i])));
    let column = |v: usize| -> Vec<F7> { all.column(v).iter().copied().collect() };
    let rest = [[-1, 2, 0, 0, 0, 1], [1, 2, 0, 0, 1, 1], [2, 0, 1, 0, 1, 1], [0, 0, 1, 0, 0, 1]];
    for (v, want) in (6..).zip(rest) {
        assert_eq!(column(v), want.map(F7::integer), "V = 234, 235, 245, 345");
    }
    let groups = [
        [1, 2, 3],
        [1, 2, 4],
        [1, 2, 5],
        [1, 3, 4],
        [1, 3, 5],
        [1, 4, 5],
        [2, 3, 4],
        [2, 3, 5],
        [2, 4, 5],
        [3, 4, 5],
    ];
    for k in 1..=5 {
        let (with, without): (Vec<usize>, Vec<usize>) = (0..10).partition(|&v| groups[v].contains(&k));
        assert_eq!(rank(&all.select_columns(&with)), 6, "(62), user {k}");
        assert_eq!(rank(&all.select_columns(&without)), 3, "Lemma 2, user {k}");
    }
    let vanishes = |s: [i64; 6], v: usize| {
        let dot = s.iter().zip(column(v)).fold(F7::ZERO, |sum, (&s, a)| sum + F7::integer(s) * a);
        dot == F7::ZERO
    };
    for s in [[0, -1, -2, 0, 0, 2], [-2, -1, 0, 0, 4, 0], [0, 0, 0, 1, 0, 0]] {
        assert!((6..10).all(|v| vanishes(s, v)), "user 1: {s:?}");
    }
    for s in [[-1, 0, -1, 0, 0, 1], [0, 0, 0, 0, 1, 0], [0, -1, 0, 1, 0, 0]] {
        assert!([3, 4, 5, 9].into_iter().all(|v| vanishes(s, v)), "user 2: {s:?}");
        // The paper names 234, 235, 245, which are user 1's.
        assert!(![6, 7, 8].into_iter().all(|v| vanishes(s, v)), "{s:?}");
    }
}

/// 001, Theorem 2: where nobody colludes all keys together have the entropy K L, for every U, and where one
/// survivor is enough each key has it alone.
#[test]
fn keys_have_the_entropies_of_the_theorem() {
    for clients in 2..=6 {
        for survivors in 1..=clients {
            let protocol = Rounds::new(ZhaoSun::<M61>::new(clients, survivors, 0).unwrap());
            let len = survivors;
            let keys = Protocol::<LinearForm<M61>>::deal(&protocol, 1, len, &FormalKeys);
            let held: Vec<Vec<LinearForm<M61>>> =
                keys.iter().map(|key| Secret::held(key).into_iter().flatten().cloned().collect()).collect();
            assert_eq!(entropy(&held.concat()), clients * len, "K = {clients}, U = {survivors}");
            for key in &held[..clients] {
                // Its own mask and a share of each other one: of one symbol, which is all for U = 1.
                assert_eq!(entropy(key), len + clients - 1, "K = {clients}, U = {survivors}");
            }
        }
    }
}
