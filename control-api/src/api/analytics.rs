//! `/api/v1/channels/{channel}/analytics`: the audience of a channel by minute or day, as JSON or
//! CSV.

use std::{fmt::Write as _, time::SystemTime};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use control_domain::{
    Fault, Time,
    features::views::queries::{self, Subject, Totals},
    id::ChannelId,
};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE, VARY},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channels;
use crate::{
    Platform, Store,
    authentication::Sender,
    described::described,
    problem::{Kind, Problem, problems},
    store,
    views::counts::{Counts, Quality, Row},
};

/// Greatest number of minutes or days of one response.
const MAX_STEPS: u64 = 1_500;
/// Minutes without `from`.
const DEFAULT_MINUTES: u64 = 60;
/// Days without `from`.
const DEFAULT_DAYS: u64 = 30;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Platform> {
    OpenApiRouter::new().routes(routes!(show_channel_analytics))
}

/// The length of time of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnalyticsStep)]
enum Step {
    /// A minute.
    Minute,
    /// A day in UTC.
    #[default]
    Day,
}

impl From<Step> for store::Step {
    fn from(step: Step) -> Self {
        match step {
            Step::Minute => Self::Minute,
            Step::Day => Self::Day,
        }
    }
}

/// A property by which numbers are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnalyticsDivision)]
enum By {
    /// The track: `v0` is the video of the source, `a0` its audio, `v480` a rendition.
    Rendition,
}

/// The format of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnalyticsFormat)]
enum Format {
    /// `application/json`.
    Json,
    /// `text/csv` (RFC 4180).
    Csv,
}

/// The time and the form of the numbers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Start of the first minute or day; a time within one means its start. Default: an hour, or 30
    /// days, before `to`.
    #[param(schema_with = described::<Time>, required = false)]
    from: Option<Time>,
    /// End: the minute or day in which this is not included, unless it has begun before. Default:
    /// now. At most 1500 minutes or days after `from`.
    #[param(schema_with = described::<Time>, required = false)]
    to: Option<Time>,
    /// The length of time of a point.
    #[serde(default)]
    #[param(inline, default = "day")]
    step: Step,
    /// Divides each point. Default: one point for all renditions together.
    #[param(inline)]
    by: Option<By>,
    /// The format. Default: by Accept, otherwise JSON.
    #[param(inline)]
    format: Option<Format>,
}

/// The audience of a channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Analytics)]
struct Report {
    /// The channel.
    #[schema(schema_with = described::<ChannelId>)]
    channel: ChannelId,
    /// The length of time of a point.
    step: Step,
    /// Start of the first point that there may be.
    #[schema(schema_with = described::<Time>)]
    from: Time,
    /// End of the last point that there may be.
    #[schema(schema_with = described::<Time>)]
    to: Time,
    /// The minutes or days that had an audience, in order.
    points: Vec<Point>,
}

/// The audience in a minute or a day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnalyticsPoint)]
struct Point {
    /// The start of the minute or day.
    #[schema(schema_with = described::<Time>)]
    time: Time,
    /// The rendition of this point; null for all together.
    #[schema(required)]
    rendition: Option<String>,
    /// The views that became views in this time. A session is one view once it has watched 10 s, or
    /// half of a shorter video.
    views: u64,
    /// The media that were watched, in seconds. Video and audio beside each other count once; each
    /// rendition has its own time.
    watch_seconds: f64,
    /// The greatest number of viewers at a time; null for one rendition. A viewer leaves two
    /// minutes after their last media.
    #[schema(required)]
    peak_viewers: Option<u64>,
    /// Segments and parts that were sent.
    objects: u64,
    /// Their bytes.
    bytes: u64,
    /// What players have reported.
    quality: Reported,
}

/// What players have reported with their requests (CTA-5004). It is their word.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AnalyticsQuality)]
struct Reported {
    /// Requests with a report.
    reports: u64,
    /// Reports that the player has rebuffered since its last request.
    rebuffers: u64,
    /// Their part of all reports; null without a report.
    #[schema(required)]
    rebuffer_ratio: Option<f64>,
    /// Starts of playback whose duration is known.
    startups: u64,
    /// Their mean duration in milliseconds.
    #[schema(required)]
    startup_ms: Option<u64>,
    /// The mean bit rate of requested video, in kbit/s.
    #[schema(required)]
    bitrate_kbps: Option<u64>,
    /// The mean throughput that players have measured, in kbit/s.
    #[schema(required)]
    throughput_kbps: Option<u64>,
    /// The mean length of the media in players' buffers, in milliseconds.
    #[schema(required)]
    buffer_ms: Option<u64>,
    /// The mean distance to the live edge, in milliseconds.
    #[schema(required)]
    latency_ms: Option<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "they are shown with three digits")]
fn ratio(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64 * 1_000.0).round() / 1_000.0
}

impl From<Quality> for Reported {
    fn from(quality: Quality) -> Self {
        let Quality { reports, rebuffers, startup, bitrate, throughput, buffer, latency } = quality;
        Self {
            reports,
            rebuffers,
            rebuffer_ratio: (reports > 0).then(|| ratio(rebuffers, reports)),
            startups: startup.count(),
            startup_ms: startup.get(),
            bitrate_kbps: bitrate.get(),
            throughput_kbps: throughput.get(),
            buffer_ms: buffer.get(),
            latency_ms: latency.get(),
        }
    }
}

impl Point {
    fn new(time: Time, rendition: Option<String>, counts: Counts) -> Self {
        let peak_viewers = rendition.is_none().then_some(counts.peak);
        Self {
            time,
            rendition,
            views: counts.views,
            watch_seconds: ratio(counts.watched_ms, 1_000),
            peak_viewers,
            objects: counts.objects,
            bytes: counts.bytes,
            quality: counts.quality.into(),
        }
    }
}

problems!(
    /// Problems of [`show_channel_analytics`].
    ShowProblems: InvalidRequest, Unauthenticated, InvalidToken, Forbidden, NotFound,
    PreconditionFailed
);

/// Show the audience of a channel
///
/// Views, watch time and the quality that players report, by minute or day. The present minute
/// follows when it is over. The owner and administrators may do it.
#[utoipa::path(
    get,
    path = "/api/v1/channels/{channel}/analytics",
    params(("channel" = String, Path, description = "The channel's id or name"), Wanted),
    responses(
        (
            status = OK,
            description = "The audience; as CSV a line for each point",
            content((Report = "application/json"), (String = "text/csv"))
        ),
        ShowProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn show_channel_analytics(
    State(platform): State<Platform>,
    Sender(actor): Sender,
    channel: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let invalid = |words: String| Problem::new(Kind::InvalidRequest, words);
    let Query(wanted) = wanted.map_err(|err| invalid(err.body_text()))?;
    let (id, _) = channels::found(&platform, actor, channel).await?;
    let store = platform.store().await?;
    store.read(|rows| queries::may_show(rows, &actor, id))??;
    let range = Range::of(&wanted, SystemTime::now().into())?;
    let points = points(&store, id, range, wanted.by)?;
    let format = wanted.format.unwrap_or_else(|| accepted(&headers));
    let mut response = match format {
        Format::Json => {
            let (from, to) = (range.step.begin(range.first), range.step.begin(range.end));
            Json(Report { channel: id, step: wanted.step, from, to, points }).into_response()
        }
        Format::Csv => {
            let csv = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
            ([(CONTENT_TYPE, csv)], csv_of(&points)).into_response()
        }
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// A range of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    step: store::Step,
    /// The first step.
    first: u64,
    /// The step after the last one.
    end: u64,
}

impl Range {
    /// The range of a request at this time.
    ///
    /// # Errors
    /// 400 if it is too long, or ends before it begins.
    fn of(wanted: &Wanted, now: Time) -> Result<Self, Problem> {
        let step = store::Step::from(wanted.step);
        let ms = step.begin(1).as_millis();
        // A step that has begun is included.
        let end = wanted.to.unwrap_or(now).as_millis().div_ceil(ms);
        let default = match wanted.step {
            Step::Minute => DEFAULT_MINUTES,
            Step::Day => DEFAULT_DAYS,
        };
        let first = wanted.from.map_or(end.saturating_sub(default), |from| step.number(from));
        let words = match end.checked_sub(first) {
            Some(1..=MAX_STEPS) => return Ok(Self { step, first, end }),
            Some(0) | None => "`to` is not after `from`".to_owned(),
            Some(steps) => {
                format!("from `from` to `to` there are {steps} steps, at most {MAX_STEPS} are sent")
            }
        };
        Err(Problem::new(Kind::InvalidRequest, words))
    }
}

/// The points of a range.
fn points(
    store: &Store,
    channel: ChannelId,
    range: Range,
    by: Option<By>,
) -> Result<Vec<Point>, Fault> {
    let Range { step, first, end } = range;
    let (subject, last) = (Subject::Channel(channel), end.saturating_sub(1));
    let limit = usize::try_from(MAX_STEPS).unwrap_or(usize::MAX);
    let mut rows = store.traffic().audience(subject, step, first, last, limit)?;
    if let Some(By::Rendition) = by {
        let points = rows.into_iter().flat_map(|(number, row)| {
            let time = step.begin(number);
            let renditions = row.renditions.into_iter();
            renditions.map(move |(name, counts)| Point::new(time, Some(name), counts))
        });
        return Ok(points.collect());
    }
    // The views of days are facts, which are exact whatever happens to the file of traffic.
    if step == store::Step::Day {
        let days = store.read(|rows| queries::days(rows, subject, first, last, limit))??;
        rows = with_facts(rows, &days);
    }
    let points =
        rows.into_iter().map(|(number, row)| Point::new(step.begin(number), None, row.all));
    Ok(points.collect())
}

/// The rows of days with the views and the watch time of the log.
fn with_facts(rows: Vec<(u64, Row)>, days: &[(u64, Totals)]) -> Vec<(u64, Row)> {
    let mut all = std::collections::BTreeMap::from_iter(rows);
    for (day, totals) in days {
        let counts = &mut all.entry(*day).or_default().all;
        (counts.views, counts.watched_ms) = (totals.views, totals.watched_ms);
    }
    all.into_iter().collect()
}

/// The format that a client prefers.
fn accepted(headers: &HeaderMap) -> Format {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut types = accept.split(',').map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    match types.find(|kind| matches!(*kind, "text/csv" | "application/json" | "*/*")) {
        Some("text/csv") => Format::Csv,
        _ => Format::Json,
    }
}

/// The points as lines (RFC 4180). No value needs quotation marks.
fn csv_of(points: &[Point]) -> String {
    let mut text = "time,rendition,views,watch_seconds,peak_viewers,objects,bytes,reports,\
                    rebuffers,startups,startup_ms,bitrate_kbps,throughput_kbps,buffer_ms,\
                    latency_ms\r\n"
        .to_owned();
    let shown = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    for point in points {
        let Point { time, rendition, views, watch_seconds, objects, bytes, quality, .. } = point;
        let rendition = rendition.as_deref().unwrap_or_default();
        // Writing to a text does not fail.
        let _ = write!(
            text,
            "{time},{rendition},{views},{watch_seconds},{},{objects},{bytes},{},{},{}",
            shown(point.peak_viewers),
            quality.reports,
            quality.rebuffers,
            quality.startups,
        );
        for value in [
            quality.startup_ms,
            quality.bitrate_kbps,
            quality.throughput_kbps,
            quality.buffer_ms,
            quality.latency_ms,
        ] {
            let _ = write!(text, ",{}", shown(value));
        }
        text.push_str("\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Time = Time::from_millis(1_796_040_000_000);

    fn wanted(from: Option<u64>, to: Option<u64>, step: Step) -> Wanted {
        let time = |minutes: u64| Time::from_millis(NOON.as_millis() + 60_000 * minutes);
        Wanted { from: from.map(time), to: to.map(time), step, by: None, format: None }
    }

    #[test]
    fn a_range_has_defaults_and_a_limit() {
        let minutes = |from, to| {
            let range = Range::of(&wanted(from, to, Step::Minute), NOON).ok()?;
            Some((range.end - range.first, range.step.begin(range.end) == NOON))
        };
        assert_eq!(minutes(None, None), Some((60, true)));
        assert_eq!(minutes(Some(0), Some(1_500)).map(|(steps, _)| steps), Some(1_500));
        assert_eq!(minutes(Some(0), Some(1_501)), None);
        assert_eq!(minutes(Some(5), Some(5)), None);
        assert_eq!(minutes(Some(6), Some(5)), None);
        // The day that has begun is one of thirty.
        let days = Range::of(&wanted(None, None, Step::Day), NOON).unwrap();
        assert_eq!(days.end - days.first, 30);
        assert_eq!(days.step.number(NOON) + 1, days.end);
    }

    #[test]
    fn days_have_the_views_of_the_log() {
        let row =
            |views| Row { all: Counts { views, bytes: 7, ..Counts::default() }, ..Row::default() };
        let facts = |views| Totals { views, watched_ms: 1 };
        let rows = with_facts(vec![(1, row(1)), (2, row(2))], &[(0, facts(9)), (2, facts(3))]);
        let numbers = rows.iter().map(|(day, row)| (*day, row.all.views, row.all.bytes));
        assert_eq!(numbers.collect::<Vec<_>>(), [(0, 9, 0), (1, 1, 7), (2, 3, 7)]);
    }

    #[test]
    fn the_first_known_type_of_accept_is_the_format() {
        for (accept, expected) in [
            ("", Format::Json),
            ("*/*", Format::Json),
            ("text/csv", Format::Csv),
            ("text/html, text/csv;q=0.9, */*", Format::Csv),
            ("application/json, text/csv", Format::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(accepted(&headers), expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
    }
}
