//! The things that need several commands, each made by one decision.

use control_domain::{
    Command, Context, Refusal, Time, Who,
    command::Decision,
    draft::Draft,
    features::{
        self,
        accounts::commands::{Add, EditProfile},
        channels::{
            commands::{Create, Edit},
            events::Edits,
        },
        videos::{
            commands::{Announce, Publish},
            details::Details,
            processing::{FinishProcessing, FinishUpload, StartUpload},
        },
    },
    id::{AccountId, CategoryId, ChannelId, VideoId},
    password::PasswordHash,
    text::Description,
};

use super::fixtures::{Channel, Person, Video};

/// The commands that make a thing.
type Make<Done> = dyn Fn(&mut Draft<'_>) -> Result<Done, Refusal> + Send;

/// A thing that several commands make, which happen together or not at all.
pub(super) struct Thing<Done>(Box<Make<Done>>);

impl<Done: Send> Command for Thing<Done> {
    const NAME: &'static str = "fixture.make";
    const WHO: Who = Who::System;

    type Done = Done;

    fn decide(&self, context: &Context<'_>) -> Result<Decision<Done>, Refusal> {
        let mut draft = Draft::new(context, features::ALL);
        let done = (self.0)(&mut draft)?;
        Ok(draft.finish(done))
    }
}

/// Makes an account with its description.
pub(super) fn person(entry: &Person, password: PasswordHash) -> Thing<AccountId> {
    let (name, email, role) = (entry.name.clone(), entry.email.clone(), entry.role);
    let (add, about) = (Add { name, email, password, role }, entry.about.clone());
    Thing(Box::new(move |draft| {
        let account = draft.carry_out(&add)?;
        if about.is_some() {
            draft.carry_out(&EditProfile { account, name: None, about: about.clone() })?;
        }
        Ok(account)
    }))
}

/// Makes a channel with its description.
pub(super) fn channel(entry: &Channel, owner: AccountId) -> Thing<ChannelId> {
    let (name, title, visibility) = (entry.name.clone(), entry.title.clone(), entry.visibility);
    let (create, description) =
        (Create { owner, name, title, visibility }, entry.description.clone());
    Thing(Box::new(move |draft| {
        let channel = draft.carry_out(&create)?;
        if description.is_some() {
            let edits = Edits { description: description.clone(), ..Edits::default() };
            draft.carry_out(&Edit { channel, edits })?;
        }
        Ok(channel)
    }))
}

/// Makes a video in the state that its entry describes.
pub(super) fn video(
    entry: &Video,
    channel: ChannelId,
    category: Option<CategoryId>,
    password: Option<PasswordHash>,
    scheduled: Option<Time>,
) -> Thing<VideoId> {
    let details = |description: Description| Details {
        title: entry.title.clone(),
        description,
        tags: entry.tags.clone(),
        category,
        language: entry.language.clone(),
        visibility: entry.visibility,
        chapters: entry.chapters.clone(),
    };
    let description = entry.description.clone().or_else(|| "".parse().ok());
    let details = description.map(details);
    let (media, is_published) = (entry.media, entry.published.is_some());
    Thing(Box::new(move |draft| {
        // An empty text is a description.
        let details = details.clone().ok_or(Refusal::NotFound { thing: "description" })?;
        let video = draft.carry_out(&Announce { channel, details, password: password.clone() })?;
        if let Some(media) = media {
            draft.carry_out(&StartUpload { video })?;
            // The size is unknown, because there is no file.
            draft.carry_out(&FinishUpload { video, bytes: 0 })?;
            draft.carry_out(&FinishProcessing { video, media })?;
        }
        if is_published || scheduled.is_some() {
            draft.carry_out(&Publish { video, at: scheduled })?;
        }
        Ok(video)
    }))
}
