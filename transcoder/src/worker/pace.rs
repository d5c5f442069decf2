//! Measures the frame rate of a source against the encoder's setting, because sources declare it
//! wrongly, not at all, or change it.

use gstreamer as gst;
use media_core::{MediaSpan, MediaTime};

use super::encoder;

/// Minimum span of a measurement: two seconds.
const SPAN: MediaSpan = MediaSpan::from_millis(2_000);
/// Maximum span; a longer one contains a hole and is discarded.
const LONGEST: MediaSpan = MediaSpan::from_millis(20_000);
/// Smaller differences are ignored.
const TOLERANCE: f64 = 0.05;

/// Keeps one encoder's rate correct.
pub(super) struct Pace {
    /// The settings with which the encoder was started.
    settings: encoder::Settings,
    /// The running encoder.
    element: Option<gst::Element>,
    counter: Counter,
}

impl Pace {
    pub(super) fn new(settings: &encoder::Settings, element: Option<gst::Element>) -> Self {
        Self { counter: Counter::new(settings.frame_rate), settings: settings.clone(), element }
    }

    /// Records a picture that goes into the encoder.
    pub(super) fn push(&mut self, pts: MediaTime, marked: bool) {
        if let (Some(times), Some(element)) = (self.counter.push(pts, marked), &self.element) {
            encoder::set_pace(element, &self.settings, times);
        }
    }
}

/// Counts pictures between marks.
struct Counter {
    /// The frame rate in the settings, in pictures a second.
    stated: f64,
    /// The last reported factor.
    times: f64,
    /// The pictures since the last mark that was evaluated.
    counted: Option<Counted>,
}

/// Pictures from a time on.
struct Counted {
    /// Presentation time of the first.
    start: MediaTime,
    /// Number of pictures, the first included.
    pictures: u32,
}

impl Counter {
    fn new(stated: f64) -> Self {
        Self { stated, times: 1.0, counted: None }
    }

    /// The factor by which pictures are more frequent than the setting, if it has changed. Only at
    /// a mark, where the encoder starts a new group.
    fn push(&mut self, pts: MediaTime, marked: bool) -> Option<f64> {
        let Some(counted) = &mut self.counted else {
            self.counted = Some(Counted { start: pts, pictures: 1 });
            return None;
        };
        let (span, pictures) = (pts - counted.start, f64::from(counted.pictures));
        counted.pictures = counted.pictures.saturating_add(1);
        // A short count would take the jitter of timestamps for another rate.
        if !marked || (MediaSpan::ZERO..SPAN).contains(&span) {
            return None;
        }
        self.counted = Some(Counted { start: pts, pictures: 1 });
        // A time that decreased or a hole measures nothing; the count starts again at this picture.
        if !(SPAN..LONGEST).contains(&span) {
            return None;
        }
        let times = pictures * 90_000.0 / span.ticks() as f64 / self.stated;
        if (times / self.times - 1.0).abs() < TOLERANCE {
            return None;
        }
        self.times = times;
        Some(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: i64) -> MediaTime {
        MediaTime::from_ticks(ticks)
    }

    #[test]
    fn a_correctly_declared_frame_rate_is_not_reported() {
        let mut counter = Counter::new(30.0);
        assert!(
            (0..600).all(|number| counter.push(at(number * 3_000), number % 60 == 0).is_none())
        );
    }

    #[test]
    fn a_different_frame_rate_is_reported_once() {
        let mut counter = Counter::new(30.0);
        let stated: Vec<_> = (0..1_200)
            .filter_map(|number| {
                Some((number, counter.push(at(number * 1_500), number % 60 == 0)?))
            })
            .collect();
        assert_eq!(stated, [(120, 2.0)]);
    }

    #[test]
    fn a_hole_in_the_times_is_not_reported_as_a_frame_rate() {
        let mut counter = Counter::new(30.0);
        assert_eq!(counter.push(at(0), true), None);
        assert_eq!(counter.push(at(3_000), false), None);
        assert_eq!(counter.push(at(90_000 * 60), true), None);
        assert_eq!(counter.push(at(0), true), None);
    }
}
