//! The way of a video's media: requests of the upload and of the daemon that processes them. Each
//! may be sent again, because its sender may not know whether it was carried out.

use super::{
    events::{Failed, Processed, Published, UploadStarted, Uploaded},
    queries,
    state::{Cause, Media, State},
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    id::{AccountId, VideoId},
    permission::Who,
    rows::Rows,
    text::Reason,
};

/// The refusal of a step that does not follow the state.
const WRONG_STATE: Refusal = Refusal::Conflict {
    rule: "wrong_state",
    reason: "the video is in a state in which this cannot happen",
};

/// Begins the upload of a video's media. Media that it has are replaced, unless it is published.
#[derive(Debug)]
pub struct StartUpload {
    /// The video.
    pub video: VideoId,
}

impl Command for StartUpload {
    const NAME: &'static str = "video.start_upload";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::video(rows, self.video)?.channel.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::video(rows, self.video)?.is_visible(actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match queries::video(context.rows, self.video)?.video.state {
            State::Draft | State::Ready(_) | State::Failed { .. } => {
                Decision::event(UploadStarted { video: self.video }, ())
            }
            State::Uploading => Ok(Decision::nothing(())),
            State::Processing | State::Published { .. } => Err(WRONG_STATE),
        }
    }
}

/// Records that the last byte of a video's media has arrived.
#[derive(Debug)]
pub struct FinishUpload {
    /// The video.
    pub video: VideoId,
    /// The size of the media.
    pub bytes: u64,
}

impl Command for FinishUpload {
    const NAME: &'static str = "video.finish_upload";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match queries::video(context.rows, self.video)?.video.state {
            State::Uploading => {
                Decision::event(Uploaded { video: self.video, bytes: self.bytes }, ())
            }
            State::Processing | State::Ready(_) | State::Published { .. } => {
                Ok(Decision::nothing(()))
            }
            State::Draft | State::Failed { .. } => Err(WRONG_STATE),
        }
    }
}

/// Records that a video can be published, and publishes it if it is due.
#[derive(Debug)]
pub struct FinishProcessing {
    /// The video.
    pub video: VideoId,
    /// Its media.
    pub media: Media,
}

impl Command for FinishProcessing {
    const NAME: &'static str = "video.finish_processing";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let (video, id) = (queries::video(context.rows, self.video)?.video, self.video);
        match video.state {
            State::Processing => {
                let decision = Decision::event(Processed { video: id, media: self.media }, ())?;
                match video.publish_at.is_some_and(|at| at <= context.now) {
                    true => decision.and(Published { video: id, channel: video.channel }),
                    false => Ok(decision),
                }
            }
            State::Ready(_) | State::Published { .. } => Ok(Decision::nothing(())),
            State::Draft | State::Uploading | State::Failed { .. } => Err(WRONG_STATE),
        }
    }
}

/// Records that the upload or the processing of a video has failed.
#[derive(Debug)]
pub struct Fail {
    /// The video.
    pub video: VideoId,
    /// The part of the work that failed.
    pub cause: Cause,
    /// The reason for its owner.
    pub reason: Reason,
}

impl Command for Fail {
    const NAME: &'static str = "video.fail";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match queries::video(context.rows, self.video)?.video.state {
            State::Uploading | State::Processing => {
                let (cause, reason) = (self.cause, self.reason.clone());
                Decision::event(Failed { video: self.video, cause, reason }, ())
            }
            State::Failed { .. } => Ok(Decision::nothing(())),
            State::Draft | State::Ready(_) | State::Published { .. } => Err(WRONG_STATE),
        }
    }
}
