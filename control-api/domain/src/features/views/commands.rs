//! The daemon's request to record the views that it has counted.

use serde::{Deserialize, Serialize};

pub use super::subject::Subject;
use super::{
    events::{ChannelViewsCounted, VideoViewsCounted},
    queries,
};
use crate::{
    command::{Command, Context, Decision, Refusal},
    event::NewEvent,
    features::{channels, videos},
    id::NodeId,
    permission::Who,
    rows::Fault,
    time::Time,
};

/// Greatest number of counts in a batch.
pub const MAX_COUNTS: usize = 256;

/// The views of a channel or a video in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The channel or video.
    pub subject: Subject,
    /// The beginning of the minute.
    pub minute: Time,
    /// The views.
    pub views: u64,
    /// The media that were watched, in milliseconds.
    pub watched_ms: u64,
}

/// The daemon records a batch of views. A node numbers its batches from 1 on and sends them in
/// order; one that was sent before changes nothing. Counts of things that are gone are left out.
#[derive(Debug, Clone)]
pub struct Record {
    /// The node that has counted.
    pub node: NodeId,
    /// The number of the batch.
    pub batch: u64,
    /// The counts, at most [`MAX_COUNTS`].
    pub counts: Vec<Count>,
}

impl Command for Record {
    const NAME: &'static str = "views.record";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        if self.counts.len() > MAX_COUNTS {
            return Err(Refusal::Limit { things: "counts", limit: MAX_COUNTS as u64 });
        }
        let mut decision = Decision::nothing(());
        if self.batch <= queries::last_batch(context.rows, self.node)? {
            return Ok(decision);
        }
        for count in &self.counts {
            if let Some(event) = self.event(context, *count)? {
                decision.events.push(event);
            }
        }
        Ok(decision)
    }
}

impl Record {
    /// The event of a count. `None` if the thing is gone, or nothing was watched.
    fn event(&self, context: &Context<'_>, count: Count) -> Result<Option<NewEvent>, Fault> {
        let Count { subject, minute, views, watched_ms } = count;
        if views == 0 && watched_ms == 0 {
            return Ok(None);
        }
        let (node, batch) = (self.node, self.batch);
        match subject {
            Subject::Channel(channel) => {
                let event = ChannelViewsCounted { channel, minute, node, batch, views, watched_ms };
                let known = channels::queries::find(context.rows, channel)?.is_some();
                known.then(|| event.try_into()).transpose()
            }
            Subject::Video(video) => {
                let event = VideoViewsCounted { video, minute, node, batch, views, watched_ms };
                match videos::queries::video(context.rows, video) {
                    Ok(_) => event.try_into().map(Some),
                    Err(Refusal::Fault(fault)) => Err(fault),
                    Err(_) => Ok(None),
                }
            }
        }
    }
}
