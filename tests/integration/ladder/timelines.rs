//! All renditions have one timeline: each segment has the same start, duration and frames in all.

use crate::{
    ladder::stage::{self, Rendition, Stage, VIDEO},
    support::{
        media::{PLAIN, Recipe},
        push::{self, Push},
        rtmp::{self, Tag},
    },
};
use std::{collections::BTreeSet, thread, time::Duration};

const LIMIT: Duration = Duration::from_secs(120);

/// A source, and how it is published.
struct Source {
    recipe: Recipe,
    tags: Vec<Tag>,
    /// Rungs have each frame, or every second one.
    lowest_rung_has_every: usize,
}

impl Source {
    fn of(recipe: Recipe) -> Self {
        let (num, den) = recipe.fps.expect("it has pictures");
        Self {
            recipe,
            tags: push::first(&rtmp::tags(&recipe.flv()), recipe.seconds),
            lowest_rung_has_every: if num / den > 31 { 2 } else { 1 },
        }
    }

    /// Access units of video.
    fn frames(&self) -> usize {
        self.tags.iter().filter(|tag| tag.is_picture()).count()
    }

    /// Without the `nth` picture of the video that is not a key frame.
    fn without(mut self, nth: usize) -> Self {
        let tags = self.tags.iter().enumerate();
        let mut others = tags.filter(|(_, tag)| tag.is_picture() && !tag.is_key());
        let (index, _) = others.nth(nth).expect("it has so many");
        self.tags.remove(index);
        self
    }
}

/// Publishes all at once, one channel each, and follows all renditions of each.
fn pushed(sources: &[Source]) -> Vec<Vec<Rendition>> {
    let stage = Stage::start();
    let channels: Vec<String> = (0..sources.len()).map(|index| format!("source{index}")).collect();
    thread::scope(|scope| {
        let followers: Vec<_> = sources
            .iter()
            .zip(&channels)
            .map(|(source, channel)| {
                let stage = &stage;
                scope.spawn(move || {
                    let push = Push::start(stage.rtmp, channel, source.tags.clone());
                    let renditions = stage::follow_to_the_end(stage, channel, &VIDEO, LIMIT);
                    push.finish();
                    renditions
                })
            })
            .collect();
        followers
            .into_iter()
            .map(|follower| follower.join().expect("all renditions can be followed"))
            .collect()
    })
}

/// Asserts that the renditions of a broadcast have one timeline, with each published frame in it.
#[track_caller]
fn assert_one_timeline(source: &Source, renditions: &[Rendition]) {
    stage::assert_in_step(renditions);
    let [original, top, lowest] = renditions else { panic!("three renditions") };
    assert_eq!(original.times().len(), source.frames(), "nothing of the source is lost");
    // Groups of up to 12 s are segments of their own.
    stage::assert_frames(original, original, 1);
    stage::assert_frames(top, original, 1);
    stage::assert_frames(lowest, original, source.lowest_rung_has_every);
}

/// Publishes all at once; each has one timeline, and shows the published pictures in each size.
#[track_caller]
fn assert_one_timeline_of_each(recipes: &[Recipe]) {
    let sources: Vec<_> = recipes.iter().copied().map(Source::of).collect();
    for (source, renditions) in sources.iter().zip(pushed(&sources)) {
        eprintln!("{:?}", source.recipe);
        assert_one_timeline(source, &renditions);
        let [original, top, lowest] = &renditions[..] else { panic!("three renditions") };
        let sent = original.numbers();
        assert!(sent.is_sorted_by(|a, b| a + 1 == *b), "as it was encoded: {sent:?}");
        assert_eq!(top.numbers(), sent, "pictures of {}", top.name);
        let pairs = lowest.times().into_iter().zip(lowest.numbers());
        let all: BTreeSet<_> = original.times().into_iter().zip(sent).collect();
        for pair in pairs {
            assert!(all.contains(&pair), "{}: time and number {pair:?}", lowest.name);
        }
    }
}

#[test]
fn renditions_have_one_timeline_with_groups_of_1_2_and_2_5_s() {
    let recipe = Recipe { seconds: 12, ..PLAIN };
    assert_one_timeline_of_each(&[
        Recipe { group: 25, ..recipe },
        Recipe { fps: Some((30_000, 1001)), b_frames: 2, audio_hz: Some(44_100), ..recipe },
        Recipe { fps: Some((30, 1)), group: 75, b_frames: 2, audio_hz: None, ..recipe },
    ]);
}

#[test]
fn renditions_have_one_timeline_with_groups_of_8_3_s() {
    let recipe = Recipe { seconds: 20, ..PLAIN };
    assert_one_timeline_of_each(&[
        Recipe { group: 208, ..recipe },
        Recipe { fps: Some((30, 1)), group: 250, b_frames: 2, ..recipe },
    ]);
}

#[test]
fn at_60_frames_a_second_the_lower_rung_has_every_second_picture() {
    let recipe = Recipe { seconds: 12, fps: Some((60, 1)), ..PLAIN };
    assert_one_timeline_of_each(&[
        recipe,
        Recipe { group: 150, b_frames: 2, audio_hz: None, ..recipe },
    ]);
}

#[test]
fn a_lost_access_unit_is_missing_in_every_rendition() {
    let plain = Recipe { seconds: 12, ..PLAIN };
    let sources = [
        // In the middle of a group, the last of one, and one to which others refer in both
        // directions.
        Source::of(plain).without(120),
        Source::of(Recipe { group: 25, ..plain }).without(71),
        Source::of(Recipe { b_frames: 2, ..plain }).without(124),
    ];
    for (source, renditions) in sources.iter().zip(pushed(&sources)) {
        assert_one_timeline(source, &renditions);
    }
}
