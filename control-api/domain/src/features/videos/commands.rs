//! Requests to make, change, publish and delete videos.

use super::{
    details::{Details, Edits, Tags, Visibility},
    events::{
        Announced, Deleted, Edited, PasswordSet, Published, Scheduled, Unpublished, Unscheduled,
    },
    queries,
    state::State,
    tables::{MAX_OF_A_CHANNEL, VIDEOS, Video},
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::{categories, channels, tags},
    id::{AccountId, CategoryId, ChannelId, VideoId},
    password::PasswordHash,
    permission::Who,
    rows::{Fault, Rows},
    time::Time,
};

/// Makes a draft of a video.
#[derive(Debug)]
pub struct Announce {
    /// The channel to which it belongs.
    pub channel: ChannelId,
    /// Its properties.
    pub details: Details,
    /// The password, for [`Visibility::Password`].
    pub password: Option<PasswordHash>,
}

impl Command for Announce {
    const NAME: &'static str = "video.announce";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = VideoId;

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(channels::queries::channel(rows, self.channel)?.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        let channel = channels::queries::channel(rows, self.channel)?;
        Ok(channels::queries::is_visible(&channel, actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<VideoId>, Refusal> {
        let channel = channels::queries::channel(context.rows, self.channel)?;
        if queries::count(context.rows, self.channel)? >= MAX_OF_A_CHANNEL {
            return Err(Refusal::Limit { things: "videos", limit: MAX_OF_A_CHANNEL });
        }
        let mut details = self.details.clone();
        details.tags = meanings(context.rows, &details.tags)?;
        known_category(context.rows, details.category)?;
        fitting_password(details.visibility, false, self.password.as_ref())?;
        let video = VideoId::new(context.ids.next());
        let event = Announced { video, channel: self.channel, details };
        let decision = Decision::event(event, video)?;
        match &self.password {
            Some(password) => decision.and(sealed(context, video, channel.owner, password)?),
            None => Ok(decision),
        }
    }
}

/// Changes the properties of a video.
#[derive(Debug)]
pub struct Edit {
    /// The video.
    pub video: VideoId,
    /// The properties to change.
    pub edits: Edits,
    /// The password, if it changes, for [`Visibility::Password`].
    pub password: Option<PasswordHash>,
    /// The version that the sender has read, if the edit depends on it.
    pub expected: Option<u64>,
}

impl Command for Edit {
    const NAME: &'static str = "video.edit";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::video(rows, self.video)?.channel.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::video(rows, self.video)?.is_visible(actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let now = queries::video(context.rows, self.video)?;
        let (video, owner) = (now.video, now.channel.owner);
        if self.expected.is_some_and(|version| version != video.version) {
            return Err(Refusal::Changed { thing: "video" });
        }
        let mut edits = self.edits.clone();
        if let Some(tags) = &edits.tags {
            edits.tags = Some(meanings(context.rows, tags)?);
        }
        let edits = video.details.effective(edits);
        known_category(context.rows, edits.category.flatten())?;
        let visibility = edits.visibility.unwrap_or(video.details.visibility);
        let has_password = video.password.is_some();
        fitting_password(visibility, has_password, self.password.as_ref())?;
        let mut decision = Decision::nothing(());
        // The password is first, so that the video is at no time without one.
        if let Some(password) = &self.password {
            decision = decision.and(sealed(context, self.video, owner, password)?)?;
        }
        if edits != Edits::default() {
            decision = decision.and(Edited { video: self.video, edits })?;
        }
        Ok(decision)
    }
}

/// The tags that these tags mean, each once.
fn meanings(rows: &dyn Rows, tags: &Tags) -> Result<Tags, Refusal> {
    let meanings = tags.iter().map(|tag| tags::queries::meaning(rows, tag));
    let meanings = meanings.collect::<Result<Vec<_>, Fault>>()?;
    // They are no more than before.
    Ok(Tags::try_from(meanings).unwrap_or_default())
}

/// Refuses a category that does not exist.
fn known_category(rows: &dyn Rows, category: Option<CategoryId>) -> Result<(), Refusal> {
    match category {
        Some(category) => categories::queries::category(rows, category).map(drop),
        None => Ok(()),
    }
}

/// Refuses a visibility without the password that it needs, and a password that has no use.
fn fitting_password(
    visibility: Visibility,
    has_password: bool,
    new: Option<&PasswordHash>,
) -> Result<(), Refusal> {
    match (visibility, new) {
        (Visibility::Password, None) if !has_password => Err(Refusal::Conflict {
            rule: "password_missing",
            reason: "the visibility `password` needs a password",
        }),
        (Visibility::Password, _) | (_, None) => Ok(()),
        (_, Some(_)) => Err(Refusal::Conflict {
            rule: "password_unused",
            reason: "a password is for the visibility `password`",
        }),
    }
}

fn sealed(
    context: &Context<'_>,
    video: VideoId,
    owner: AccountId,
    password: &PasswordHash,
) -> Result<PasswordSet, Refusal> {
    Ok(PasswordSet { video, password: context.vault.seal(owner, &password.0)? })
}

/// Publishes a video: now, at a time, or as soon as it is processed.
#[derive(Debug)]
pub struct Publish {
    /// The video.
    pub video: VideoId,
    /// The time; `None`, or one that has passed, is now.
    pub at: Option<Time>,
}

impl Command for Publish {
    const NAME: &'static str = "video.publish";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::video(rows, self.video)?.channel.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::video(rows, self.video)?.is_visible(actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let video = queries::video(context.rows, self.video)?.video;
        let (id, at) = (self.video, self.at.unwrap_or(context.now));
        let is_now = at <= context.now;
        match video.state {
            State::Published { .. } if is_now => Ok(Decision::nothing(())),
            State::Published { .. } => Err(Refusal::Conflict {
                rule: "is_published",
                reason: "the video is published; unpublish it before it is scheduled",
            }),
            State::Failed { .. } => Err(Refusal::Conflict {
                rule: "has_failed",
                reason: "the video has no media that can be published; upload them again",
            }),
            State::Ready(_) if is_now => {
                Decision::event(Published { video: id, channel: video.channel }, ())
            }
            // A repeated request to publish now must not move the time.
            _ if is_now && video.publish_at.is_some_and(|at| at <= context.now) => {
                Ok(Decision::nothing(()))
            }
            _ if video.publish_at == Some(at) => Ok(Decision::nothing(())),
            _ => Decision::event(Scheduled { video: id, at }, ()),
        }
    }
}

/// Withdraws the publication of a video, or the time for which it is scheduled.
#[derive(Debug)]
pub struct Unpublish {
    /// The video.
    pub video: VideoId,
}

impl Command for Unpublish {
    const NAME: &'static str = "video.unpublish";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::video(rows, self.video)?.channel.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::video(rows, self.video)?.is_visible(actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let video = queries::video(context.rows, self.video)?.video;
        let id = self.video;
        match video.state {
            State::Published { .. } => Decision::event(Unpublished { video: id }, ()),
            _ if video.publish_at.is_some() => Decision::event(Unscheduled { video: id }, ()),
            _ => Ok(Decision::nothing(())),
        }
    }
}

/// Publishes the videos that are due: at most [`PublishDue::MAX`] with one command.
#[derive(Debug)]
pub struct PublishDue;

impl PublishDue {
    /// The greatest number of videos.
    pub const MAX: usize = 100;
}

impl Command for PublishDue {
    const NAME: &'static str = "video.publish_due";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let mut decision = Decision::nothing(());
        for video in queries::due(context.rows, context.now, Self::MAX)? {
            let Some(Video { channel, .. }) = VIDEOS.get(context.rows, &video)? else { continue };
            decision = match channels::queries::find(context.rows, channel)? {
                Some(_) => decision.and(Published { video, channel })?,
                // Otherwise videos of deleted channels would keep others waiting.
                None => decision.and(Deleted { video, channel })?,
            };
        }
        Ok(decision)
    }
}

/// Deletes a video.
#[derive(Debug)]
pub struct Delete {
    /// The video.
    pub video: VideoId,
}

impl Command for Delete {
    const NAME: &'static str = "video.delete";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::video(rows, self.video)?.channel.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::video(rows, self.video)?.is_visible(actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let channel = queries::video(context.rows, self.video)?.video.channel;
        Decision::event(Deleted { video: self.video, channel }, ())
    }
}

/// Deletes videos of deleted channels: at most [`DeleteOrphans::MAX`] with one command.
#[derive(Debug)]
pub struct DeleteOrphans;

impl DeleteOrphans {
    /// The greatest number of videos.
    pub const MAX: usize = 100;
}

impl Command for DeleteOrphans {
    const NAME: &'static str = "video.delete_orphans";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let orphans = queries::orphans(context.rows, Self::MAX)?;
        let mut deleted = orphans.into_iter().map(|(channel, video)| Deleted { video, channel });
        deleted.try_fold(Decision::nothing(()), Decision::and)
    }
}
