//! How few key symbols an assignment can do with: the converse of Theorem 2 and Corollary 1.
//!
//! Where servers s_1, s_2, … each hold a dataset that fewer than m of those before it hold, each of their
//! transmissions is independent of the ones before, so that all servers reveal h ≥ |s| symbols, and η ≥
//! |s|/m − 1. Whether servers can be put into such an order depends on the set alone, so that sets of servers
//! are looked at, each once.

/// Servers among which all sets are looked at.
const SERVERS: usize = 16;

/// Servers of which all assignments are looked at.
const ASSIGNED: usize = 6;

/// Servers in an order of Theorem 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The servers, from 0.
    pub servers: Vec<usize>,
    /// Whether no longer order exists; else it is one that was found, and as good a bound.
    pub is_longest: bool,
}

/// The longest order of `servers` = N servers for an assignment, with the `holders` of each dataset, and
/// reduction m; among many servers a long one.
#[must_use]
pub fn ordered(holders: &[Vec<usize>], servers: usize, reduction: usize) -> Ordered {
    if servers > SERVERS {
        return Ordered { servers: greedy(holders, servers, reduction), is_longest: false };
    }
    let mask = |own: &Vec<usize>| own.iter().fold(0u32, |mask, n| mask | 1 << n);
    let datasets: Vec<u32> = holders.iter().map(mask).collect();
    Ordered { servers: longest(&datasets, servers, reduction), is_longest: true }
}

/// Whether server `n` can come next after a set of servers.
fn is_next(datasets: &[u32], set: u32, n: usize, reduction: usize) -> bool {
    let fresh = |own: &u32| own >> n & 1 == 1 && ((own & set).count_ones() as usize) < reduction;
    set >> n & 1 == 0 && datasets.iter().any(fresh)
}

fn longest(datasets: &[u32], servers: usize, reduction: usize) -> Vec<usize> {
    // By set: the last server of an order that it has, plus 1; 0 where it has none.
    let mut last = vec![0u8; 1 << servers];
    let mut best = 0u32;
    // Subsets come before their supersets.
    for set in 0..1u32 << servers {
        if set > 0 && last[set as usize] == 0 {
            continue;
        }
        if set.count_ones() > best.count_ones() {
            best = set;
        }
        for n in (0..servers).filter(|&n| is_next(datasets, set, n, reduction)) {
            last[(set | 1 << n) as usize] = n as u8 + 1;
        }
    }
    let mut order = Vec::new();
    while best > 0 {
        let n = usize::from(last[best as usize]) - 1;
        order.push(n);
        best &= !(1 << n);
    }
    order.reverse();
    order
}

/// Next always the server after which the fewest datasets are used up.
fn greedy(holders: &[Vec<usize>], servers: usize, reduction: usize) -> Vec<usize> {
    let mut counts = vec![0usize; holders.len()];
    let mut of_server = vec![Vec::new(); servers];
    for (k, holders) in holders.iter().enumerate() {
        holders.iter().for_each(|&n| of_server[n].push(k));
    }
    let mut order: Vec<usize> = Vec::new();
    loop {
        let next = (0..servers).filter(|n| !order.contains(n)).filter_map(|n| {
            let fresh = of_server[n].iter().filter(|k| counts[**k] < reduction).count();
            let used_up = of_server[n].iter().filter(|k| counts[**k] + 1 == reduction).count();
            (fresh > 0).then_some((used_up, n))
        });
        let Some((_, n)) = next.min() else { return order };
        of_server[n].iter().for_each(|&k| counts[k] += 1);
        order.push(n);
    }
}

/// Corollary 1: the least h that Theorem 2 leaves to any assignment of N = `servers` datasets to as many
/// servers, M = `copies` of each and M at each server, m = `reduction`. `None` for more servers than all
/// assignments of are looked at.
///
/// # Panics
/// Unless 1 ≤ `reduction` ≤ `copies` ≤ `servers`.
#[must_use]
pub fn least_ordered(servers: usize, copies: usize, reduction: usize) -> Option<usize> {
    assert!(1 <= reduction && reduction <= copies && copies <= servers, "1 ≤ m ≤ M ≤ N");
    if servers > ASSIGNED {
        return None;
    }
    let choices: Vec<u32> = (0..1u32 << servers).filter(|set| set.count_ones() as usize == copies).collect();
    let mut search = Search { servers, copies, reduction, choices, least: servers };
    search.assign(&mut Vec::new(), &mut vec![0; servers], 0);
    Some(search.least)
}

/// All assignments, whatever the order of the datasets.
struct Search {
    servers: usize,
    copies: usize,
    reduction: usize,
    choices: Vec<u32>,
    least: usize,
}

impl Search {
    fn assign(&mut self, datasets: &mut Vec<u32>, loads: &mut Vec<usize>, from: usize) {
        if datasets.len() == self.servers {
            self.least = self.least.min(longest(datasets, self.servers, self.reduction).len());
            return;
        }
        for place in from..self.choices.len() {
            let set = self.choices[place];
            let holds = |n: &usize| set >> n & 1 == 1;
            if (0..self.servers).filter(holds).any(|n| loads[n] == self.copies) {
                continue;
            }
            (0..self.servers).filter(holds).for_each(|n| loads[n] += 1);
            datasets.push(set);
            self.assign(datasets, loads, place);
            datasets.pop();
            (0..self.servers).filter(holds).for_each(|n| loads[n] -= 1);
        }
    }
}
