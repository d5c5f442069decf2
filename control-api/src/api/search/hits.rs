//! A hit of the search as the API shows it.

use std::collections::HashSet;

use control_domain::{
    Actor, Fault, Refusal, Rows,
    features::{channels as channel_domain, videos as video_domain},
    id::{ChannelId, VideoId},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::{channels, videos};
use crate::{
    page::Entry,
    search::{Piece, Thing, excerpt, pieces},
};

/// The kinds of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum HitKind {
    /// A video.
    Video,
    /// A channel.
    Channel,
}

/// A video or a channel that was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchHit)]
pub(super) struct Hit {
    /// What it is.
    kind: HitKind,
    /// The video; null for a channel.
    #[schema(required)]
    video: Option<videos::Shown>,
    /// The channel; null for a video.
    #[schema(required)]
    channel: Option<channels::Shown>,
    /// The words that were found; null if they were not requested.
    #[schema(required)]
    highlights: Option<Highlights>,
}

/// The texts of a hit with the words that were found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchHighlights)]
pub(super) struct Highlights {
    /// The title, in pieces.
    title: Vec<TextPiece>,
    /// The part of the description around the first of the words, in pieces; empty if it has none.
    description: Vec<TextPiece>,
}

/// A piece of a text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchPiece)]
pub(super) struct TextPiece {
    /// The piece.
    text: String,
    /// Whether it is a word that was found.
    is_match: bool,
}

impl From<Piece> for TextPiece {
    fn from(Piece { text, is_match }: Piece) -> Self {
        Self { text, is_match }
    }
}

impl Highlights {
    fn new(title: &str, description: &str, spellings: &HashSet<String>) -> Self {
        let sent = |pieces: Vec<Piece>| pieces.into_iter().map(TextPiece::from).collect();
        let title = sent(pieces(title, spellings));
        Self { title, description: sent(excerpt(description, spellings)) }
    }
}

impl Entry for Hit {
    const MEMBER: &'static str = "hits";
    const PAGE: &'static str = "SearchHits";
    const DESCRIPTION: &'static str = "Videos and channels that were found.";
    type Schema = Self;
}

/// A hit as it is sent, if the sender may find it.
pub(super) fn hit(
    rows: &dyn Rows,
    actor: &Actor,
    thing: Thing,
    in_channel: bool,
    spellings: Option<&HashSet<String>>,
) -> Result<Option<Hit>, Fault> {
    let highlights = |title: &str, description: &str| {
        spellings.map(|spellings| Highlights::new(title, description, spellings))
    };
    Ok(match thing {
        Thing::Video(id) => {
            let Some(entry) = listed_video(rows, actor, id, in_channel)? else { return Ok(None) };
            let details = &entry.video.details;
            let highlights = highlights(details.title.as_str(), details.description.as_str());
            let video = Some(videos::Shown::of(rows, entry)?);
            Some(Hit { kind: HitKind::Video, video, channel: None, highlights })
        }
        Thing::Channel(id) => {
            let Some(channel) = listed_channel(rows, actor, id)? else { return Ok(None) };
            let highlights = highlights(&channel.title, &channel.description);
            let channel = Some(channels::Shown::of(rows, id, channel)?);
            Some(Hit { kind: HitKind::Channel, video: None, channel, highlights })
        }
    })
}

/// A video, if the actor may find it.
pub(super) fn listed_video(
    rows: &dyn Rows,
    actor: &Actor,
    id: VideoId,
    in_channel: bool,
) -> Result<Option<video_domain::queries::Entry>, Fault> {
    match video_domain::queries::video(rows, id) {
        Ok(entry) => {
            let is_listed = match in_channel {
                true => entry.is_listed_in_channel(actor),
                false => entry.is_listed(actor),
            };
            Ok(Some(entry).filter(|_| is_listed))
        }
        Err(Refusal::Fault(fault)) => Err(fault),
        Err(_) => Ok(None),
    }
}

/// A channel, if the actor may find it.
pub(super) fn listed_channel(
    rows: &dyn Rows,
    actor: &Actor,
    id: ChannelId,
) -> Result<Option<channel_domain::queries::Channel>, Fault> {
    let channel = channel_domain::queries::find(rows, id)?;
    Ok(channel.filter(|channel| channel_domain::queries::is_listed(channel, actor)))
}
