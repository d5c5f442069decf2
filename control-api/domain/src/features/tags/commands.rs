//! Requests to merge tags and to separate them.

use super::{
    events::{Merged, Separated},
    queries,
    tables::{MAX_OF_A_TAG, MERGED},
};
use crate::{
    actor::Role,
    command::{Command, Context, Decision, Refusal},
    permission::Who,
    text::{Tag, folded},
};

/// Merges a tag, and all that were merged into it, into another.
#[derive(Debug)]
pub struct Merge {
    /// The tag.
    pub tag: Tag,
    /// The tag that it shall mean. If that was merged itself, its meaning is.
    pub into: Tag,
}

impl Command for Merge {
    const NAME: &'static str = "tag.merge";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let (rows, into) = (context.rows, queries::meaning(context.rows, &self.into)?);
        let (key, target) = (folded(self.tag.as_str()), folded(into.as_str()));
        if key == target {
            return Err(Refusal::Conflict {
                rule: "same_tag",
                reason: "a tag cannot be merged into itself",
            });
        }
        let before = queries::merged_into(rows, &target)?;
        if before.contains(&key) {
            return Ok(Decision::nothing(()));
        }
        // No tag is merged into one that is merged itself, so that a meaning is found in one step.
        let followers = queries::merged_into(rows, &key)?;
        if before.len() + followers.len() + 1 > MAX_OF_A_TAG {
            return Err(Refusal::Limit { things: "merged tags", limit: MAX_OF_A_TAG as u64 });
        }
        let mut decision =
            Decision::event(Merged { tag: self.tag.clone(), into: into.clone() }, ())?;
        for follower in followers {
            let follower = MERGED.get(rows, &follower)?;
            let Some(follower) = follower else { continue };
            decision = decision.and(Merged { tag: follower.tag, into: into.clone() })?;
        }
        Ok(decision)
    }
}

/// Takes a tag out of the one into which it was merged.
#[derive(Debug)]
pub struct Separate {
    /// The tag.
    pub tag: Tag,
}

impl Command for Separate {
    const NAME: &'static str = "tag.separate";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        match MERGED.get(context.rows, &folded(self.tag.as_str()))? {
            Some(merged) => Decision::event(Separated { tag: merged.tag }, ()),
            None => Ok(Decision::nothing(())),
        }
    }
}
