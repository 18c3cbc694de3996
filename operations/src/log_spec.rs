//! Which messages are logged: Fabric's log specification, and tracing's.
//!
//! ```text
//! info                                    everything from info on
//! info:selvedge_peer=debug                Fabric: fields between colons
//! info:orderer,raft=debug:gossip=error    several modules at one level
//! info,selvedge_peer::gateway=trace       tracing: fields between commas
//! ```
//! A module is a Rust path, `selvedge_peer::gateway`; dots are taken for `::`. Modules below it are included.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;

/// Longest specification that is read, in bytes.
const MAX_BYTES: usize = 4096;

/// A specification that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogSpecError {
    /// No such level.
    #[error(
        "invalid logging specification '{spec}': '{level}' is no level; use off, error, warn, info, debug or trace"
    )]
    Level {
        /// The specification.
        spec: String,
        /// What stands in the place of a level.
        level: String,
    },
    /// Not a module.
    #[error(
        "invalid logging specification '{spec}': '{module}' is no module such as selvedge_peer or selvedge_peer::gateway"
    )]
    Module {
        /// The specification.
        spec: String,
        /// What stands in the place of a module.
        module: String,
    },
    /// Modules without a level.
    #[error("invalid logging specification '{spec}': no level for '{module}'; write {module}=debug")]
    NoLevel {
        /// The specification.
        spec: String,
        /// The module.
        module: String,
    },
    /// Two levels for everything.
    #[error("invalid logging specification '{spec}': it gives the level of everything twice")]
    Twice {
        /// The specification.
        spec: String,
    },
    /// Too long.
    #[error("invalid logging specification: it is {0} bytes long; {MAX_BYTES} are allowed")]
    TooLong(usize),
}

/// Which messages are logged. Display gives Fabric's form, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSpec {
    level: LevelFilter,
    modules: BTreeMap<String, LevelFilter>,
}

impl LogSpec {
    /// Everything from `level` on.
    pub fn all(level: LevelFilter) -> Self {
        Self {
            level,
            modules: BTreeMap::new(),
        }
    }

    /// The level of what no module names.
    pub fn level(&self) -> LevelFilter {
        self.level
    }

    /// Modules with a level of their own.
    pub fn modules(&self) -> impl Iterator<Item = (&str, LevelFilter)> {
        self.modules
            .iter()
            .map(|(module, level)| (module.as_str(), *level))
    }
}

fn level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "off" => LevelFilter::OFF,
        // What is beyond an error in Fabric is an error here.
        "fatal" | "panic" | "dpanic" | "error" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

fn module(text: &str) -> Option<String> {
    let path = text.replace('.', "::");
    let identifier =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    path.split("::").all(identifier).then_some(path)
}

/// Parts of a specification: between single colons, for a double one belongs to a path.
fn fields(text: &str) -> Vec<String> {
    const PATH: &str = "\u{1}";
    text.replace("::", PATH)
        .split(':')
        .map(|f| f.replace(PATH, "::"))
        .collect()
}

impl FromStr for LogSpec {
    type Err = LogSpecError;

    /// Empty text is `info`, as in Fabric.
    fn from_str(text: &str) -> Result<Self, LogSpecError> {
        if text.len() > MAX_BYTES {
            return Err(LogSpecError::TooLong(text.len()));
        }
        let spec = || text.to_owned();
        let mut everything = None;
        let mut modules = BTreeMap::new();
        for field in fields(text) {
            // Modules that wait for the level of the last one of their field.
            let mut waiting: Vec<String> = Vec::new();
            for part in field.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                let named = |name: &str| {
                    module(name).ok_or_else(|| LogSpecError::Module {
                        spec: spec(),
                        module: name.to_owned(),
                    })
                };
                match (part.split_once('='), level(part)) {
                    (Some((name, value)), _) => {
                        let value = level(value.trim()).ok_or_else(|| LogSpecError::Level {
                            spec: spec(),
                            level: value.trim().to_owned(),
                        })?;
                        waiting.push(named(name.trim())?);
                        modules.extend(waiting.drain(..).map(|m| (m, value)));
                    }
                    (None, Some(value)) if waiting.is_empty() => {
                        if everything.replace(value).is_some() {
                            return Err(LogSpecError::Twice { spec: spec() });
                        }
                    }
                    (None, _) => waiting.push(named(part)?),
                }
            }
            if let Some(module) = waiting.pop() {
                return Err(LogSpecError::NoLevel { spec: spec(), module });
            }
        }
        Ok(Self {
            level: everything.unwrap_or(LevelFilter::INFO),
            modules,
        })
    }
}

impl fmt::Display for LogSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        for (module, level) in &self.modules {
            write!(f, ":{module}={level}")?;
        }
        Ok(())
    }
}

/// Why the log was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LogControlError {
    /// The specification is not one.
    #[error(transparent)]
    Spec(#[from] LogSpecError),
    /// Whoever started the process keeps the log to himself.
    #[error("the log of this process cannot be changed while it runs; restart it with another level")]
    Fixed,
    /// The log refused.
    #[error("the log could not be changed: {0}")]
    Failed(String),
}

type Apply = dyn Fn(&LogSpec) -> Result<(), String> + Send + Sync;

struct Inner {
    current: Mutex<LogSpec>,
    apply: Option<Box<Apply>>,
}

/// The log of the process, as it is and to be changed. Clones are the same log. By default it cannot be changed.
#[derive(Clone)]
pub struct LogControl(Arc<Inner>);

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogControl({})", self.current())
    }
}

impl Default for LogControl {
    fn default() -> Self {
        Self(Arc::new(Inner {
            current: Mutex::new(LogSpec::all(LevelFilter::INFO)),
            apply: None,
        }))
    }
}

impl LogControl {
    /// A log that follows `spec` now, and another one when `apply` was called with it.
    pub fn new(
        spec: LogSpec,
        apply: impl Fn(&LogSpec) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            current: Mutex::new(spec),
            apply: Some(Box::new(apply)),
        }))
    }

    /// What is logged now.
    pub fn current(&self) -> LogSpec {
        self.0.current.lock().clone()
    }

    /// Logs what `spec` says from now on.
    ///
    /// # Errors
    /// The specification cannot be read, or the log does not take it; nothing changes then.
    pub fn set(&self, spec: &str) -> Result<LogSpec, LogControlError> {
        let spec: LogSpec = spec.parse()?;
        let apply = self.0.apply.as_ref().ok_or(LogControlError::Fixed)?;
        let mut current = self.0.current.lock();
        apply(&spec).map_err(LogControlError::Failed)?;
        *current = spec.clone();
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        text.parse::<LogSpec>().unwrap().to_string()
    }

    #[test]
    fn both_forms_are_read() {
        for (text, meaning) in [
            ("info", "info"),
            ("DEBUG", "debug"),
            ("", "info"),
            ("warning", "warn"),
            ("fatal", "error"),
            ("info:selvedge_peer=debug", "info:selvedge_peer=debug"),
            ("selvedge_peer=debug:warn", "warn:selvedge_peer=debug"),
            ("info,selvedge_peer=debug", "info:selvedge_peer=debug"),
            (
                "selvedge_peer::gateway=trace,error",
                "error:selvedge_peer::gateway=trace",
            ),
            (
                "selvedge_peer.gateway=trace:error",
                "error:selvedge_peer::gateway=trace",
            ),
            ("orderer,raft=debug:info", "info:orderer=debug:raft=debug"),
            ("a::b=off:c::d=info:warn", "warn:a::b=off:c::d=info"),
            (" info : a = debug ", "info:a=debug"),
            ("a=debug:a=error", "info:a=error"),
        ] {
            assert_eq!(read(text), meaning, "{text}");
            assert_eq!(read(meaning), meaning, "its own form");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("loud", "no level for 'loud'"),
            ("a=loud", "'loud' is no level"),
            ("info:debug", "twice"),
            ("info,debug", "twice"),
            ("a,info", "no level for 'info'"),
            ("=debug", "'' is no module"),
            ("a b=debug", "'a b' is no module"),
            ("a:::b=debug", "is no module"),
            ("[span]=debug", "is no module"),
            ("a,:b=info", "no level for 'a'"),
        ] {
            let why = text.parse::<LogSpec>().unwrap_err().to_string();
            assert!(why.contains(word), "{text}: {why}");
        }
        let long = "a=info:".repeat(1000);
        assert_eq!(long.parse::<LogSpec>(), Err(LogSpecError::TooLong(7000)));
    }

    #[test]
    fn a_log_changes_only_if_it_took_the_specification() {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&applied);
        let log = LogControl::new(LogSpec::all(LevelFilter::WARN), move |spec| {
            if spec.level() == LevelFilter::TRACE {
                return Err("too much".into());
            }
            seen.lock().push(spec.to_string());
            Ok(())
        });
        assert_eq!(log.current().to_string(), "warn");
        log.set("a=debug").unwrap();
        assert_eq!(log.clone().current().to_string(), "info:a=debug");
        assert!(log.set("trace").unwrap_err().to_string().contains("too much"));
        assert!(log.set("nonsense").is_err());
        assert_eq!(log.current().to_string(), "info:a=debug");
        assert_eq!(*applied.lock(), ["info:a=debug"]);
        assert!(matches!(
            LogControl::default().set("info"),
            Err(LogControlError::Fixed)
        ));
    }
}
