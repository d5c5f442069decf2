//! The channels of accounts, as publishers without a stream key meet them.

use std::time::Duration;

use control_domain::{
    Fault, Rows,
    features::channels::{
        queries,
        settings::{Ladder, Latency as Distance, PublishPolicy, Settings},
    },
    text::ChannelName as Name,
};
use media_core::{
    ChannelName, ChannelSettings,
    settings::{Latency, Renditions},
};

/// A channel of an account.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    /// Its name as its owner has written it.
    pub(crate) name: ChannelName,
    /// How publishers without a stream key are authorised.
    pub(crate) publish: PublishPolicy,
    /// The settings of its broadcasts.
    pub(crate) settings: ChannelSettings,
}

/// The channel of an account with a name, in any case.
///
/// # Errors
/// A fault of the tables.
pub(super) fn find(rows: &dyn Rows, name: &Name) -> Result<Option<Owned>, Fault> {
    let Some(id) = queries::by_name(rows, name)? else { return Ok(None) };
    let Some(channel) = queries::find(rows, id)? else { return Ok(None) };
    let Ok(name) = channel.name.parse() else { return Ok(None) };
    let settings = queries::settings(rows, id)?;
    Ok(Some(Owned { name, publish: settings.publish, settings: of_broadcasts(&settings) }))
}

/// The settings of a channel as its broadcasts have them.
pub(super) fn of_broadcasts(settings: &Settings) -> ChannelSettings {
    let reconnect = settings.reconnect_s.map(|wait| Duration::from_secs(wait.get().into()));
    ChannelSettings {
        renditions: match &settings.ladder {
            Ladder::On => Renditions::All,
            Ladder::Off => Renditions::None,
            Ladder::Rungs(rungs) => Renditions::OfHeights(rungs.heights().into()),
        },
        reconnect,
        latency: match settings.latency {
            Distance::Low => Latency::Low,
            Distance::Standard => Latency::Standard,
        },
    }
}
