//! Zero leakage for every coalition that a scheme promises to withstand, and some for those beyond.

use seccogc::algebra::LinearForm;
use seccogc::keys::FormalKeys;
use seccogc::privacy::exact::ExactViews;
use seccogc::protocol::exchange::formal;

use super::theorems::entropy;
use super::*;

fn field_views(scheme: &dyn Aggregator, links: &Survivors) -> Box<dyn ExactViews> {
    let Formal::Field(views) = scheme.formal(1, links, 1).unwrap() else { panic!("a scheme over a field") };
    views
}

/// Leakage in field symbols for every U_1 and every coalition of server and clients that leaves `honest` or
/// more, and of the clients alone. `promised(T)` says whether a coalition with T clients must learn nothing;
/// otherwise it must learn something.
fn audit(
    name: &str,
    views: impl Fn(&Survivors) -> Box<dyn ExactViews>,
    [clients, survivors]: [usize; 2],
    promised: impl Fn(u32) -> bool,
) {
    let all = (1u32 << clients) - 1;
    for first in (0..=all).filter(|first| first.count_ones() as usize >= survivors) {
        let views = views(&Survivors { first, second: first });
        assert_eq!(views.findings(), [], "{name}");
        for colluders in (0..=all).filter(|colluders| (all & !colluders).count_ones() >= 2) {
            let count = colluders.count_ones();
            let server = views.exposed(&with_server(clients, colluders));
            let name = format!("{name}: U1 = {first:b}, server + {colluders:b}");
            assert!(server.sum, "{name}");
            assert_eq!(server.symbols == 0, promised(count), "{name}: {:?}", server.counterexample);
            if promised(count) && count > 0 {
                let alone =
                    views.exposed(&Coalition::of(members(colluders).into_iter().map(PartyId::Client)));
                assert_eq!((alone.symbols, alone.sum), (0, false), "{name}, without server");
                let honest = members(all & !colluders);
                assert!(honest.iter().all(|&k| alone.hidden[usize::from(k)]), "{name}, without server");
            }
            if promised(count) {
                // Who is not in U_1 stays hidden.
                for k in members(all & !first & !colluders) {
                    assert!(server.hidden[usize::from(k)], "{name}: client {k}");
                }
            }
        }
    }
}

#[test]
fn the_server_with_t_clients_learns_the_sum_alone_and_with_one_more_something() {
    let (zhao, _) = parameters(6);
    zhao.into_par_iter().for_each(|[k, u, t]| {
        let scheme = zhao_sun(k, u, t);
        let views = |links: &_| field_views(&*scheme, links);
        audit(&format!("zhao-sun K={k} U={u} T={t}"), views, [k, u], |count| count as usize <= t);
    });
}

#[test]
fn masks_shared_without_a_dealer_protect_as_much() {
    let (shared, _) = parameters(5);
    shared.into_par_iter().for_each(|[k, u, t]| {
        let scheme = light_sec_agg(k, u, t);
        let views = |links: &_| field_views(&*scheme, links);
        audit(&format!("light-sec-agg K={k} U={u} T={t}"), views, [k, u], |count| count as usize <= t);
    });
}

#[test]
fn groupwise_keys_hide_all_but_the_sum_from_the_server_and_cover_no_collusion() {
    let (_, group) = parameters(5);
    group.into_par_iter().for_each(|[k, u, s]| {
        let scheme = groupwise(k, u, s);
        audit(
            &format!("groupwise K={k} U={u} S={s}"),
            |links| field_views(&*scheme, links),
            [k, u],
            |count| count == 0,
        );
    });
}

#[test]
fn groupwise_keys_over_an_extension_field_hide_as_much() {
    let (_, mut group) = parameters(4);
    group.push([5, 2, 3]);
    group.into_par_iter().for_each(|[k, u, s]| {
        let protocol = Rounds::new(Groupwise::<F7Pow5>::new(k, u, s, Seed::new(1)).unwrap());
        let views = |links: &Survivors| -> Box<dyn ExactViews> {
            Box::new(formal::<F7Pow5, _>(&protocol, k, 1, &FormalKeys, links, 1))
        };
        audit(&format!("groupwise over F_7^5 K={k} U={u} S={s}"), views, [k, u], |count| count == 0);
    });
}

#[test]
fn answers_for_two_survivor_sets_would_unmask_a_single_client() {
    let scheme = ZhaoSun::<M61>::new(3, 2, 0).unwrap();
    let keys = TwoRound::<LinearForm<M61>>::deal(&scheme, 1, 2, &FormalKeys);
    let answers = |included: &[u16]| -> Vec<LinearForm<M61>> {
        included.iter().flat_map(|&k| scheme.answer(k, &keys[usize::from(k)], included).unwrap().0).collect()
    };
    let third = scheme.mask(2, &keys[2]);
    let rest = |seen: &[LinearForm<M61>]| entropy(&[seen, &third].concat()) - entropy(seen);
    assert_eq!(rest(&answers(&[0, 1, 2])), 2);
    assert_eq!(rest(&[answers(&[0, 1, 2]), answers(&[0, 1])].concat()), 0);
}

#[test]
fn too_few_answers_show_parts_of_the_announced_sum_at_most() {
    for scheme in [zhao_sun(5, 4, 1), zhao_sun(5, 3, 0), light_sec_agg(5, 4, 1), groupwise(4, 3, 2)] {
        let Formal::Field(views) = scheme.formal(1, &Survivors { first: 0b1111, second: 0b0011 }, 1).unwrap()
        else {
            panic!("schemes over a field")
        };
        let server = views.exposed(&Coalition::of([PartyId::Server]));
        assert_eq!((server.symbols, server.sum), (0, false), "{:?}", server.counterexample);
    }
}
