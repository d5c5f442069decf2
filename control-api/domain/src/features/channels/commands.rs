//! Requests to make and change channels.

use super::{
    events::{Created, Deleted, Edited, Edits, SettingsChanged, Visibility},
    queries,
    settings::Changes,
    tables::MAX_OF_AN_OWNER,
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::{accounts, categories},
    id::{AccountId, ChannelId},
    permission::Who,
    rows::Rows,
    text::{ChannelName, ChannelTitle},
};

/// Makes a channel.
#[derive(Debug)]
pub struct Create {
    /// The account that owns it: the sender's own, or any for an administrator.
    pub owner: AccountId,
    /// The name in addresses.
    pub name: ChannelName,
    /// The title.
    pub title: ChannelTitle,
    /// Its visibility.
    pub visibility: Visibility,
}

impl Command for Create {
    const NAME: &'static str = "channel.create";
    const WHO: Who = Who::Role(Role::Creator);

    type Done = ChannelId;

    fn owner(&self, _: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(self.owner))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<ChannelId>, Refusal> {
        if context.actor.account() != Some(self.owner) && !context.actor.has(Role::Administrator) {
            return Err(Refusal::Forbidden { command: Self::NAME, who: Self::WHO });
        }
        accounts::queries::present(context.rows, self.owner)?;
        if queries::by_name(context.rows, &self.name)?.is_some() {
            return Err(Refusal::Conflict {
                rule: "name_taken",
                reason: "another channel has this name",
            });
        }
        if queries::of_owner(context.rows, self.owner)?.len() >= MAX_OF_AN_OWNER {
            return Err(Refusal::Limit { things: "channels", limit: MAX_OF_AN_OWNER as u64 });
        }
        let channel = ChannelId::new(context.ids.next());
        let event = Created {
            channel,
            owner: self.owner,
            name: self.name.clone(),
            title: self.title.clone(),
            visibility: self.visibility,
        };
        Decision::event(event, channel)
    }
}

/// Changes the properties of a channel.
#[derive(Debug)]
pub struct Edit {
    /// The channel.
    pub channel: ChannelId,
    /// The properties to change.
    pub edits: Edits,
}

impl Command for Edit {
    const NAME: &'static str = "channel.edit";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::channel(rows, self.channel)?.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::is_visible(&queries::channel(rows, self.channel)?, actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let now = queries::channel(context.rows, self.channel)?;
        let edits = self.edits.clone();
        let edits = Edits {
            title: edits.title.filter(|title| title.as_str() != now.title),
            description: edits.description.filter(|text| text.as_str() != now.description),
            visibility: edits.visibility.filter(|visibility| *visibility != now.visibility),
        };
        match edits == Edits::default() {
            true => Ok(Decision::nothing(())),
            false => Decision::event(Edited { channel: self.channel, edits }, ()),
        }
    }
}

/// Changes the settings of a channel's broadcasts.
#[derive(Debug)]
pub struct ChangeSettings {
    /// The channel.
    pub channel: ChannelId,
    /// The settings to change.
    pub changes: Changes,
    /// The version of the settings that the sender has read, if the change depends on it.
    pub expected: Option<u64>,
}

impl Command for ChangeSettings {
    const NAME: &'static str = "channel.change_settings";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::channel(rows, self.channel)?.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::is_visible(&queries::channel(rows, self.channel)?, actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::channel(context.rows, self.channel)?;
        let now = queries::settings(context.rows, self.channel)?;
        if self.expected.is_some_and(|version| version != now.version) {
            return Err(Refusal::Changed { thing: "channel" });
        }
        let changes = now.effective(&self.changes);
        if let Some(category) = changes.category.flatten() {
            categories::queries::category(context.rows, category)?;
        }
        match changes == Changes::default() {
            true => Ok(Decision::nothing(())),
            false => Decision::event(SettingsChanged { channel: self.channel, changes }, ()),
        }
    }
}

/// Deletes a channel.
#[derive(Debug)]
pub struct Delete {
    /// The channel.
    pub channel: ChannelId,
}

impl Command for Delete {
    const NAME: &'static str = "channel.delete";
    const WHO: Who = Who::OwnerOr(Role::Administrator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        Ok(Some(queries::channel(rows, self.channel)?.owner))
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        Ok(queries::is_visible(&queries::channel(rows, self.channel)?, actor))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::channel(context.rows, self.channel)?;
        Decision::event(Deleted { channel: self.channel }, ())
    }
}

/// Records that channels are gone, because their accounts were erased: at most
/// [`DeleteOrphans::MAX`] with one command.
#[derive(Debug)]
pub struct DeleteOrphans;

impl DeleteOrphans {
    /// The greatest number of channels.
    pub const MAX: usize = 100;
}

impl Command for DeleteOrphans {
    const NAME: &'static str = "channel.delete_orphans";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let orphans = queries::orphans(context.rows, Self::MAX)?;
        let mut deleted = orphans.into_iter().map(|channel| Deleted { channel });
        deleted.try_fold(Decision::nothing(()), Decision::and)
    }
}
