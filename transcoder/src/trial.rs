//! Which video encoders work on this machine, and how fast.

use serde::{Deserialize, Serialize};

use crate::protocol::Encoder;

/// What a trial has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The encoders that work, the preferred one first.
    pub encoders: Vec<Encoder>,
    /// Macroblocks that the first encodes in a second of one core.
    pub macroblocks_per_s: f64,
}
