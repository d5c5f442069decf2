//! The events that may take a picture out of use.

use control_domain::{
    Envelope,
    event::Events as _,
    features::{accounts, channels, pictures::events::Event},
};

use super::purpose::Use;

/// Whether events of a type may take a picture out of use.
pub(super) fn follows(kind: &str) -> bool {
    let own = Event::TYPES.iter().any(|event| event.name == kind);
    own || [accounts::events::ERASED, channels::events::DELETED].contains(&kind)
}

/// The uses of pictures that an event may have ended.
pub(super) fn uses(envelope: &Envelope) -> Vec<Use> {
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
