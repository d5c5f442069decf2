//! Questions about views. They read tables only.

pub use super::subject::Subject;
use super::tables::{BATCHES, DAYS, TOTALS};
pub use super::tables::{Totals, day};
use crate::{
    actor::{Actor, Role},
    audience::Audience,
    command::Refusal,
    event::{Envelope, Events as _},
    features::{channels, videos},
    id::{ChannelId, NodeId, VideoId},
    permission::{Permission, Who},
    rows::{Fault, Order, Rows},
};

/// The actors that may read more about the audience of a channel than its number of views.
pub const SHOW: Permission =
    Permission { command: "channel.show_analytics", who: Who::OwnerOr(Role::Administrator) };

/// Checks that an actor may read about the audience of a channel.
///
/// # Errors
/// [`Refusal::NotFound`], or another refusal of [`SHOW`].
pub fn may_show(rows: &dyn Rows, actor: &Actor, id: ChannelId) -> Result<(), Refusal> {
    let channel = channels::queries::channel(rows, id)?;
    SHOW.check(actor, Some(channel.owner), channels::queries::is_visible(&channel, actor))
}

/// The totals of a channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_channel(rows: &dyn Rows, channel: ChannelId) -> Result<Totals, Fault> {
    Ok(TOTALS.get(rows, &Subject::Channel(channel))?.unwrap_or_default())
}

/// The totals of a video.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn of_video(rows: &dyn Rows, video: VideoId) -> Result<Totals, Fault> {
    Ok(TOTALS.get(rows, &Subject::Video(video))?.unwrap_or_default())
}

/// The totals of the days from `first` to `last` on which something was watched, in order: at most
/// `limit`. Days are counted from 1970-01-01 in UTC.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn days(
    rows: &dyn Rows,
    subject: Subject,
    first: u64,
    last: u64,
    limit: usize,
) -> Result<Vec<(u64, Totals)>, Fault> {
    let after = first.checked_sub(1).map(|before| (subject, before));
    let days = DAYS.page(rows, &subject, after.as_ref(), Order::Up, limit)?;
    let days = days.into_iter().map(|((_, day), totals)| (day, totals));
    Ok(days.take_while(|(day, _)| *day <= last).collect())
}

/// The number of the last batch of a node that has been recorded; 0 if there is none.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn last_batch(rows: &dyn Rows, node: NodeId) -> Result<u64, Fault> {
    Ok(BATCHES.get(rows, &node)?.unwrap_or_default())
}

/// The counts of each minute are for the owner of the channel.
///
/// # Errors
/// A [`Fault`] of the tables.
pub fn audience(rows: &dyn Rows, envelope: &Envelope) -> Result<Audience, Fault> {
    use super::events::Event;
    let owner = match Event::read(envelope)? {
        Event::ChannelViewsCounted(event) => {
            channels::queries::find(rows, event.channel)?.map(|channel| channel.owner)
        }
        Event::VideoViewsCounted(event) => match videos::queries::video(rows, event.video) {
            Ok(entry) => Some(entry.channel.owner),
            Err(Refusal::Fault(fault)) => return Err(fault),
            Err(_) => None,
        },
    };
    Ok(owner.map_or(Audience::Administrators, Audience::Owner))
}
