//! The verb `data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::print;
use crate::data::{DatasetName, data_dir, fetch};
use crate::error::{Error, Result};
use crate::say::say;

pub(super) const EXAMPLES: &str = "Examples:\n  \
    seccogc data list\n  \
    seccogc data fetch mnist\n  \
    seccogc data check cifar10 --data-dir /data";

const OWN_DATA: &str = "\
table              –      –      –  yours     [data] name = \"table\", train = \"FILE.csv\"\n              \
    numbers and a column with the class, one example a line\n\
image-folder       –      –      –  yours     [data] name = \"image-folder\", train = \"FOLDER\"\n              \
    a subfolder of PNG or JPEG files per class; all keys: `seccogc config explain data`\n";

#[derive(Subcommand)]
pub(super) enum Data {
    /// List the known datasets and where they are
    List(DataDir),
    /// Bring a complete dataset into the data folder, checked and whole
    Fetch(NamedData),
    /// Check the files of a dataset against their known checksums
    Check(NamedData),
}

#[derive(Args)]
pub(super) struct DataDir {
    /// Folder of the complete datasets [default: $SECCOGC_DATA, else the platform's cache folder]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct NamedData {
    /// The dataset
    name: DatasetName,
    #[command(flatten)]
    dir: DataDir,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(verb: &Data) -> Result<()> {
    match verb {
        Data::List(args) => {
            let mut table = String::from("name           train   test     MB  state     where\n");
            for row in fetch::list(&data_dir(args.data_dir.as_deref()))? {
                let place =
                    row.folder.map_or_else(|| "in the program".into(), |folder| folder.display().to_string());
                let megabytes = row.bytes as f64 / 1e6;
                let (name, state) = (row.name.as_str(), row.state);
                table += &format!(
                    "{name:<13} {:>6} {:>6} {megabytes:>6.1}  {state:<9} {place}\n",
                    row.train, row.test
                );
                table += &format!("              {}\n", row.description);
            }
            table += OWN_DATA;
            print(&table)
        }
        Data::Fetch(args) => {
            let report = fetch::fetch(args.name, &data_dir(args.dir.data_dir.as_deref()), args.quiet)?;
            if !args.quiet {
                say!("{report}");
            }
            Ok(())
        }
        Data::Check(args) => {
            let files = fetch::check(args.name, &data_dir(args.dir.data_dir.as_deref()))?;
            let table: String = files
                .iter()
                .map(|file| format!("{:<8} {}\n", file.state.to_string(), file.path.display()))
                .collect();
            if !args.quiet {
                print(&table)?;
            }
            match files.iter().find(|file| file.state != fetch::FileState::Ok) {
                None => Ok(()),
                Some(file) => Err(Error::file(
                    &file.path,
                    format!("{}; run `seccogc data fetch {}`", file.state, args.name),
                )),
            }
        }
    }
}
