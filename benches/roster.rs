//! What signed rosters cost a round of M clients, beside what the round itself costs a client: agreeing keys
//! with everybody, and masking and sealing its shares. One thread; medians of five.
//!
//! `cargo bench --features deploy --bench roster`

use std::sync::Arc;
use std::time::Instant;

use seccogc::algebra::grid::Public;
use seccogc::config::Config;
use seccogc::deploy::message::{Announcement, Entry, Hex, Signed};
use seccogc::deploy::pki;
use seccogc::deploy::roster::{About, Roster};
use seccogc::deploy::statement::{Authority, Signer, Topic};
use seccogc::deploy::transport::Identity;
use seccogc::keys::KeyChoice;
use seccogc::message::PartyId;
use seccogc::party::agreement::KeyPair;
use seccogc::party::seat::scheme;
use seccogc::protocol::cogc::SecCoGcConfig;
use seccogc::protocol::{ProtocolConfig, Update};
use seccogc::seed::Seed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const D: usize = 1_663_370;
const ABOUT: About = About { run: Hex([1; 32]), digest: Hex([2; 32]) };

fn median(mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        1e3 * start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..5).map(time).collect();
    times.sort_by(f64::total_cmp);
    times[2]
}

fn main() {
    println!(
        "| clients | sign, ms | read a roster, ms | agree keys, ms | mask and seal, ms | announcement, kB |"
    );
    println!("|--:|--:|--:|--:|--:|--:|");
    for clients in [10, 100, 1000] {
        measure(clients);
    }
}

fn measure(clients: usize) {
    let folder = tempfile::tempdir().unwrap();
    let pki = folder.path().join("pki");
    pki::init(&pki, &[]).unwrap();
    let names: Vec<String> = (0..clients).map(|k| format!("client-{k:04}")).collect();
    names.iter().for_each(|name| pki::issue(&pki, name, &[], 30).unwrap());
    let signer = |name| Signer::load(&Identity { folder: &pki, name }).unwrap();
    let keys: Vec<KeyPair> = names.iter().map(|_| KeyPair::generate().unwrap()).collect();
    let About { run, digest } = ABOUT;
    let entry = |k: usize| {
        let (nonce, public) = (Hex([k as u8; 32]), Hex(keys[k].public()));
        Entry { run, digest, round: 1, nonce, name: names[k].clone(), public, examples: 100 }
    };
    let members: Vec<Signed> =
        (0..clients).map(|k| signer(&names[k]).sign(Topic::Entry, &entry(k)).unwrap()).collect();
    let (first, said) = (signer(&names[0]), entry(0));
    let sign = median(|| drop(first.sign(Topic::Entry, &said).unwrap()));
    let announcement = Announcement { run, digest, round: 1, model: Hex([3; 32]), members: members.clone() };
    let announcement = signer("server").sign(Topic::Announcement, &announcement).unwrap();
    let mut config = Config { clients, ..Config::default() };
    config.deploy.names = names;
    let authority = Authority::load(&pki).unwrap();
    let read = || Roster::read(&announcement, &members[0], ABOUT, &config, &authority).unwrap();
    let reading = median(|| drop(read()));
    let roster = read();
    let public: Vec<[u8; 32]> = roster.members.iter().map(|member| member.public.0).collect();
    let agree = || keys[0].agree(0, &public, &roster.context()).unwrap();
    let agreeing = median(|| drop(agree()));
    let secrets = agree();
    let stragglers = 3.into();
    let keys = KeyChoice::Pairwise;
    let protocol = ProtocolConfig::SecCoGc(SecCoGcConfig { stragglers, keys, ..SecCoGcConfig::default() });
    let scheme = scheme(&protocol, clients, Seed::new(1), &Public::default(), 1e6).unwrap();
    let update = Update { weight: 1.0, delta: Arc::new(vec![0.01; D]) };
    let masking = median(|| {
        let mut seat = scheme.client(0, 1, &update, &secrets).unwrap();
        for letter in seat.step() {
            let PartyId::Client(to) = letter.to else { continue };
            drop(secrets.seal(to, 0, &letter.bytes));
        }
    });
    let size = announcement.body.len() as f64 / 1e3;
    println!("| {clients} | {sign:.2} | {reading:.1} | {agreeing:.1} | {masking:.0} | {size:.0} |");
}
