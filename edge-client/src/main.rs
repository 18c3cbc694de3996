//! The edge gateway as a program of its own, for small machines: the same as `selvedge edge start`, without the rest.
//!
//! ```text
//! selvedge-edge --config edge.yaml
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use selvedge_edge::{EdgeConfig, EdgeError};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: selvedge-edge --config FILE\n\n\
    Runs the edge gateway until SIGTERM or SIGINT. What is logged is set by SELVEDGE_LOG (error, warn, info, debug).";

fn config_path() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next()?.to_str()?, arguments.next(), arguments.next()) {
        ("--config" | "-c", Some(path), None) => Some(path.into()),
        _ => None,
    }
}

async fn run(path: PathBuf) -> Result<(), EdgeError> {
    let config = EdgeConfig::read(&path)?;
    let bad = |source| EdgeError::ReadFile {
        path: path.clone(),
        source,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(bad)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(bad)?;
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    selvedge_edge::run(config, stopped).await
}

fn main() -> ExitCode {
    let Some(path) = config_path() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let level = std::env::var("SELVEDGE_LOG")
        .ok()
        .and_then(|l| l.parse().ok())
        .unwrap_or(tracing::Level::INFO);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("selvedge-edge: cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("selvedge-edge: {error}");
            ExitCode::FAILURE
        }
    }
}
