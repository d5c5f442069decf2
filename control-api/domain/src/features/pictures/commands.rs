//! Requests to change pictures. Their files are written before.

use super::{
    events::{AvatarChanged, BannerChanged, ChannelAvatarChanged, PictureHash},
    queries,
};
use crate::{
    actor::{Actor, Role},
    command::{Command, Context, Decision, Refusal},
    features::{accounts, channels},
    id::{AccountId, ChannelId},
    permission::Who,
    rows::Rows,
};

/// Gives an account another picture, or none.
#[derive(Debug)]
pub struct ChangeAvatar {
    /// The account.
    pub account: AccountId,
    /// The picture.
    pub avatar: Option<PictureHash>,
}

impl Command for ChangeAvatar {
    const NAME: &'static str = "account.change_avatar";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        accounts::queries::present(rows, self.account).map(|_| Some(self.account))
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let Self { account, avatar } = *self;
        match queries::avatar(context.rows, account)? == avatar {
            true => Ok(Decision::nothing(())),
            false => Decision::event(AvatarChanged { account, avatar }, ()),
        }
    }
}

/// Gives a channel another picture, or none.
#[derive(Debug)]
pub struct ChangeChannelAvatar {
    /// The channel.
    pub channel: ChannelId,
    /// The picture.
    pub avatar: Option<PictureHash>,
}

impl Command for ChangeChannelAvatar {
    const NAME: &'static str = "channel.change_avatar";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        owner(rows, self.channel)
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        is_visible(rows, actor, self.channel)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let Self { channel, avatar } = *self;
        match queries::channel_avatar(context.rows, channel)? == avatar {
            true => Ok(Decision::nothing(())),
            false => Decision::event(ChannelAvatarChanged { channel, avatar }, ()),
        }
    }
}

/// Gives a channel another banner, or none.
#[derive(Debug)]
pub struct ChangeBanner {
    /// The channel.
    pub channel: ChannelId,
    /// The picture.
    pub banner: Option<PictureHash>,
}

impl Command for ChangeBanner {
    const NAME: &'static str = "channel.change_banner";
    const WHO: Who = Who::OwnerOr(Role::Moderator);

    type Done = ();

    fn owner(&self, rows: &dyn Rows) -> Result<Option<AccountId>, Refusal> {
        owner(rows, self.channel)
    }

    fn is_visible(&self, rows: &dyn Rows, actor: &Actor) -> Result<bool, Refusal> {
        is_visible(rows, actor, self.channel)
    }

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let Self { channel, banner } = *self;
        match queries::banner(context.rows, channel)? == banner {
            true => Ok(Decision::nothing(())),
            false => Decision::event(BannerChanged { channel, banner }, ()),
        }
    }
}

fn owner(rows: &dyn Rows, channel: ChannelId) -> Result<Option<AccountId>, Refusal> {
    Ok(Some(channels::queries::channel(rows, channel)?.owner))
}

fn is_visible(rows: &dyn Rows, actor: &Actor, channel: ChannelId) -> Result<bool, Refusal> {
    Ok(channels::queries::is_visible(&channels::queries::channel(rows, channel)?, actor))
}
