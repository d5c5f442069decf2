//! A video as the API shows it.

use axum::{
    extract::{Path, rejection::PathRejection},
    response::Response,
};
use control_domain::{
    Actor, Fault, Refusal, Rows, Time,
    features::{
        reactions,
        videos::{
            details::{Chapters, Details, Tags, Visibility},
            queries::{self, Entry},
            state::{Cause, State},
        },
        views,
    },
    id::{CategoryId, ChannelId, VideoId},
    language::Language,
    text::{ChannelName, ChannelTitle, Description, Reason, VideoTitle},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    described::described,
    page,
    precondition::{ETag, tagged_state},
    problem::{Kind, Problem},
};

/// A video.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Video)]
pub(in crate::api) struct Shown {
    /// The video.
    #[schema(schema_with = described::<VideoId>)]
    id: VideoId,
    /// Its channel.
    channel: OfChannel,
    /// Its title.
    #[schema(schema_with = described::<VideoTitle>)]
    title: VideoTitle,
    /// Its description.
    #[schema(schema_with = described::<Description>)]
    description: Description,
    /// Its tags.
    #[schema(schema_with = described::<Tags>)]
    tags: Tags,
    /// Its category. It may have been removed.
    #[schema(schema_with = described::<Option<CategoryId>>)]
    category: Option<CategoryId>,
    /// The language that is spoken, a tag of BCP 47.
    #[schema(schema_with = described::<Option<Language>>)]
    language: Option<Language>,
    /// The viewers that may watch and find it, once it is published.
    #[schema(schema_with = described::<Visibility>)]
    visibility: Visibility,
    /// Its chapters.
    #[schema(schema_with = described::<Chapters>)]
    chapters: Chapters,
    /// Its state: `ready` has media and is not published.
    #[schema(value_type = StateName)]
    state: &'static str,
    /// Why it has no media, in the state `failed`.
    failure: Option<Failure>,
    /// Its media, once they are known.
    media: Option<Media>,
    /// When it was published; null if it is not.
    #[schema(schema_with = described::<Option<Time>>)]
    published: Option<Time>,
    /// When it is to be published; null if that is not scheduled.
    #[schema(schema_with = described::<Option<Time>>)]
    publish_at: Option<Time>,
    /// When it was announced.
    #[schema(schema_with = described::<Time>)]
    announced: Time,
    /// When it was last changed.
    #[schema(schema_with = described::<Time>)]
    changed: Time,
    /// The number of people that like it.
    likes: u64,
    /// The number of people that dislike it.
    dislikes: u64,
    /// The number of its views. It grows each minute.
    views: u64,
}

/// The channel of a video.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VideoChannel)]
struct OfChannel {
    /// The channel.
    #[schema(schema_with = described::<ChannelId>)]
    id: ChannelId,
    /// Its name in addresses.
    #[schema(schema_with = described::<ChannelName>)]
    name: String,
    /// Its title.
    #[schema(schema_with = described::<ChannelTitle>)]
    title: String,
}

/// The states of a video.
#[derive(ToSchema)]
#[schema(as = VideoState, rename_all = "lowercase")]
#[allow(dead_code, reason = "a schema for the names of the domain's states")]
enum StateName {
    Draft,
    Uploading,
    Processing,
    Ready,
    Published,
    Failed,
}

/// Why a video has no media.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VideoFailure)]
struct Failure {
    /// The part of the work that failed.
    #[schema(schema_with = described::<Cause>)]
    cause: Cause,
    /// The reason.
    #[schema(schema_with = described::<Reason>)]
    reason: Reason,
}

/// The media of a video.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VideoMedia)]
struct Media {
    /// Their duration in milliseconds.
    duration_ms: u64,
    /// The width of the picture in pixels; null for audio.
    width: Option<u32>,
    /// The height of the picture in lines; null for audio.
    height: Option<u32>,
}

impl Shown {
    /// # Errors
    /// A fault of the tables.
    pub(in crate::api) fn of(rows: &dyn Rows, entry: Entry) -> Result<Self, Fault> {
        let reactions::queries::Counts { likes, dislikes } =
            reactions::queries::counts(rows, entry.id)?;
        let views = views::queries::of_video(rows, entry.id)?.views;
        let Entry { id, video, channel } = entry;
        let Details { title, description, tags, category, language, visibility, chapters } =
            video.details;
        let channel = OfChannel { id: video.channel, name: channel.name, title: channel.title };
        let media = video.state.media().map(|media| Media {
            duration_ms: media.duration_ms,
            width: media.width,
            height: media.height,
        });
        let (state, published) = (video.state.name(), video.state.published());
        let failure = match video.state {
            State::Failed { cause, reason } => Some(Failure { cause, reason }),
            _ => None,
        };
        let (publish_at, announced, changed) = (video.publish_at, video.announced, video.changed);
        Ok(Self {
            id,
            channel,
            title,
            description,
            tags,
            category,
            language,
            visibility,
            chapters,
            state,
            failure,
            media,
            published,
            publish_at,
            announced,
            changed,
            likes,
            dislikes,
            views,
        })
    }
}

impl page::Entry for Shown {
    const MEMBER: &'static str = "videos";
    const PAGE: &'static str = "Videos";
    const DESCRIPTION: &'static str = "Videos, the newest first.";
    type Schema = Self;
}

/// The response with a video that an actor may know of.
///
/// # Errors
/// 404.
pub(super) fn respond(rows: &dyn Rows, actor: &Actor, id: VideoId) -> Result<Response, Problem> {
    respond_with(rows, queries::visible(rows, actor, id)?)
}

/// The response with a video after a change, which its sender was allowed to make.
///
/// # Errors
/// 404 if it was deleted since.
pub(super) fn respond_changed(rows: &dyn Rows, id: VideoId) -> Result<Response, Problem> {
    respond_with(rows, queries::video(rows, id)?)
}

fn respond_with(rows: &dyn Rows, entry: Entry) -> Result<Response, Problem> {
    let tag = ETag::of_version(entry.video.version);
    tagged_state(&Shown::of(rows, entry)?, &tag)
}

/// The state of a video, for conditional edits.
pub(super) fn tag(rows: &dyn Rows, id: VideoId) -> Result<ETag, Refusal> {
    Ok(ETag::of_version(queries::video(rows, id)?.video.version))
}

/// The video that a path names.
///
/// # Errors
/// 404 for a text that is no identifier.
pub(in crate::api) fn id(path: Result<Path<String>, PathRejection>) -> Result<VideoId, Problem> {
    let Path(text) = path.map_err(|err| Problem::new(Kind::NotFound, err.body_text()))?;
    text.parse().map_err(|_| Refusal::NotFound { thing: "video" }.into())
}
