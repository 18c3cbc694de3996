//! The log of the process: lines or JSON on standard error, and a level that can be changed while it runs.

use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, reload};

use crate::log_spec::{LogControl, LogSpec};

/// Names what is logged from the start.
const VARIABLE: &str = "SELVEDGE_LOG";

/// The log is the process's, as the subscriber behind it is.
static CONTROL: OnceLock<LogControl> = OnceLock::new();

/// Starts logging what `default` says unless `SELVEDGE_LOG` says otherwise, as lines or as JSON. To be called once by a
/// program.
pub fn init_log(json: bool, default: &str) {
    let default = || {
        default
            .parse()
            .unwrap_or_else(|_| LogSpec::all(LevelFilter::INFO))
    };
    let wanted = std::env::var(VARIABLE).ok().map(|text| text.parse::<LogSpec>());
    let (spec, mistake) = match wanted {
        None => (default(), None),
        Some(Ok(spec)) => (spec, None),
        Some(Err(why)) => (default(), Some(why)),
    };
    let (filter, handle) = reload::Layer::new(targets(&spec));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().boxed()
    } else {
        lines.with_ansi(false).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    if let Some(why) = mistake {
        tracing::error!(%why, "{VARIABLE} is not used");
    }
    CONTROL.get_or_init(|| {
        LogControl::new(spec, move |spec| {
            handle.reload(targets(spec)).map_err(|e| e.to_string())
        })
    });
}

/// The log that [`init_log`] has started, for the nodes that run in this process.
pub fn process_log() -> LogControl {
    CONTROL.get().cloned().unwrap_or_default()
}

fn targets(spec: &LogSpec) -> Targets {
    Targets::new()
        .with_default(spec.level())
        .with_targets(spec.modules())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn modules_have_levels_of_their_own() {
        let spec: LogSpec = "warn:selvedge_peer=debug:selvedge_peer::gateway=off"
            .parse()
            .unwrap();
        let targets = targets(&spec);
        assert!(targets.would_enable("selvedge_orderer", &Level::WARN));
        assert!(!targets.would_enable("selvedge_orderer", &Level::INFO));
        assert!(targets.would_enable("selvedge_peer::endorser", &Level::DEBUG));
        assert!(!targets.would_enable("selvedge_peer::endorser", &Level::TRACE));
        assert!(!targets.would_enable("selvedge_peer::gateway::submit", &Level::ERROR));
    }
}
