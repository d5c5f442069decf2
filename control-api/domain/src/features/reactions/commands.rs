//! Requests to react to a video.

use super::{
    events::{Reaction, ReactionRemoved, ReactionSet},
    queries,
};
use crate::{
    command::{Command, Context, Decision, Refusal},
    features::{accounts, videos},
    id::VideoId,
    permission::Who,
};

/// The sender likes or dislikes a video.
#[derive(Debug)]
pub struct React {
    /// The video.
    pub video: VideoId,
    /// The reaction.
    pub reaction: Reaction,
}

impl Command for React {
    const NAME: &'static str = "reaction.set";
    const WHO: Who = Who::SignedIn;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let (rows, person) = (context.rows, context.account()?);
        accounts::queries::present(rows, person)?;
        let entry = videos::queries::visible(rows, context.actor, self.video)?;
        if entry.video.state.published().is_none() {
            return Err(Refusal::Conflict {
                rule: "not_published",
                reason: "the video is not published",
            });
        }
        match queries::reaction(rows, self.video, person)? {
            Some(reaction) if reaction == self.reaction => Ok(Decision::nothing(())),
            _ => {
                let (video, reaction) = (self.video, self.reaction);
                Decision::event(ReactionSet { video, person, reaction }, ())
            }
        }
    }
}

/// The sender withdraws their reaction.
#[derive(Debug)]
pub struct Withdraw {
    /// The video.
    pub video: VideoId,
}

impl Command for Withdraw {
    const NAME: &'static str = "reaction.remove";
    const WHO: Who = Who::SignedIn;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let person = context.account()?;
        match queries::reaction(context.rows, self.video, person)? {
            Some(_) => Decision::event(ReactionRemoved { video: self.video, person }, ()),
            None => Ok(Decision::nothing(())),
        }
    }
}
