//! `seccogc serve`, `seccogc join` and `seccogc pki`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tracing_subscriber::EnvFilter;

use super::progress::{Progress, View};
use super::{Common, begin, device, finish, in_folder};
use crate::deploy::{self, Begin};
use crate::error::Result;
use crate::parallel::NEVER;
use crate::train::Setting;

pub const SERVE_EXAMPLES: &str = "Examples:\n  \
    seccogc pki init\n  \
    seccogc serve configs/deploy.toml\n  \
    seccogc serve --resume runs/deploy                   after an interruption: the clients that are there go on\n\n\
    SECCOGC_LOG sets what is logged, e.g. SECCOGC_LOG=debug or SECCOGC_LOG=seccogc=info,zenoh=debug";

pub const JOIN_EXAMPLES: &str = "Examples:\n  \
    seccogc pki issue ann\n  \
    seccogc join --server localhost:7447 --name ann --data mnist-subset    the part that the configuration gives ann\n  \
    seccogc join --server fl.example.org:7447 --name ann --data flowers.csv --pki ~/pki";

pub const PKI_EXAMPLES: &str = "Examples:\n  \
    seccogc pki init --host fl.example.org\n  \
    seccogc pki issue ann --days 30\n  \
    seccogc pki revoke ann";

#[derive(Args)]
pub struct Serve {
    /// The configuration, a TOML file with a [deploy] section
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// Go on with an interrupted run folder, with its own configuration
    #[arg(long, value_name = "DIR", conflicts_with_all = ["sets", "out", "seed", "quick"])]
    resume: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct Join {
    /// Where the server listens
    #[arg(long, value_name = "HOST:PORT")]
    server: String,
    /// This client's name, as in its certificate and in the server's configuration
    #[arg(long)]
    name: String,
    /// A CSV file or a folder of images, of the form that the server's [data] section describes; or the name
    /// of a published dataset, for the part that the configuration gives this client
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Folder with ca.crt, NAME.crt and NAME.key
    #[arg(long, value_name = "DIR", default_value = "pki")]
    pki: PathBuf,
    /// Let other clients that listen connect directly to this address, instead of through the server
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Give up after this many seconds without an answer from the server
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
    /// What this client insists on, a TOML file; without it the defaults, which the README lists
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where this client writes down what it took part in [default: NAME.ledger.json in the folder of --pki]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Where the neural network computes: cpu (flex), ndarray or wgpu, as built in
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Subcommand)]
pub enum Pki {
    /// Make an authority and the server's certificate; the authority's key goes to a folder of its own,
    /// PKI-authority, which nobody else gets
    Init {
        /// Folder for the certificates; must be new or empty
        #[arg(long, value_name = "DIR", default_value = "pki")]
        pki: PathBuf,
        /// Name or address under which clients reach the server; may be repeated
        #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1"])]
        hosts: Vec<String>,
    },
    /// Make a client's certificate
    Issue {
        /// The client's name
        name: String,
        /// Folder for the certificates, beside that of the authority
        #[arg(long, value_name = "DIR", default_value = "pki")]
        pki: PathBuf,
        /// Name or address under which other clients reach this one; may be repeated
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Days for which it is valid
        #[arg(long, default_value_t = deploy::pki::DAYS, value_parser = clap::value_parser!(u16).range(1..))]
        days: u16,
    },
    /// Revoke a certificate: copy ca.crl beside ca.crt wherever that is; parties that run read it again
    Revoke {
        /// The client's name
        name: String,
        /// Folder of the certificates, beside that of the authority
        #[arg(long, value_name = "DIR", default_value = "pki")]
        pki: PathBuf,
    },
}

/// Logs to standard error; nothing but errors when quiet.
fn log(quiet: bool) {
    let usual = if quiet {
        "error"
    } else {
        "seccogc=info,zenoh=error,zenoh_link_commons::quic=warn,usvg=error,warn"
    };
    let filter = EnvFilter::try_from_env("SECCOGC_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::say::Patient(std::io::stderr()))
        .with_ansi(false);
    // A second call in one process keeps the first log.
    let _ = log.try_init();
}

pub fn serve(args: &Serve) -> Result<()> {
    let common = &args.common;
    log(common.quiet);
    let (config, name) = begin(args.config.as_deref(), args.resume.as_deref(), common)?;
    let device = device(common, args.resume.as_deref())?;
    deploy::server::check(&config)?;
    let setting = Setting::build(&config, device)?;
    let run = setting.run(&config.protocol)?;
    in_folder(args.resume.as_deref().or(common.out.as_deref()), &name, |folder| {
        let start = if args.resume.is_some() { Begin::Resume(folder) } else { Begin::New(folder) };
        let view = View::of(common.quiet, false);
        let mut progress = Progress::new(config.protocol.kind(), config.rounds, view);
        let end = deploy::serve(&run, &start, &mut |row| {
            progress.row(row);
            Ok(())
        })?;
        progress.finish(&end);
        finish("serve", folder, &end, common)
    })
}

pub fn join(args: &Join) -> Result<()> {
    log(args.quiet);
    deploy::join(&deploy::Join {
        server: args.server.clone(),
        name: args.name.clone(),
        pki: args.pki.clone(),
        work: deploy::Work::Data { data: args.data.clone(), device: args.device.parse()? },
        listen: args.listen.clone(),
        patience: Duration::from_secs(args.patience),
        policy: args.policy.as_deref().map(deploy::policy::Policy::load).transpose()?.unwrap_or_default(),
        ledger: args.ledger.clone(),
        stop: &NEVER,
    })
}

pub fn pki(verb: &Pki) -> Result<()> {
    match verb {
        Pki::Init { pki, hosts } => deploy::pki::init(pki, hosts),
        Pki::Issue { name, pki, hosts, days } => deploy::pki::issue(pki, name, hosts, *days),
        Pki::Revoke { name, pki } => deploy::pki::revoke(pki, name),
    }
}
