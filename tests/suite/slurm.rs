//! The batch files for SLURM, executed as SLURM would: bash, with the variables of a job set, and `srun`
//! replaced.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Five runs of two rounds.
const SWEEP: &str = r#"
rounds = 2
clients = 5
[evaluation]
every = 1
[model]
kind = "softmax"
[solver]
kind = "sgd"
steps = 1
[protocol]
kind = "fedavg"
[sweep]
seeds = [1, 2, 3, 4, 5]
"#;

/// A batch file as a job with these variables.
pub fn batch(file: &str, folder: &Path, variables: &[(&str, &str)], args: &[&str]) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_seccogc")).parent().unwrap().to_str().unwrap().to_owned();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/slurm").join(file)).args(args);
    command.current_dir(folder).env("PATH", path).env("SLURM_CPUS_PER_TASK", "2");
    command.envs(variables.iter().copied());
    command
}

/// A table without the columns that hold measured seconds.
fn untimed(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let timed = |name: &str| name.starts_with("seconds") && name != "seconds_simulated";
    let kept: Vec<usize> = (0..header.len()).filter(|&i| !timed(&header[i])).collect();
    assert!(kept.len() < header.len());
    reader.records().map(|row| kept.iter().map(|&i| row.as_ref().unwrap()[i].to_owned()).collect()).collect()
}

#[test]
fn a_job_array_executes_every_run_once_and_gathers_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("sweep.toml"), SWEEP).unwrap();
    let whole = ["sweep", "sweep.toml", "--out", "whole", "--quiet"];
    let whole = Command::new(env!("CARGO_BIN_EXE_seccogc")).args(whole).current_dir(folder).status().unwrap();
    assert!(whole.success());
    // An array from 1, and one from 0, whose parts end in another order.
    for (out, ids) in [("from-1", ["1", "2", "3"]), ("from-0", ["2", "0", "1"])] {
        let first = *ids.iter().min().unwrap();
        for (done, id) in ids.iter().enumerate() {
            assert!(!folder.join(out).join("sweep.csv").exists(), "after {done} of three parts");
            let variables = [
                ("SRUN", ""),
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", first),
                ("SLURM_ARRAY_TASK_COUNT", "3"),
            ];
            let output =
                batch("sweep.sbatch", folder, &variables, &["sweep.toml", out, "--quiet"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        for table in ["sweep.csv", "runs.csv"] {
            let expected = untimed(&folder.join("whole").join(table));
            assert_eq!(expected.len(), if table == "runs.csv" { 5 } else { 10 });
            assert_eq!(untimed(&folder.join(out).join(table)), expected, "{table}");
        }
    }
    let output = batch("sweep.sbatch", folder, &[], &[]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the configuration"));
}
