//! Requests to follow a channel and to end this.

use super::{
    events::{Followed, Notices, Unfollowed},
    queries,
    tables::MAX_OF_A_PERSON,
};
use crate::{
    command::{Command, Context, Decision, Refusal},
    features::{accounts, channels},
    id::ChannelId,
    permission::Who,
};

/// The sender follows a channel, or wants other notices of it.
#[derive(Debug)]
pub struct Follow {
    /// The channel.
    pub channel: ChannelId,
    /// The notices.
    pub notices: Notices,
}

impl Command for Follow {
    const NAME: &'static str = "follow.set";
    const WHO: Who = Who::SignedIn;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let (rows, person) = (context.rows, context.account()?);
        accounts::queries::present(rows, person)?;
        channels::queries::visible(rows, context.actor, self.channel)?;
        match queries::follow(rows, person, self.channel)? {
            Some(follow) if follow.notices == self.notices => return Ok(Decision::nothing(())),
            None if queries::followed(rows, person)? >= MAX_OF_A_PERSON as u64 => {
                let limit = MAX_OF_A_PERSON as u64;
                return Err(Refusal::Limit { things: "followed channels", limit });
            }
            _ => {}
        }
        Decision::event(Followed { channel: self.channel, person, notices: self.notices }, ())
    }
}

/// The sender follows a channel no more.
#[derive(Debug)]
pub struct Unfollow {
    /// The channel.
    pub channel: ChannelId,
}

impl Command for Unfollow {
    const NAME: &'static str = "follow.remove";
    const WHO: Who = Who::SignedIn;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let person = context.account()?;
        match queries::follow(context.rows, person, self.channel)? {
            Some(_) => Decision::event(Unfollowed { channel: self.channel, person }, ()),
            None => Ok(Decision::nothing(())),
        }
    }
}
