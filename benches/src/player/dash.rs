//! A player of low-latency DASH: requests the manifest once for each segment duration, and each
//! segment of both tracks as soon as it is available, as it grows. ISO/IEC 23009-1 5.3.9.5.3
//! (`$Number$` with `@duration`), DASH-IF IOP (availabilityTimeOffset).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use super::{Fault, STALL, client::Client};

/// Delay after the manifest's availability time at which a segment is requested.
const GRACE_S: f64 = 0.3;

/// The newest Period of a manifest.
#[derive(Debug, PartialEq)]
struct Edge {
    /// Base address of the segments, up to the representation: `/media/ID`.
    base: String,
    /// `startNumber`.
    first: u64,
    /// `endNumber`: the Period is over.
    last: Option<u64>,
    /// Unix time at which the first segment is available, and the duration of a segment in seconds.
    from_s: f64,
    /// See `from_s`.
    duration_s: f64,
}

/// Follows a channel until the broadcast ends. Drop it to stop earlier.
///
/// # Errors
/// A response is wrong, or nothing new has appeared for [`STALL`].
pub async fn watch(client: Client, channel: &str) -> Result<(), Fault> {
    let mut video = client;
    let mut audio = video.another().await?;
    let (mut seen, mut moved) = (None, Instant::now());
    loop {
        let (status, body) =
            video.get("manifest", &format!("/live/{channel}/manifest.mpd")).await?;
        if status != 200 {
            return Err(Fault(format!("manifest: {status}")));
        }
        let mut text = String::new();
        let read =
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text);
        read.map_err(|_| Fault("manifest: not gzip".to_owned()))?;
        if text.contains("type=\"static\"") {
            return Ok(());
        }
        let edge = edge(&text).ok_or_else(|| Fault("manifest: not understood".to_owned()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        // Segments become available at regular times, so the newest one follows from the clock.
        let open = ((now - GRACE_S - edge.from_s) / edge.duration_s).floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of segments"
        )]
        let number = edge.first + open.max(0.0) as u64;
        // A player that is behind skips to the newest segment.
        let next = seen.map_or(number, |seen: u64| number.max(seen + 1));
        let due = edge.from_s + GRACE_S + (next - edge.first) as f64 * edge.duration_s;
        if edge.last.is_some_and(|last| next > last) || due > now + edge.duration_s {
            // The publisher is away: another Period may follow.
            if moved.elapsed() > STALL {
                return Err(Fault("stall".to_owned()));
            }
            sleep(Duration::from_secs(1)).await;
            continue;
        }
        sleep(Duration::from_secs_f64((due - now).max(0.0))).await;
        // Both tracks at the same time, each on its own connection or stream.
        let (one, other) = tokio::join!(
            segment(&mut video, format!("{}/v0/{next}.m4s", edge.base)),
            segment(&mut audio, format!("{}/a0/{next}.m4s", edge.base))
        );
        if one? && other? {
            moved = Instant::now();
        } else if moved.elapsed() > STALL {
            return Err(Fault("stall".to_owned()));
        }
        seen = Some(next);
    }
}

/// Whether it exists: there are no segments while the publisher is away.
///
/// # Errors
/// The response is neither 200 nor 404, or is not MP4.
async fn segment(client: &mut Client, path: String) -> Result<bool, Fault> {
    for _ in 0..4 {
        let (status, body) = client.get("segment", &path).await?;
        match status {
            200 if body
                .get(4..8)
                .is_some_and(|kind| kind == b"styp" || kind == b"prft" || kind == b"moof") =>
            {
                return Ok(true);
            }
            200 => return Err(Fault("segment: not media".to_owned())),
            // The frame that opens it is a little late.
            404 => sleep(Duration::from_millis(250)).await,
            status => return Err(Fault(format!("segment: {status}"))),
        }
    }
    Ok(false)
}

/// Parses the newest Period. `None` if a value is missing.
fn edge(text: &str) -> Option<Edge> {
    let start = unix_s(attribute(text, "availabilityStartTime")?)?;
    let period = &text[text.rfind("<Period ")?..];
    let media = attribute(period, "media")?;
    let base = &media[media.find("media/")?..media.find("/$RepresentationID$")?];
    let begins = attribute(period, "start")?.strip_prefix("PT")?.strip_suffix('S')?;
    // A Period may have a duration as well.
    let template = &period[period.find("<SegmentTemplate ")?..];
    let number = |name| attribute(template, name)?.parse::<f64>().ok();
    let duration_s = number("duration")? / number("timescale")?;
    Some(Edge {
        base: format!("/{base}"),
        first: attribute(template, "startNumber")?.parse().ok()?,
        last: attribute(template, "endNumber").and_then(|last| last.parse().ok()),
        // A segment is available at its end (5.3.9.5.3), or earlier by the offset because it grows.
        from_s: start + begins.parse::<f64>().ok()? + duration_s
            - number("availabilityTimeOffset")?,
        duration_s,
    })
}

/// The value of the first attribute with this name.
fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.find(&format!(" {name}=\""))?;
    text[at..].split('"').nth(1)
}

/// Unix time of `2026-11-03T09:14:50.250Z`.
fn unix_s(text: &str) -> Option<f64> {
    let moment = humantime::parse_rfc3339(text).ok()?;
    Some(moment.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_period_gives_the_first_segment_and_its_availability_time() {
        let manifest = include_str!("../../../packager/testdata/manifest.mpd");
        // 2026-11-03T09:14:50.25Z + 17.4 s + 2 s - 1.413 s.
        let expected = Edge {
            base: "/media/019a48c5-7d20-7000-8000-000000000001".to_owned(),
            first: 1_793_697_304,
            last: None,
            from_s: 1_793_697_290.25 + 17.4 + 2.0 - 1.413,
            duration_s: 2.0,
        };
        let edge = edge(manifest).unwrap();
        assert!((edge.from_s - expected.from_s).abs() < 1e-3, "{}", edge.from_s);
        assert_eq!(Edge { from_s: expected.from_s, ..edge }, expected);
    }
}
