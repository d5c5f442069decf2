//! Counts sessions, views and watch time of all presentations, minute by minute, in memory. Pure:
//! the time is an argument. `session` has the rule.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use control_domain::{Time, id::VideoId};
use media_core::ChannelName;

use super::{
    counts::{Counts, Row},
    delivered::{Delivered, Presentation, PresentationId, Report, Values},
    metrics::{Metrics, Reported, Sample},
    session::Session,
};
use crate::store::Step;

/// Greatest number of sessions of one host with one presentation. Whoever invents names of players
/// or of sessions is one more viewer from there on.
const MAX_OF_A_HOST: u32 = 32;
/// Greatest values of reports that are believed, so that no sum is one player's.
const MAX_KBPS: u64 = 1_000_000;
/// An hour, in milliseconds.
const MAX_MS: u64 = 3_600_000;

/// A moment on two clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The wall clock, for minutes.
    pub(super) wall: Time,
    /// Milliseconds of a monotonic clock, for sessions.
    pub(super) ms: u64,
}

/// A channel or video by the name that deliveries have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    Channel(ChannelName),
    Video(VideoId),
}

/// The numbers of a minute that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Minute {
    /// Its beginning.
    pub(super) begin: Time,
    /// The rows of all that had an audience.
    pub(super) rows: Vec<(Watched, Row)>,
}

/// The sessions, and the numbers of the present minute.
pub(super) struct Counter {
    sessions: HashMap<(u64, PresentationId), (u64, Session)>,
    /// The number of sessions of each host with each presentation.
    hosts: HashMap<(u64, PresentationId), u32>,
    max_sessions: usize,
    presentations: HashMap<PresentationId, Audience>,
    /// The present minute since 1970.
    minute: u64,
    hasher: RandomState,
    metrics: Metrics,
}

/// The audience of one presentation.
struct Audience {
    watched: Watched,
    /// Sessions that have not ended.
    open: u64,
    /// The numbers of the present minute.
    row: Row,
}

impl Counter {
    pub(super) fn new(max_sessions: usize, metrics: Metrics, now: Moment) -> Self {
        Self {
            sessions: HashMap::new(),
            hosts: HashMap::new(),
            max_sessions,
            presentations: HashMap::new(),
            minute: Step::Minute.number(now.wall),
            hasher: RandomState::new(),
            metrics,
        }
    }

    /// Media were delivered.
    pub(super) fn deliver(&mut self, delivered: &Delivered<'_>, now: Moment) {
        let id = delivered.presentation.id();
        let values = match delivered.report {
            Report::None => None,
            Report::Malformed => {
                self.metrics.report(Reported::Malformed);
                None
            }
            Report::Valid(values) => {
                self.metrics.report(Reported::Valid);
                Some(values)
            }
        };
        let session = values.and_then(|values| values.session);
        let mut viewer = self.viewer(delivered.viewer, session);
        if let Some(before) = delivered.viewer_before {
            let before = self.viewer(before, session);
            self.recognise((before, id), (viewer, id));
        }
        let host = delivered.host;
        let of_host = self.hosts.get(&(host, id)).copied().unwrap_or(0);
        if of_host >= MAX_OF_A_HOST && !self.sessions.contains_key(&(viewer, id)) {
            viewer = self.hasher.hash_one((host, "all further viewers"));
        }
        let audience = self.presentations.entry(id).or_insert_with(|| Audience {
            watched: Watched::of(&delivered.presentation),
            open: 0,
            row: Row::default(),
        });
        let count = self.sessions.len();
        let session = match self.sessions.entry((viewer, id)) {
            Entry::Occupied(known) => {
                let (_, session) = known.into_mut();
                // It has ended and was not swept yet: the viewer has returned.
                if session.has_ended(now.ms) {
                    *session = Session::begin(&delivered.presentation, now.ms);
                }
                Some(session)
            }
            // Known viewers stay, and the media of others are counted without their sessions.
            Entry::Vacant(_) if count >= self.max_sessions => None,
            Entry::Vacant(place) => {
                audience.open += 1;
                audience.row.all.peak = audience.row.all.peak.max(audience.open);
                *self.hosts.entry((host, id)).or_default() += 1;
                Some(&mut place.insert((host, Session::begin(&delivered.presentation, now.ms))).1)
            }
        };
        let mut of_rendition = Counts { objects: 1, bytes: delivered.bytes, ..Counts::default() };
        let mut of_all = of_rendition;
        let Some(session) = session else {
            self.metrics.sample(Sample::Refused);
            audience.add(delivered.track, &of_all, &of_rendition);
            return;
        };
        let Delivered { is_video, start_ms, duration_ms, .. } = *delivered;
        let credit = session.deliver(is_video, start_ms, duration_ms, now.ms);
        self.metrics.credit(&credit);
        let views = u64::from(credit.is_view);
        (of_all.watched_ms, of_all.views) = (credit.watched_ms, views);
        (of_rendition.watched_ms, of_rendition.views) = (credit.of_kind_ms, views);
        if let Some(values) = values {
            report(&mut of_all, session, &values, is_video, now.ms);
            of_rendition.quality = of_all.quality;
        }
        audience.add(delivered.track, &of_all, &of_rendition);
    }

    /// Whether the present minute is over.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        Step::Minute.number(now.wall) != self.minute
    }

    /// Ends the present minute, whose numbers are returned, and begins the one that it is now. A
    /// minute may come twice, if the wall clock is set.
    pub(super) fn close(&mut self, now: Moment) -> Minute {
        let begin = Step::Minute.begin(self.minute);
        self.minute = Step::Minute.number(now.wall);
        let mut rows: HashMap<Watched, Row> = HashMap::new();
        for audience in self.presentations.values_mut() {
            let row = std::mem::take(&mut audience.row);
            audience.row.all.peak = audience.open;
            let sum = rows.entry(audience.watched.clone()).or_default();
            sum.merge(&row);
        }
        self.presentations.retain(|_, audience| audience.open > 0);
        let rows = rows.into_iter().filter(|(_, row)| *row != Row::default()).collect();
        Minute { begin, rows }
    }

    /// Forgets the sessions that have ended.
    pub(super) fn sweep(&mut self, now: Moment) {
        let (presentations, hosts) = (&mut self.presentations, &mut self.hosts);
        self.sessions.retain(|(_, id), (host, session)| {
            let has_ended = session.has_ended(now.ms);
            if has_ended && let Some(audience) = presentations.get_mut(id) {
                audience.open = audience.open.saturating_sub(1);
            }
            if has_ended && let Some(of_host) = hosts.get_mut(&(*host, *id)) {
                *of_host = of_host.saturating_sub(1);
            }
            !has_ended
        });
        hosts.retain(|_, of_host| *of_host > 0);
        self.metrics.sessions(self.sessions.len());
    }

    /// The key of a viewer's session: the player's name for it tells players behind one address
    /// apart.
    fn viewer(&self, viewer: u64, session: Option<&str>) -> u64 {
        match session {
            Some(session) => self.hasher.hash_one((viewer, session)),
            None => viewer,
        }
    }

    /// Continues a session under another key.
    fn recognise(&mut self, before: (u64, PresentationId), now: (u64, PresentationId)) {
        if !self.sessions.contains_key(&now)
            && let Some(session) = self.sessions.remove(&before)
        {
            self.sessions.insert(now, session);
        }
    }
}

impl Audience {
    fn add(&mut self, track: &str, of_all: &Counts, of_rendition: &Counts) {
        self.row.all.merge(of_all);
        if let Some(counts) = self.row.rendition(track) {
            counts.merge(of_rendition);
        }
    }
}

impl Watched {
    fn of(presentation: &Presentation<'_>) -> Self {
        match *presentation {
            Presentation::Broadcast { channel, .. } => Self::Channel(channel.clone()),
            Presentation::Video { id, .. } => Self::Video(id),
        }
    }
}

/// Counts the values of a report.
fn report(
    counts: &mut Counts,
    session: &mut Session,
    values: &Values<'_>,
    is_video: bool,
    now_ms: u64,
) {
    let quality = &mut counts.quality;
    let value = |value: Option<u32>, most| value.map(|value| u64::from(value).min(most));
    quality.reports = 1;
    quality.rebuffers = u64::from(values.has_rebuffered);
    // Version 2 has the time itself. Before, it is known by the requests.
    match value(values.start_delay_ms, MAX_MS) {
        Some(delay) if session.report_delay() => quality.startup.add(Some(delay)),
        Some(_) => {}
        None => {
            let begun = session.report_start(values.is_starting, now_ms);
            quality.startup.add(begun.map(|ms| ms.min(MAX_MS)));
        }
    }
    quality.bitrate.add(value(values.bitrate_kbps, MAX_KBPS).filter(|_| is_video));
    quality.throughput.add(value(values.throughput_kbps, MAX_KBPS));
    quality.buffer.add(value(values.buffer_ms, MAX_MS));
    quality.latency.add(value(values.latency_ms, MAX_MS));
}

#[cfg(test)]
mod tests;
