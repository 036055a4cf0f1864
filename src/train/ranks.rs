//! The ranks of an MPI job, over which `mpirun -n R seccogc train CONFIG` divides the clients.
//!
//! Rank 0 is the program as it is without MPI: command line, run directory, links, aggregation, the server's
//! step, the test of the global model. The others hold the same configuration and data, and do what rank 0
//! orders:
//!
//! | order | to all ranks | to each rank | answer |
//! |---|---|---|---|
//! | `Build` | configuration, device | | nothing, or why the rank cannot take part |
//! | `Train` | round, global model, server's control vector | its clients, their carried and control vectors, the models of those who missed the global one | what its clients send, how their training went |
//! | `Test` | global model | its clients | their accuracies |
//! | `End` | | | |
//!
//! The seeded links decide what is lost, never MPI, and answers are put back in the order of the clients: a
//! run writes the same tables with any number of ranks, on processors of one kind. Every rank holds the whole
//! dataset. The state of the run is with rank 0 alone, so that its checkpoints are those of any run, and
//! `--resume` takes any number of ranks.
//!
//! Vectors travel as `f32`, in messages of at most [`PART`] numbers. A round moves 4d bytes to every other
//! rank and 4d′ from each of its clients, for d parameters and d′ coordinates of an update, which rank 0
//! compresses; 4d more to every rank where there are control vectors, and again where clients are tested; 4d
//! more per carried and control vector. Only the main thread calls MPI. It sleeps while it waits for an order
//! or an answer, where MPI itself would keep a core busy: no `mpi_yield_when_idle` is needed.
//!
//! When a rank dies, MPI ends the job: rank 0 gets a SIGTERM, and says how to go on.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mpi::environment::{Universe, processor_name};
use mpi::point_to_point::Status;
use mpi::topology::{Process, SimpleCommunicator};
use mpi::traits::{Communicator, Destination, Root, Source};
use mpi::{Rank, Tag, Threading};
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;

use super::crew::Crew;
use super::turn::{Tested, Trained};
use super::{Run, Setting, State};
use crate::config::Config;
use crate::error::{Error, Result, count};
use crate::learn::{Device, LocalUpdate};
use crate::record::{ClientStates, ServerState};
use crate::say::say;

/// Most numbers of a message: 4 MiB, far below the 2³¹ − 1 items that MPI can count.
const PART: usize = 1 << 20;

const ORDER: Tag = 1;
const REPORT: Tag = 2;
/// A rank has done its part, and sleeps.
const DONE: Tag = 3;
/// Rank 0 takes the rank's answer now.
const TURN: Tag = 4;
const ANSWER: Tag = 5;

const NOTHING: [u8; 0] = [];

/// What rank 0 tells another rank to do.
#[derive(Serialize, Deserialize)]
enum Order {
    /// The configuration in TOML, the name of the device.
    Build {
        config: String,
        device: String,
    },
    /// With carried vectors, with control vectors, with models that are not the global one.
    Train {
        round: u64,
        clients: Vec<u32>,
        carried: bool,
        controls: bool,
        received: bool,
    },
    Test {
        clients: Vec<u32>,
    },
    End,
}

/// The job, seen from one of its ranks.
pub(crate) struct Ranks {
    rank: Rank,
    size: Rank,
    /// Whether the other ranks have still to tell if they can take part.
    unreported: AtomicBool,
    /// Rounds that are over.
    rounds: Arc<AtomicU64>,
    universe: Universe,
}

impl Ranks {
    /// Joins the job that `mpirun` or `srun` started; `None` in a process that was started otherwise, or as
    /// the only one.
    pub fn join() -> Option<Self> {
        let count = |name| env::var(name).ok()?.parse::<usize>().ok();
        // Open MPI; MPICH and its kin; SLURM with PMIx, which tells no size.
        let size = count("OMPI_COMM_WORLD_SIZE").or_else(|| count("PMI_SIZE"));
        let size = size.or_else(|| count("PMIX_RANK").and_then(|_| count("SLURM_STEP_NUM_TASKS")));
        let (universe, _) = size
            .filter(|&size| size > 1)
            .and_then(|_| mpi::initialize_with_threading(Threading::Funneled))?;
        let (rank, size) = (universe.world().rank(), universe.world().size());
        Some(Self { rank, size, unreported: AtomicBool::new(false), rounds: Arc::default(), universe })
    }

    /// Whether this is rank 0.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// Does what rank 0 orders, until the run is over. `able`: whether this process can take part at all.
    pub fn serve(&self, able: Result<()>) {
        let Order::Build { config, device } = self.next_order() else { return };
        let build = || -> Result<Setting> {
            let refuse = |error: toml::de::Error| Error::Refused(error.message().replace('\n', " "));
            Setting::build(&toml::from_str(&config).map_err(refuse)?, device.parse()?)
        };
        let setting = able.and_then(|()| build());
        let run = setting.as_ref().map_err(ToString::to_string);
        let run = run.and_then(|s| s.run(&s.config.protocol).map_err(|error| error.to_string()));
        let problem =
            run.as_ref().err().map_or_else(String::new, |error| format!("{}: {error}", self.name()));
        self.world().process_at_rank(0).send_with_tag(problem.as_bytes(), REPORT);
        loop {
            match (self.next_order(), &run) {
                (Order::Train { round, clients, carried, controls, received }, Ok(run)) => {
                    let state = self.receive_state(run, round, &clients, [carried, controls, received]);
                    // Nothing stops the clients of this rank but its end, or examples that are gone.
                    let trained = run.train_here(&state, &clients);
                    let trained = trained.unwrap_or_else(|error| self.abandon(&error));
                    let figures = |trained: &Trained| {
                        let LocalUpdate { loss, examples, steps, .. } = trained.how;
                        [loss, examples as f64, steps as f64]
                    };
                    let all: Vec<f64> = trained.iter().flat_map(figures).collect();
                    self.answer(&all, trained.iter().map(|trained| &trained.sent[..]));
                }
                (Order::Test { clients }, Ok(run)) => {
                    let mut parameters = vec![0.0; run.setting.parameters()];
                    self.broadcast(&mut parameters);
                    let accuracies = run.test_here(&parameters, &clients);
                    let accuracies = accuracies.unwrap_or_else(|error| self.abandon(&error));
                    self.answer(&accuracies, std::iter::empty());
                }
                _ => return,
            }
        }
    }

    /// Ends the whole job, which cannot go on without this rank.
    fn abandon(&self, error: &Error) -> ! {
        say!("error: {}: {error}", self.name());
        self.world().abort(2)
    }

    fn name(&self) -> String {
        let host = processor_name().map_or_else(|_| String::new(), |host| format!(" on {host}"));
        format!("rank {} of {}{host}", self.rank, self.size)
    }

    fn world(&self) -> SimpleCommunicator {
        self.universe.world()
    }

    fn next_order(&self) -> Order {
        let world = self.world();
        let leader = world.process_at_rank(0);
        wait(&leader, ORDER);
        serde_json::from_slice(&leader.receive_vec_with_tag(ORDER).0).expect("rank 0 runs the same program")
    }

    /// The part of the state that the training of `clients` looks at.
    fn receive_state(
        &self,
        run: &Run<'_>,
        round: u64,
        clients: &[u32],
        [carried, controls, received]: [bool; 3],
    ) -> State {
        let (d, all) = (run.setting.parameters(), run.setting.config.clients);
        let vectors = |there: bool| vec![Vec::new(); if there { all } else { 0 }];
        let mut state = State {
            round,
            server: ServerState {
                parameters: vec![0.0; d],
                control: vec![0.0; if controls { d } else { 0 }],
                ..ServerState::default()
            },
            clients: ClientStates {
                carried: vectors(carried),
                controls: vectors(controls),
                received: vectors(received),
                ..ClientStates::default()
            },
            ..State::default()
        };
        self.broadcast(&mut state.server.parameters);
        self.broadcast(&mut state.server.control);
        let world = self.world();
        for k in clients.iter().map(|&k| k as usize) {
            let all = [&mut state.clients.carried, &mut state.clients.controls, &mut state.clients.received];
            for own in all.into_iter().filter_map(|v| v.get_mut(k)) {
                *own = receive(&world.process_at_rank(0), ORDER, d);
            }
        }
        state
    }

    /// Offers rank 0 an answer about every client of this rank's share, and sends it when its turn has come.
    fn answer<'v>(&self, figures: &[f64], vectors: impl Iterator<Item = &'v [f32]>) {
        if figures.is_empty() {
            return;
        }
        let world = self.world();
        let leader = world.process_at_rank(0);
        leader.send_with_tag(&NOTHING, DONE);
        wait(&leader, TURN);
        leader.receive_vec_with_tag::<u8>(TURN);
        leader.send_with_tag(figures, ANSWER);
        vectors.for_each(|vector| send(&leader, ANSWER, vector));
    }

    /// Gives all ranks the vector of rank 0.
    fn broadcast(&self, vector: &mut [f32]) {
        let world = self.world();
        let leader = world.process_at_rank(0);
        vector.chunks_mut(PART).for_each(|part| leader.broadcast_into(part));
    }

    fn order(&self, rank: Rank, order: &Order) {
        let bytes = serde_json::to_vec(order).expect("numbers and text have a JSON form");
        self.world().process_at_rank(rank).send_with_tag(&bytes[..], ORDER);
    }

    /// Takes the answers of the ranks with a share, in the order in which they are ready.
    fn collect(&self, shares: &[Vec<u32>], mut take: impl FnMut(&[u32], Vec<f64>, &Process<'_>)) {
        let world = self.world();
        for _ in shares[1..].iter().filter(|share| !share.is_empty()) {
            let rank = wait(&world.any_process(), DONE).source_rank();
            let process = world.process_at_rank(rank);
            process.receive_vec_with_tag::<u8>(DONE);
            process.send_with_tag(&NOTHING, TURN);
            let (figures, _) = process.receive_vec_with_tag(ANSWER);
            take(&shares[rank as usize], figures, &process);
        }
    }

    /// What the ranks report that cannot take part.
    fn problems(&self) -> Vec<String> {
        if !self.unreported.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let world = self.world();
        let report = |rank| {
            wait(&world.process_at_rank(rank), REPORT);
            world.process_at_rank(rank).receive_vec_with_tag(REPORT).0
        };
        let reports = (1..self.size).map(report).filter(|report| !report.is_empty());
        reports.map(|report| String::from_utf8_lossy(&report).into_owned()).collect()
    }
}

impl Crew for Ranks {
    fn size(&self) -> usize {
        self.size as usize
    }

    fn enlist(&self, config: &Config, device: &Device, directory: &Path) -> Result<()> {
        let order = Order::Build { config: config.to_toml()?, device: device.name().into() };
        let watch = Watch {
            directory: directory.to_owned(),
            every: config.record.checkpoint_every,
            ranks: self.size,
            rounds: Arc::clone(&self.rounds),
        };
        watch.begin()?;
        (1..self.size).for_each(|rank| self.order(rank, &order));
        self.unreported.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn muster(&self) -> Result<()> {
        self.problems().into_iter().next().map_or(Ok(()), |problem| Err(Error::Refused(problem)))
    }

    fn train(&self, run: &Run<'_>, state: &State, members: &[u32]) -> Result<Vec<Trained>> {
        self.rounds.store(state.round - 1, Ordering::Relaxed);
        let steps = |k: u32| run.copies(k as usize) * run.setting.solver.steps(run.setting.count(k));
        let shares = divide(members, steps, self.size());
        let (carried, controls) = (!state.clients.carried.is_empty(), !state.clients.controls.is_empty());
        let received = !state.clients.received.is_empty() || !state.presence.flights.landed.is_empty();
        for (rank, clients) in (0..).zip(&shares).skip(1) {
            let clients = clients.clone();
            self.order(rank, &Order::Train { round: state.round, clients, carried, controls, received });
        }
        self.broadcast(&mut state.server.parameters.clone());
        self.broadcast(&mut state.server.control.clone());
        let world = self.world();
        for (rank, clients) in (0..).zip(&shares).skip(1) {
            for k in clients.iter().map(|&k| k as usize) {
                if let Some(own) = state.clients.carried.get(k) {
                    send(&world.process_at_rank(rank), ORDER, own);
                }
                if let Some(own) = state.clients.controls.get(k) {
                    let zero =
                        if own.is_empty() { vec![0.0; state.server.control.len()] } else { Vec::new() };
                    send(&world.process_at_rank(rank), ORDER, if own.is_empty() { &zero } else { own });
                }
                if received {
                    send(&world.process_at_rank(rank), ORDER, state.model_of(k));
                }
            }
        }

        let own = run.train_here(state, &shares[0])?;
        let mut trained: BTreeMap<u32, Trained> = shares[0].iter().copied().zip(own).collect();
        self.collect(&shares, |clients, figures, process| {
            for (&k, &[loss, examples, steps]) in clients.iter().zip(figures.as_chunks().0) {
                let (examples, steps) = (examples as usize, steps as usize);
                let how = LocalUpdate { delta: Vec::new(), loss, examples, steps };
                let sent = receive(process, ANSWER, run.setting.updated());
                trained.insert(k, Trained { sent, how, metrics: Vec::new() });
            }
        });
        Ok(trained.into_values().collect())
    }

    fn test(&self, run: &Run<'_>, _round: u64, parameters: &[f32]) -> Result<Tested> {
        let (whole, tested) = (run.evaluate(parameters)?, run.tested());
        if tested.is_empty() {
            return Ok(whole);
        }
        let shares = divide(&tested, |k| run.setting.count(k), self.size());
        for (rank, clients) in (0..).zip(&shares).skip(1) {
            self.order(rank, &Order::Test { clients: clients.clone() });
        }
        self.broadcast(&mut parameters.to_vec());
        let own = run.test_here(parameters, &shares[0])?;
        let mut accuracies: BTreeMap<u32, f64> = shares[0].iter().copied().zip(own).collect();
        self.collect(&shares, |clients, figures, _| accuracies.extend(clients.iter().copied().zip(figures)));
        Ok(Tested { accuracies: accuracies.into_values().collect(), ..whole })
    }
}

impl Drop for Ranks {
    /// Ends the job: in good order, or at once when this rank has panicked and the others wait for it.
    fn drop(&mut self) {
        if thread::panicking() {
            say!("error: {} has failed", self.name());
            self.world().abort(2);
        }
        if self.leads() {
            self.problems();
            (1..self.size).for_each(|rank| self.order(rank, &Order::End));
        }
    }
}

/// Returns when a message can be received.
fn wait(from: &impl Source, tag: Tag) -> Status {
    let mut pause = Duration::from_micros(20);
    loop {
        if let Some(status) = from.immediate_probe_with_tag(tag) {
            return status;
        }
        thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_micros(500));
    }
}

fn send(to: &Process<'_>, tag: Tag, vector: &[f32]) {
    vector.chunks(PART).for_each(|part| to.send_with_tag(part, tag));
}

fn receive(from: &Process<'_>, tag: Tag, length: usize) -> Vec<f32> {
    let mut vector = vec![0.0; length];
    for part in vector.chunks_mut(PART) {
        from.receive_into_with_tag(part, tag);
    }
    vector
}

/// The clients of each rank, ascending: the one with most work first goes to the rank with least so far
/// (Graham 1969).
fn divide(clients: &[u32], work: impl Fn(u32) -> usize, ranks: usize) -> Vec<Vec<u32>> {
    let mut order = clients.to_vec();
    order.sort_by_key(|&k| Reverse(work(k)));
    let mut shares = vec![(0, Vec::new()); ranks];
    for k in order {
        if let Some((load, share)) = shares.iter_mut().min_by_key(|(load, _)| *load) {
            *load += work(k);
            share.push(k);
        }
    }
    shares.iter_mut().for_each(|(_, share)| share.sort_unstable());
    shares.into_iter().map(|(_, share)| share).collect()
}

/// Says how to go on when rank 0 is told to end.
struct Watch {
    directory: PathBuf,
    /// Rounds from one checkpoint to the next.
    every: u64,
    ranks: Rank,
    /// Rounds that are over.
    rounds: Arc<AtomicU64>,
}

impl Watch {
    fn begin(self) -> Result<()> {
        let refuse = |error| Error::Refused(format!("cannot wait for signals: {error}"));
        let mut signals = Signals::new([SIGTERM]).map_err(refuse)?;
        thread::spawn(move || {
            if signals.forever().next().is_some() {
                say!("error: {}", self.line());
                exit(2);
            }
        });
        Ok(())
    }

    fn line(&self) -> String {
        let done = self.rounds.load(Ordering::Relaxed);
        let (directory, ranks) = (self.directory.display(), self.ranks);
        let why = "a rank has died, or the job was ended from outside";
        if !self.directory.join("config.toml").exists() {
            return format!("stopped before the first round: {why}; start the run again");
        }
        let again = format!("`mpirun -n {ranks} seccogc train --resume {directory}` goes on");
        match done - done % self.every {
            0 => format!("stopped after {}: {why}; {again}", count(done, "round")),
            saved => format!("stopped after {}: {why}; {again} after round {saved}", count(done, "round")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_divided_evenly() {
        // 7 | 6 | 5, then 4 to the 5, 3 to the 6, 2 to the 7.
        assert_eq!(
            divide(&[1, 3, 4, 6, 8, 9], |k| [0, 2, 0, 3, 5, 0, 7, 0, 6, 4][k as usize], 3),
            [vec![1, 6], vec![3, 8], vec![4, 9]]
        );
        assert_eq!(divide(&[0, 1, 2, 3, 4], |_| 1, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(divide(&[5], |_| 0, 3), [vec![5], vec![], vec![]]);
    }

    #[test]
    fn the_last_line_names_the_last_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().to_owned();
        let watch = Watch { directory, every: 5, ranks: 3, rounds: Arc::new(AtomicU64::new(13)) };
        assert!(watch.line().ends_with("start the run again"));
        std::fs::write(folder.path().join("config.toml"), "").unwrap();
        let again = format!("`mpirun -n 3 seccogc train --resume {}` goes on", folder.path().display());
        let why = "a rank has died, or the job was ended from outside";
        assert_eq!(watch.line(), format!("stopped after 13 rounds: {why}; {again} after round 10"));
        watch.rounds.store(4, Ordering::Relaxed);
        assert_eq!(watch.line(), format!("stopped after 4 rounds: {why}; {again}"));
    }
}
