//! What a command says when it fails: what, on which object, why, and what to do.

use std::path::PathBuf;

/// Failures of commands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    WriteFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A configuration file is not usable.
    #[error("{}: {why}", path.display())]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and how to mend it.
        why: String,
    },
    /// Anything whose text is already a sentence for the user.
    #[error("{0}")]
    Said(String),
    /// A step of a longer command failed.
    #[error("{step}: {source}")]
    Step {
        /// What was being done.
        step: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CliError {
    /// An error from a finished sentence.
    pub(crate) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }
}

/// Adds what was being done to an error.
pub(crate) trait During<T> {
    /// Names the step, lazily.
    fn during(self, step: impl FnOnce() -> String) -> Result<T, CliError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> During<T> for Result<T, E> {
    fn during(self, step: impl FnOnce() -> String) -> Result<T, CliError> {
        self.map_err(|e| CliError::Step {
            step: step(),
            source: e.into(),
        })
    }
}

/// An error with all its causes in one line, without saying the same twice.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
