//! `ringlog doctor`: is this machine fit to run a broker, and what does a durable write cost on it?

use std::path::PathBuf;

use clap::Args;
use ringlog_broker::{config, doctor};

use super::failure::Failure;
use super::output::Output;

/// Check this machine and a data folder, and measure what a synced write costs there
///
/// One line for each thing that a broker needs: ok, warning or fail, and what to do about it. A fail keeps `serve`
/// from starting. The measurement takes two seconds and leaves nothing behind. Exit code 1 when a line says fail.
#[derive(Args)]
#[command(after_help = "\
Examples:
  ringlog doctor
  ringlog doctor --data /var/lib/ringlog")]
pub struct DoctorArgs {
    /// Folder that is to hold the data; when it is not there, the nearest folder above it is looked at
    #[arg(long, value_name = "DIR", default_value = config::DEFAULT_DATA_DIR)]
    data: PathBuf,
}

/// Prints the report.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let mut output = Output::open()?;
    let report = doctor::run(&args.data);
    match output.write(|out| report.print(out)).and_then(|()| output.flush()) {
        // The exit code is the verdict, also for a reader that wanted the first lines only.
        Ok(()) | Err(Failure::OutputClosed) if report.is_fit() => Ok(()),
        Ok(()) => Err(Failure::Told),
        Err(failure) => Err(failure),
    }
}
