//! Requests to make and change categories.

use super::{
    events::{Made, Moved, Removed, Renamed, Translations},
    queries, start,
    tables::MAX,
};
use crate::{
    actor::Role,
    command::{Command, Context, Decision, Refusal},
    id::CategoryId,
    permission::Who,
    text::CategoryName,
};

/// Makes a category at the end of the list.
#[derive(Debug)]
pub struct Make {
    /// The name where there is no translation.
    pub name: CategoryName,
    /// The names in other languages.
    pub translations: Translations,
}

impl Command for Make {
    const NAME: &'static str = "category.make";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = CategoryId;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<CategoryId>, Refusal> {
        free(context, &self.name, None)?;
        if queries::all(context.rows)?.len() >= MAX {
            return Err(Refusal::Limit { things: "categories", limit: MAX as u64 });
        }
        let category = CategoryId::new(context.ids.next());
        let (name, translations) = (self.name.clone(), self.translations.clone());
        Decision::event(Made { category, name, translations }, category)
    }
}

/// Gives a category other names.
#[derive(Debug)]
pub struct Rename {
    /// The category.
    pub category: CategoryId,
    /// The name, if it changes.
    pub name: Option<CategoryName>,
    /// The names in other languages, if they change: all of them.
    pub translations: Option<Translations>,
    /// The version that the sender has read, if the change depends on it.
    pub expected: Option<u64>,
}

impl Command for Rename {
    const NAME: &'static str = "category.rename";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let now = queries::category(context.rows, self.category)?;
        if self.expected.is_some_and(|version| version != now.version) {
            return Err(Refusal::Changed { thing: "category" });
        }
        let name = self.name.as_ref().unwrap_or(&now.name);
        let translations = self.translations.as_ref().unwrap_or(&now.translations);
        if (name, translations) == (&now.name, &now.translations) {
            return Ok(Decision::nothing(()));
        }
        free(context, name, Some(self.category))?;
        let (name, translations) = (name.clone(), translations.clone());
        Decision::event(Renamed { category: self.category, name, translations }, ())
    }
}

/// Refuses a name that another category than `own` has.
fn free(
    context: &Context<'_>,
    name: &CategoryName,
    own: Option<CategoryId>,
) -> Result<(), Refusal> {
    match queries::by_name(context.rows, name)? {
        Some(other) if Some(other) != own => {
            Err(Refusal::Conflict { rule: "name_taken", reason: "another category has this name" })
        }
        _ => Ok(()),
    }
}

/// Moves a category within the list.
#[derive(Debug)]
pub struct Move {
    /// The category.
    pub category: CategoryId,
    /// The number of categories before it. A greater number than there are is the end.
    pub position: u32,
}

impl Command for Move {
    const NAME: &'static str = "category.move";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::category(context.rows, self.category)?;
        let all = queries::all(context.rows)?;
        let end = u32::try_from(all.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let position = self.position.min(end);
        let index = usize::try_from(position).unwrap_or(usize::MAX);
        match all.get(index).is_some_and(|(id, _)| *id == self.category) {
            true => Ok(Decision::nothing(())),
            false => Decision::event(Moved { category: self.category, position }, ()),
        }
    }
}

/// Removes a category. Its videos have none then.
#[derive(Debug)]
pub struct Remove {
    /// The category.
    pub category: CategoryId,
}

impl Command for Remove {
    const NAME: &'static str = "category.remove";
    const WHO: Who = Who::Role(Role::Administrator);

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        queries::category(context.rows, self.category)?;
        Decision::event(Removed { category: self.category }, ())
    }
}

/// Makes the categories with which a platform begins, if none was ever made.
#[derive(Debug)]
pub struct MakeStartSet;

impl Command for MakeStartSet {
    const NAME: &'static str = "category.make_start_set";
    const WHO: Who = Who::System;

    type Done = ();

    fn decide(&self, context: &Context<'_>) -> Result<Decision<()>, Refusal> {
        let mut decision = Decision::nothing(());
        if queries::is_new(context.rows)? {
            for (name, translations) in start::set() {
                let category = CategoryId::new(context.ids.next());
                decision = decision.and(Made { category, name, translations })?;
            }
        }
        Ok(decision)
    }
}
