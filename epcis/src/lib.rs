//! Shipments as GS1 EPCIS 2.0 events (JSON-LD, Core Business Vocabulary 2.0), and sensor events as readings.
//!
//! ```text
//! answer of shipment `get` ------> Exporter --\
//! pages of `readings`     ------> events ------+--> EPCISDocument
//!
//! EPCISDocument ------> import ------> arguments of `recordReadings`
//! ```
//!
//! Out go one event for the creation of the shipment, one for each change of custody, and events of bizStep
//! `sensor_reporting` with up to [`MAX_ELEMENTS`] readings of one stream at one place each. Whatever EPCIS has no word
//! for is an extension under the prefix `selvedge`, so that what went out comes in again as the same readings. Numbers
//! keep every digit: they never pass through a float.
//!
//! Nothing here looks at a clock, a file or the network.

mod document;
mod export;
mod import;
mod names;
mod vocabulary;

pub use export::{Exporter, MAX_ELEMENTS};
pub use import::{ImportOptions, Imported, import};
pub use names::Names;
pub use vocabulary::{Measurement, Vocabulary};

/// What cannot be exported or imported, and why.
#[derive(Debug, thiserror::Error)]
pub enum EpcisError {
    /// The contract's answer does not have the shape that the shipment contract documents.
    #[error("{what} is not what the shipment contract answers: {why}")]
    Answer {
        /// Which answer.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The document is no EPCIS document.
    #[error("this is not an EPCIS 2.0 document in JSON: {0}")]
    Document(String),
    /// A part of the document cannot become a reading.
    #[error("{place}: {why}")]
    Event {
        /// Which event and element, counted from 0.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// An option cannot be used.
    #[error("{0}")]
    Option(String),
}
