//! Removes the files of pictures that an event has taken out of use.

use control_domain::{
    Envelope,
    event::Events as _,
    features::{accounts, channels, pictures::events::Event},
};

use super::{Pictures, Use};
use crate::store::{Begin, FollowError, Follower};

/// The follower.
pub(super) struct Removals<'a>(pub(super) &'a Pictures);

impl Follower for Removals<'_> {
    fn name(&self) -> &str {
        "pictures"
    }

    /// With the next event: the sweep before has removed what earlier ones left.
    fn begin(&self) -> Begin {
        Begin::Next
    }

    fn follows(&self, kind: &str) -> bool {
        let own = Event::TYPES.iter().any(|event| event.name == kind);
        own || [accounts::events::ERASED, channels::events::DELETED].contains(&kind)
    }

    async fn handle(&self, _: u64, envelope: &Envelope) -> Result<(), FollowError> {
        for purpose in uses(envelope) {
            let swept = self.0.sweep(Some(purpose.shard())).await;
            swept.map_err(|err| FollowError::Again(err.into()))?;
        }
        Ok(())
    }
}

/// The uses of pictures that an event may have ended.
fn uses(envelope: &Envelope) -> Vec<Use> {
    let subject = &envelope.subject;
    match envelope.kind.as_str() {
        accounts::events::ERASED => subject.parse().map(Use::Avatar).into_iter().collect(),
        channels::events::DELETED => {
            let channel = subject.parse().ok();
            let uses = |channel| [Use::ChannelAvatar(channel), Use::Banner(channel)];
            channel.map(uses).into_iter().flatten().collect()
        }
        _ => match Event::read(envelope) {
            Ok(Event::AvatarChanged(event)) => vec![Use::Avatar(event.account)],
            Ok(Event::ChannelAvatarChanged(event)) => vec![Use::ChannelAvatar(event.channel)],
            Ok(Event::BannerChanged(event)) => vec![Use::Banner(event.channel)],
            // A newer version wrote it.
            Err(_) => Vec::new(),
        },
    }
}
