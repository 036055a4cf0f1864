//! Every link model against its law. Statistical bounds are 4.5 standard errors, α < 10⁻⁵ each for a correct
//! model.

use std::sync::Arc;

use seccogc::cohort::Silence;
use seccogc::config::Config;
use seccogc::message::{Expects, HEADER_BYTES, LinkUse, Node, PartyId, Phase};
use seccogc::network::{Dependence, LinkModel, Network, round_seconds};
use seccogc::protocol::{ProtocolConfig, Update};
use seccogc::seed::Seed;

const M: usize = 4;
const N: u64 = 40_000;

/// A configuration with the given `[network]` sections.
fn config(sections: &str) -> Result<Config, String> {
    config_of(M, sections)
}

fn config_of(clients: usize, sections: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("links.toml");
    std::fs::write(&path, format!("clients = {clients}\nrounds = 100\n{sections}")).unwrap();
    Config::load(&path, &[]).map_err(|error| error.to_string())
}

fn network(sections: &str) -> Network {
    config(sections).unwrap().network.build(M, 100, Seed::new(3)).unwrap()
}

fn refusal(sections: &str) -> String {
    let config = config(sections).unwrap();
    config.network.build(M, config.rounds, Seed::new(3)).err().unwrap().to_string()
}

fn upload(round: u64, from: u32) -> LinkUse<Node> {
    LinkUse { round, attempt: 0, transfer: 0, from: Node::Client(from), to: Node::Server, bytes: 1000 }
}

fn share(round: u64, from: u32, to: u32) -> LinkUse<Node> {
    LinkUse { to: Node::Client(to), ..upload(round, from) }
}

/// Frequency of `event` over rounds 1 to N.
fn frequency(event: impl Fn(u64) -> bool) -> f64 {
    (1..=N).filter(|&round| event(round)).count() as f64 / N as f64
}

/// Checks a frequency over N trials whose variance is `inflation` times that of independent ones.
fn assert_law(measured: f64, law: f64, inflation: f64) {
    let bound = 4.5 * (law * (1.0 - law) / N as f64 * inflation).sqrt();
    assert!((measured - law).abs() <= bound, "measured {measured}, law {law} ± {bound}");
}

#[test]
fn gilbert_elliott_links_lose_and_cluster_as_the_chain_says() {
    let network = network(
        "[network.client_server]\nkind = \"gilbert-elliott\"\nto_bad = 0.05\nto_good = 0.2\n\
         erasure_good = 0.1\nerasure_bad = 0.8\n\
         [network.client_client]\nkind = \"gilbert-elliott\"\nbad_share = [0.2, 0.2, 0.3, 0.4]\nburst = 4",
    );
    assert_eq!(network.dependence(), Dependence::Time);
    // π_B = 0.05/0.25 = 0.2, loss 0.2·0.8 + 0.8·0.1 = 0.24; the state's autocorrelation is 0.75^n.
    let (from, to) = (Node::Client(1), Node::Server);
    assert!((network.erasure(from, to, 1000) - 0.24).abs() < 1e-12);
    let lost = |round| !network.delivers(upload(round, 1));
    assert_law(frequency(lost), 0.24, 7.0);
    // P(loss in t and t+1) = 0.24² + 0.75 (0.8 − 0.1)² · 0.2 · 0.8 = 0.1164.
    assert_law(frequency(|t| lost(t) && lost(t + 1)), 0.1164, 7.0);
    // Other links are independent.
    assert_law(frequency(|t| lost(t) && !network.delivers(upload(t, 2))), 0.0576, 7.0);

    // Bursts of 4 rounds in 0.3 of the rounds, between clients and without losses in between: mean burst
    // length.
    let bad = |t| !network.delivers(share(t, 2, 0));
    assert_law(frequency(bad), 0.3, 1.0 + 2.0 * 0.65 / 0.35);
    let ends = frequency(|t| bad(t) && !bad(t + 1));
    let mean_burst = frequency(bad) / ends;
    assert!((mean_burst - 4.0).abs() < 0.25, "{mean_burst}");
    // All attempts of a round meet the same state.
    assert!((1..1000).all(|t| bad(t) != network.delivers(LinkUse { attempt: 1, ..share(t, 2, 0) })));
}

#[test]
fn rayleigh_links_fade_as_the_outage_formula_says() {
    let network = network(
        "[network.client_server]\nkind = \"rayleigh\"\nsnr = [10, 3, 1, 0.5]\nrate = 1.5\n\
         [network.client_client]\nkind = \"rayleigh\"\nsnr = 10\nrate = 1",
    );
    // 1 − exp(−(2¹ − 1)/10) = 0.0951626.
    let known = network.erasure(Node::Client(0), Node::Client(1), 1000);
    assert!((known - 0.095_162_6).abs() < 1e-7, "{known}");
    for (k, snr) in [(0, 10.0), (1, 3.0), (2, 1.0), (3, 0.5)] {
        let law = 1.0 - (-(1.5f64.exp2() - 1.0) / snr).exp();
        assert!((network.erasure(Node::Client(k), Node::Server, 1000) - law).abs() < 1e-12);
        assert_law(frequency(|t| !network.delivers(upload(t, k))), law, 1.0);
    }
    assert_eq!(network.dependence(), Dependence::None);
}

#[test]
fn distant_clients_fade_more_and_stay_where_they_are() {
    let geometry = "kind = \"rayleigh\"\nsnr = 1000\nrate = 1\nradius = 10\npath_loss = 3";
    let network =
        network(&format!("[network.client_server]\n{geometry}\n[network.client_client]\n{geometry}"));
    // From the outage law back to the distance, for every pair of parties; distances below 1 count as 1.
    let distance = |from: u32, to: Node| {
        let snr = -1.0 / (-network.erasure(Node::Client(from), to, 1)).ln_1p();
        (1000.0 / snr).cbrt()
    };
    for k in 0..M as u32 {
        let radius = distance(k, Node::Server);
        assert!((1.0 - 1e-9..=10.0).contains(&radius), "{radius}");
        assert_law(
            frequency(|t| !network.delivers(upload(t, k))),
            network.erasure(Node::Client(k), Node::Server, 1),
            1.0,
        );
        for m in (0..M as u32).filter(|&m| m != k) {
            let between = distance(k, Node::Client(m));
            assert!((between - distance(m, Node::Client(k))).abs() < 1e-9);
            // The places that the two families use are the same: triangle inequality over the server.
            assert!(between <= radius + distance(m, Node::Server) + 1e-9);
            assert!(between >= (radius - distance(m, Node::Server)).abs() - 1e-9);
        }
    }
}

#[test]
fn a_client_that_is_down_loses_all_its_links_at_once() {
    let outage = "kind = \"client-outage\"\ndown_share = [0.2, 0.1, 0.1, 0.0]\nduration = 5";
    let network = network(&format!(
        "[network.client_server]\n{outage}\n[network.client_client]\n{outage}\nerasure = 0.3"
    ));
    assert_eq!(network.dependence(), Dependence::Links);
    let down = |t, k| !network.delivers(upload(t, k));
    // Correlation 1 − 0.2 − 0.05 = 0.75 from one round to the next.
    assert_law(frequency(|t| down(t, 0)), 0.2, 7.0);
    let mean = frequency(|t| down(t, 0)) / frequency(|t| down(t, 0) && !down(t + 1, 0));
    assert!((mean - 5.0).abs() < 0.35, "{mean}");
    assert!((1..5000).all(|t| !down(t, 3)));
    for t in (1..5000).filter(|&t| down(t, 0)) {
        assert!((1..4).all(|m| !network.delivers(share(t, 0, m)) && !network.delivers(share(t, m, 0))));
    }
    // 1 − 0.8 · 0.9 · 0.7 = 0.496.
    let law = network.erasure(Node::Client(0), Node::Client(1), 1);
    assert!((law - 0.496).abs() < 1e-12);
    assert_law(frequency(|t| !network.delivers(share(t, 0, 1))), law, 7.0);
}

#[test]
fn late_messages_are_lost_as_often_as_the_delay_law_says() {
    let network = network(
        "[network.client_server]\nkind = \"deadline\"\ndeadline = 1.0\nrate = 2000\nlatency = 0.1\n\
         jitter = [0.2, 0.4, 0.0, 0.4]",
    );
    // 1000 bytes at 2000 bytes/s: slack 1 − 0.1 − 0.5 = 0.4 s.
    for (k, law) in [(0, (-2.0f64).exp()), (1, (-1.0f64).exp()), (2, 0.0), (3, (-1.0f64).exp())] {
        assert!((network.erasure(Node::Client(k), Node::Server, 1000) - law).abs() < 1e-12);
        assert_law(frequency(|t| !network.delivers(upload(t, k))), law, 1.0);
    }
    // 1801 bytes take longer than the deadline even without jitter.
    assert_eq!(network.erasure(Node::Client(2), Node::Server, 1801), 1.0);
    assert!(!network.delivers(LinkUse { bytes: 1801, ..upload(1, 2) }));
}

#[test]
fn the_time_of_a_round_is_the_one_computed_by_hand() {
    // No jitter. Shares of 1000 bytes take 0.1 + 1000/rate = 0.6, 0.3, 0.2 and 1.1 s by sender; uploads 2, 1,
    // 3 and 9 → 5 s.
    let network = network(
        "[network.client_client]\nkind = \"deadline\"\ndeadline = 1.0\nrate = [2000, 5000, 10000, 1000]\n\
         latency = 0.1\njitter = 0\n\
         [network.client_server]\nkind = \"deadline\"\ndeadline = 5.0\nrate = 1e9\n\
         latency = [2, 1, 3, 9]\njitter = 0",
    );
    let phases = [Phase::shares("share", Expects::Nobody), Phase::upload("sum", Expects::Everybody)];
    let parties: Vec<Node> = (0..M as u32).map(Node::Client).chain([Node::Server]).collect();
    let time = |attempts, uses: &[LinkUse<Node>]| {
        round_seconds(&network, &phases, &parties, attempts, uses.iter().copied()).unwrap()
    };
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} for {b}");
    let uploads: Vec<LinkUse<Node>> = (0..4).map(|k| upload(1, k)).collect();
    // Last share after 0.6 s; client 4's upload is late, so the server waits its 5 s.
    near(time(1, &[&[share(1, 0, 1), share(1, 1, 2)][..], &uploads].concat()), 5.6);
    // Client 4's share is late: the receiver waits 1 s. Nobody uploads: the server waits 5 s.
    near(time(1, &[share(1, 2, 1), share(1, 3, 1)]), 6.0);
    // A silent client costs the deadline although the three others are done after 3 s.
    near(time(1, &uploads[..3]), 5.0);
    // A second attempt adds up.
    let again: Vec<LinkUse<Node>> = uploads.iter().map(|u| LinkUse { attempt: 1, ..*u }).collect();
    near(time(2, &[uploads, again].concat()), 10.0);
}

/// Five clients whose messages take as long as given, whatever their size; client 5 is always late for
/// helpers and server.
const TIMED: &str = "[network.client_client]\nkind = \"deadline\"\ndeadline = 1.0\nrate = 1e15\n\
                     latency = [0.1, 0.2, 0.3, 0.4, 0.5]\njitter = 0\n\
                     [network.client_server]\nkind = \"deadline\"\ndeadline = 5.0\nrate = 1e15\n\
                     latency = [2, 1, 3, 2.5, 9]\njitter = 0\n\
                     [network.client_helper]\nkind = \"deadline\"\ndeadline = 2.0\nrate = 1e15\n\
                     latency = [0.1, 0.2, 0.3, 0.4, 3]\njitter = 0\n\
                     [network.helper_server]\nkind = \"deadline\"\ndeadline = 4.0\nrate = 1e15\n\
                     latency = 0.5\njitter = 0\n";

#[test]
fn every_scheme_takes_the_time_of_its_phases() {
    let updates: Vec<Update> =
        (0..5).map(|_| Update { weight: 1.0, delta: Arc::new(vec![0.5; 6]) }).collect();
    let config = |protocol: &str| config_of(5, &format!("{TIMED}[protocol]\n{protocol}")).unwrap();
    let seconds = |protocol: &str, silent: &[u32]| {
        let config = config(protocol);
        let scheme = config.protocol.build(5, Seed::new(1)).unwrap();
        let links = config.network.build(5, 1, Seed::new(1)).unwrap();
        scheme.aggregate(1, &updates, &Silence { links: &links, silent }, 1).unwrap().seconds.unwrap()
    };
    for (protocol, silent, want) in [
        // The server waits its 5 s for client 5.
        ("kind = 'fedavg'", &[][..], 5.0),
        // It asks client 5 again, and waits again.
        ("kind = 'fedavg'\ntransmissions = 2", &[], 10.0),
        // The last share comes after 0.5 s.
        ("kind = 'sec-cogc'\nstragglers = 2", &[], 5.5),
        // Client 1 has shares for others, who wait for them.
        ("kind = 'sec-cogc'\nstragglers = 2", &[0], 6.0),
        // Without stragglers nothing is shared.
        ("kind = 'sec-cogc'\nstragglers = 0", &[], 5.0),
        // Keys: client 5 is late. It is not asked any more: shares, masked updates and answers come after 3 s
        // each.
        ("kind = 'sec-agg'\nthreshold = 3", &[], 14.0),
        ("kind = 'sec-agg-plus'\nneighbours = 4\nthreshold = 3", &[], 14.0),
        // Uploads 5 s, answers of the four survivors 3 s.
        ("kind = 'zhao-sun'\nsurvivors = 3\ncolluders = 1", &[], 8.0),
        ("kind = 'groupwise'\nsurvivors = 3\ngroup_size = 3", &[], 8.0),
        ("kind = 'light-sec-agg'\nsurvivors = 3\ncolluders = 1", &[], 8.5),
        // Shares 2 s, reports and sums half a second each; nobody needs a repair, and client 5 is left out.
        ("kind = 'hierarchical'\nhelpers = 3\nthreshold = 2\ncolluding = 1", &[], 3.0),
        ("kind = 'secure-gc'\nresponders = 4\nreduction = 2", &[], 5.0),
    ] {
        let got = seconds(protocol, silent);
        assert!((got - want).abs() < 1e-9, "{protocol}, {silent:?}: {got} for {want}");
    }
}

/// Whatever a client sends to the server first is lost in the same rounds.
#[test]
fn the_first_upload_meets_the_same_link_state_under_every_protocol() {
    let links = "[network.client_client]\nkind = \"bernoulli\"\nerasure = 0\n[network.client_server]\nkind = \"bernoulli\"\nerasure = 0.3\n";
    let updates: Vec<Update> =
        (0..5).map(|_| Update { weight: 1.0, delta: Arc::new(vec![0.5; 6]) }).collect();
    let fates = |protocol: &str| -> Vec<(u64, PartyId, bool)> {
        let config = config_of(5, &format!("{links}[protocol]\n{protocol}")).unwrap();
        let scheme = config.protocol.build(5, Seed::new(1)).unwrap();
        let links = config.network.build(5, 40, Seed::new(2)).unwrap();
        let of_round = |round| {
            let sent = scheme.aggregate(round, &updates, &links, 1).unwrap().sent;
            let first = |link: &LinkUse| (link.to, link.transfer) == (PartyId::Server, 0);
            sent.into_iter()
                .filter(move |(link, _)| first(link))
                .map(move |(link, ok)| (round, link.from, ok))
        };
        (1..=40).flat_map(of_round).collect()
    };
    let want = fates("kind = 'fedavg'");
    assert!(want.iter().any(|(.., ok)| *ok) && want.iter().any(|(.., ok)| !*ok));
    for protocol in [
        "kind = 'gaussian'",
        "kind = 'zero-sum'",
        "kind = 'cogc'\nstragglers = 2",
        "kind = 'sec-agg'",
        "kind = 'sec-agg-plus'\nneighbours = 4\nthreshold = 3",
        "kind = 'zhao-sun'\nsurvivors = 3\ncolluders = 1",
        "kind = 'light-sec-agg'\nsurvivors = 3\ncolluders = 1",
        "kind = 'groupwise'\nsurvivors = 3\ngroup_size = 3",
        "kind = 'secure-gc'\nresponders = 4\nreduction = 2",
    ] {
        assert_eq!(fates(protocol), want, "{protocol}");
    }
}

#[test]
fn a_run_reports_the_time_of_its_messages_and_none_without_a_clock() {
    let config = config(
        "[network.client_server]\nkind = \"deadline\"\ndeadline = 5\nrate = 100\nlatency = 0.25\njitter = 0\n\
         [protocol]\nkind = \"fedavg\"",
    )
    .unwrap();
    let updates: Vec<Update> =
        (0..M).map(|_| Update { weight: 1.0, delta: Arc::new(vec![0.5; 6]) }).collect();
    let scheme = config.protocol.build(M, Seed::new(1)).unwrap();
    let timed = config.network.build(M, 1, Seed::new(1)).unwrap();
    let seconds = scheme.aggregate(1, &updates, &timed, 1).unwrap().seconds.unwrap();
    let bytes = HEADER_BYTES + 6 * 4;
    assert!((seconds - (0.25 + bytes as f64 / 100.0)).abs() < 1e-12, "{seconds}");
    let untimed = network("");
    assert_eq!(scheme.aggregate(1, &updates, &untimed, 1).unwrap().seconds, None);
}

#[test]
fn a_trace_can_have_a_block_for_each_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    std::fs::write(&path, "1,1,1,1, 1,1,1,0\n1,1,1,1, 1,1,1,1\n").unwrap();
    let sections = format!("[network.client_server]\nkind = \"trace\"\npath = {path:?}\nrepeat = true\n");
    let network = network(&sections);
    let delivers = |round, transfer| network.delivers(LinkUse { transfer, ..upload(round, 3) });
    assert_eq!([0, 1, 2].map(|transfer| delivers(1, transfer)), [true, false, false]);
    assert_eq!([0, 1, 2].map(|transfer| delivers(2, transfer)), [true; 3]);
    // Of masked updates nothing is lost; in the round in which client 4's answer is, the others' suffice.
    let scheme = toml::from_str::<ProtocolConfig>("kind = 'zhao-sun'\nsurvivors = 3\ncolluders = 1").unwrap();
    let updates: Vec<Update> =
        (0..M).map(|_| Update { weight: 1.0, delta: Arc::new(vec![0.5; 6]) }).collect();
    let played = scheme.build(M, Seed::new(1)).unwrap().aggregate(1, &updates, &network, 1).unwrap();
    assert_eq!((played.decoded.included().len(), played.arrivals), (M, 7));
    std::fs::write(&path, "1,1,1,1,1\n").unwrap();
    let config = config(&sections).unwrap().network.build(M, 100, Seed::new(3));
    let line = config.err().unwrap().to_string();
    assert!(line.ends_with("trace.csv: line 1 has 5 values, not 4, one per client"), "{line}");
}

#[test]
fn traces_are_replayed_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.csv");
    std::fs::write(&path, "1,0,1,1\n0, 1,1,1\n1,1,1,0\n").unwrap();
    let section =
        |repeat| format!("[network.client_server]\nkind = \"trace\"\npath = {path:?}\nrepeat = {repeat}\n");
    let network = network(&section(true));
    let lines = [[true, false, true, true], [false, true, true, true], [true, true, true, false]];
    for round in 1..=7u64 {
        let line = lines[(round as usize - 1) % 3];
        assert_eq!([0, 1, 2, 3].map(|k| network.delivers(upload(round, k))), line, "round {round}");
    }
    assert!((network.erasure(Node::Client(0), Node::Server, 1) - 1.0 / 3.0).abs() < 1e-12);

    let refused = refusal(&section(false));
    let rule = "the trace has 3 rounds for a run of 100; give a longer one, or set repeat = true";
    assert_eq!(refused, format!("{}: {rule}", path.display()));
    for (text, rule) in [
        ("1,0,1\n", "line 1 has 3 values, not 4, one per client"),
        ("1,0,1,1\n1,0,2,1\n", "line 2, column 3: `2` is neither 1 (arrives) nor 0 (lost)"),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(refusal(&section(true)), format!("{}: {rule}", path.display()));
    }
}

#[test]
fn wrong_numbers_are_refused_in_one_line() {
    let server = |keys: &str| refusal(&format!("[network.client_server]\n{keys}"));
    assert_eq!(
        server("kind = \"gilbert-elliott\""),
        "client_server: gilbert-elliott needs either to_bad and to_good, or bad_share and burst"
    );
    assert_eq!(
        server("kind = \"gilbert-elliott\"\nto_bad = 0\nto_good = 0"),
        "client_server.to_good: link from client 1 to server: the chain never changes its state, so it has no \
         stationary law; give a positive transition probability"
    );
    assert!(server("kind = \"gilbert-elliott\"\nto_bad = 1\nto_good = 1").contains("hardly ever forgets"));
    assert_eq!(
        server("kind = \"gilbert-elliott\"\nbad_share = [0.1, 0.1, 0.9, 0.1]\nburst = 2"),
        "client_server.burst: link from client 3 to server: bursts of 2 rounds cannot fill the share 0.9 of all \
         rounds; the share is at most length / (length + 1)"
    );
    assert_eq!(server("kind = \"rayleigh\"\nsnr = -3"), "client_server.snr: number -3 is outside (0, ∞)");
    assert_eq!(
        server("kind = \"rayleigh\"\nsnr = [1, 2]"),
        "client_server.snr: the list has 2 numbers for 4 clients; give one per client, or one number for all"
    );
    assert_eq!(
        server("kind = \"client-outage\"\nduration = 0.5"),
        "client_server.duration: number of rounds 0.5 is outside [1, ∞)"
    );
    assert_eq!(
        server("kind = \"deadline\"\ndeadline = 0"),
        "client_server.deadline: number 0 is outside (0, ∞)"
    );
    assert_eq!(server("kind = \"trace\""), "client_server.path: a trace needs the CSV file to replay");
    let unknown = config("[network.client_server]\nkind = \"rayleigh\"\nsnr_db = 3").unwrap_err();
    assert!(unknown.contains("network.client_server") && !unknown.contains('\n'), "{unknown}");
}

#[test]
fn every_kind_is_explained() {
    let text = seccogc::config::explain("network.client_server").unwrap();
    for kind in seccogc::network::LinkConfig::KINDS {
        assert!(text.contains(&format!("kind = \"{kind}\"")), "{kind}\n{text}");
    }
}
