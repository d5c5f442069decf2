//! Plans the renditions of a source and their costs. Pure: a source's configuration and the
//! configured rungs in, sizes out.
//!
//! The height of a rung counts the lines of a landscape picture; for a portrait picture it is the
//! width, so that 720 has the same number of samples in both cases. Renditions have square samples
//! and even sides.

use media_core::{TrackName, codec::avc};

use crate::protocol::VideoRendition;

/// Frame rate above which all rungs but the top one drop every second picture.
const FULL_RATE: f64 = 31.0;
/// Frame rate assumed for a source that does not declare one.
const USUAL_RATE: f64 = 30.0;
/// Cost of decoding, converting and scaling a macroblock of the source, as a fraction of encoding
/// one.
pub(crate) const DECODING: f64 = 0.3;

/// A configured rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Lines of a landscape picture; even.
    pub height: u32,
    /// Bit rate in kbit/s.
    pub video_kbps: u32,
}

/// A planned rendition of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The name of its track: `v720` for a rung of 720 lines.
    pub name: TrackName,
    /// The settings for the worker.
    pub video: VideoRendition,
    /// Cost in macroblocks encoded a second.
    pub cost: f64,
}

/// The renditions of a source: those of `rungs` below its height, most expensive first. `stand_in`:
/// it also gets one of its own size with this bit rate, because not all of its own segments start
/// with a key frame.
pub fn renditions(source: &avc::Config, rungs: &[Rung], stand_in: Option<u32>) -> Vec<Planned> {
    let lines = lines(source);
    let mut rungs: Vec<_> = rungs.iter().copied().filter(|rung| rung.height < lines).collect();
    if let Some(bitrate_bps) = stand_in {
        rungs.push(Rung { height: lines, video_kbps: bitrate_bps.div_ceil(1_000) });
    }
    rungs.sort_by_key(|rung| std::cmp::Reverse(rung.height));
    // Equal heights only arise from duplicates in the configuration. The sort is stable, so the
    // first one stays; track names are unique.
    rungs.dedup_by_key(|rung| rung.height);
    let planned = |(index, rung): (usize, &Rung)| {
        // "v" followed by digits is a valid track name.
        let name = format!("v{}", rung.height).parse().ok()?;
        let (video, cost) = rendition(source, *rung, index == 0);
        Some(Planned { name, video, cost })
    };
    rungs.iter().enumerate().filter_map(planned).collect()
}

/// The same rendition after the size or frame rate of its source has changed, with its new cost. It
/// keeps its planned size as far as the source is large enough, and gets the frame rate and level
/// that fit the new source. `top`: it is the most expensive rendition of its source.
pub fn renew(video: &VideoRendition, source: &avc::Config, top: bool) -> (VideoRendition, f64) {
    let rung = Rung {
        // A rung of the worker's settings is the shorter side, in landscape and portrait alike.
        height: video.width.min(video.height).min(lines(source)),
        video_kbps: video.bitrate_bps.div_ceil(1_000),
    };
    let (renewed, cost) = rendition(source, rung, top);
    let bitrate_bps = video.bitrate_bps;
    (VideoRendition { bitrate_bps, ..renewed }, cost)
}

/// A rung of a source, and its cost.
fn rendition(source: &avc::Config, rung: Rung, top: bool) -> (VideoRendition, f64) {
    let (width, height) = size(source, rung.height);
    // Small renditions are for slow connections and devices, which gain more from better pictures
    // than from 60 of them. The top rung keeps the source's motion.
    let halve_rate = !top && rate(source) > FULL_RATE;
    let fps = if halve_rate { rate(source) / 2.0 } else { rate(source) };
    let video = VideoRendition {
        width,
        height,
        bitrate_bps: rung.video_kbps.saturating_mul(1_000),
        halve_rate,
        level: level(width, height, fps, rung.video_kbps),
        threads: 1,
    };
    (video, macroblocks(width, height) * fps)
}

/// Cost of decoding the source, in macroblocks encoded a second.
pub fn decoding(source: &avc::Config) -> f64 {
    macroblocks(source.width, source.height) * rate(source) * DECODING
}

/// The frame rate of a source, as far as it declares one.
pub fn rate(source: &avc::Config) -> f64 {
    source.frame_rate.unwrap_or(USUAL_RATE)
}

/// The usual bit rate, in bits a second, for a picture of the source's size.
pub fn usual_bitrate(source: &avc::Config) -> u32 {
    /// For a macroblock: 2.8 Mbit/s for 720p at 30 frames a second.
    const BITS: f64 = 26.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate"
    )]
    let bps = (macroblocks(source.width, source.height) * rate(source) * BITS) as u32;
    bps
}

/// The size of a picture of the source with at most `height` lines, or columns if it is portrait:
/// for posters.
pub fn picture_size(source: &avc::Config, height: u32) -> (u32, u32) {
    size(source, height.min(lines(source)))
}

/// The shorter side of the displayed picture.
fn lines(source: &avc::Config) -> u32 {
    let (width, height) = shown(source);
    even(width.min(height))
}

/// The size of the displayed picture in square samples.
fn shown(source: &avc::Config) -> (f64, f64) {
    let avc::SampleAspect { width, height } = source.sample_aspect;
    let aspect = f64::from(width.max(1)) / f64::from(height.max(1));
    (f64::from(source.width) * aspect, f64::from(source.height))
}

/// Width and height of a rendition of `lines`.
fn size(source: &avc::Config, lines: u32) -> (u32, u32) {
    let (width, height) = shown(source);
    let scaled = |side: f64| even(side * f64::from(lines) / width.min(height));
    // `lines` is the shorter side, so a portrait picture has it as its width.
    if width < height {
        (even(f64::from(lines)), scaled(height))
    } else {
        (scaled(width), even(f64::from(lines)))
    }
}

/// The even number nearest to a side, from 16 to the maximum of H.264.
fn even(side: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate"
    )]
    // I420 has one chroma sample for each 2x2 luma samples, so both sides must be even.
    let half = (side / 2.0).round() as u32;
    half.clamp(8, 4_096) * 2
}

/// Macroblocks of 16x16 luma samples in a picture; incomplete ones at the edges count as whole,
/// because they are coded as whole.
fn macroblocks(width: u32, height: u32) -> f64 {
    f64::from(width.div_ceil(16)) * f64::from(height.div_ceil(16))
}

/// The lowest level from 2.1 on that suffices (ISO/IEC 14496-10 table A-1), times ten. The table
/// has ten times the level, macroblocks a picture, macroblocks a second, and kbit/s in High
/// profile.
fn level(width: u32, height: u32, fps: f64, kbps: u32) -> u8 {
    const LEVELS: [(u8, f64, f64, u32); 10] = [
        (21, 792.0, 19_800.0, 5_000),
        (22, 1_620.0, 20_250.0, 5_000),
        (30, 1_620.0, 40_500.0, 12_500),
        (31, 3_600.0, 108_000.0, 17_500),
        (32, 5_120.0, 216_000.0, 25_000),
        (40, 8_192.0, 245_760.0, 25_000),
        (42, 8_704.0, 522_240.0, 62_500),
        (50, 22_080.0, 589_824.0, 168_750),
        (51, 36_864.0, 983_040.0, 300_000),
        (52, 36_864.0, 2_073_600.0, 300_000),
    ];
    let picture = macroblocks(width, height);
    // Timestamps jitter, and a declared rate is not always kept.
    let second = picture * (fps - 0.01).ceil();
    LEVELS
        .iter()
        .find(|(_, most, most_second, most_kbps)| {
            picture <= *most && second <= *most_second && kbps <= *most_kbps
        })
        // Nothing in the table suffices, so the highest level is declared.
        .map_or(52, |(level, ..)| *level)
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;

    const RUNGS: [Rung; 3] = [
        Rung { height: 360, video_kbps: 700 },
        Rung { height: 720, video_kbps: 2_800 },
        Rung { height: 480, video_kbps: 1_400 },
    ];

    fn source(width: u32, height: u32, aspect: (u16, u16), fps: f64) -> avc::Config {
        let record = hex!(
            "0164001e ffe1 0019 6764001eacd940a02ff9701100000303e90000ea600f162d96 01 0006 \
             68ebe3cb22c0 fdf8f800"
        );
        avc::Config {
            width,
            height,
            sample_aspect: avc::SampleAspect { width: aspect.0, height: aspect.1 },
            frame_rate: Some(fps),
            ..avc::Config::parse(&record).unwrap()
        }
    }

    /// Name, size, level, and whether the rate is halved, of each rendition.
    fn planned(source: &avc::Config) -> Vec<String> {
        let text = |planned: &Planned| {
            let video = &planned.video;
            let halved = if video.halve_rate { " half" } else { "" };
            format!("{} {}x{} {}{halved}", planned.name, video.width, video.height, video.level)
        };
        renditions(source, &RUNGS, None).iter().map(text).collect()
    }

    #[test]
    fn rungs_below_the_source_are_planned_most_expensive_first() {
        assert_eq!(
            planned(&source(1920, 1080, (1, 1), 30.0)),
            ["v720 1280x720 31", "v480 854x480 31", "v360 640x360 30"]
        );
        assert_eq!(
            planned(&source(1280, 720, (1, 1), 30.0)),
            ["v480 854x480 31", "v360 640x360 30"]
        );
        assert_eq!(planned(&source(640, 360, (1, 1), 30.0)), [""; 0]);
    }

    #[test]
    fn only_the_top_rung_keeps_a_high_frame_rate() {
        assert_eq!(
            planned(&source(1920, 1080, (1, 1), 60.0)),
            ["v720 1280x720 32", "v480 854x480 31 half", "v360 640x360 30 half"]
        );
        assert_eq!(
            planned(&source(1280, 720, (1, 1), 29.97)),
            ["v480 854x480 31", "v360 640x360 30"]
        );
    }

    #[test]
    fn the_height_of_a_rung_is_the_shorter_side_of_a_portrait_picture() {
        assert_eq!(
            planned(&source(1080, 1920, (1, 1), 30.0)),
            ["v720 720x1280 31", "v480 480x854 31", "v360 360x640 30"]
        );
    }

    #[test]
    fn anamorphic_pictures_are_scaled_to_their_display_width() {
        // PAL, 16:9 with samples of 64:45.
        assert_eq!(
            planned(&source(720, 576, (64, 45), 25.0)),
            ["v480 854x480 30", "v360 640x360 30"]
        );
        // 1440x1080 displayed as 16:9.
        assert_eq!(planned(&source(1440, 1080, (4, 3), 25.0))[0], "v720 1280x720 31");
    }

    #[test]
    fn picture_sides_are_even_and_at_least_a_macroblock() {
        assert_eq!(
            planned(&source(853, 481, (1, 1), 25.0)),
            ["v480 852x480 30", "v360 638x360 30"]
        );
        let wide = renditions(&source(8_192, 370, (1, 1), 25.0), &RUNGS, None);
        assert_eq!((wide[0].video.width, wide[0].video.height), (7_970, 360));
        let (narrow, _) = renew(&wide[0].video, &source(2, 4_000, (1, 1), 25.0), true);
        assert!(narrow.width >= 16 && narrow.height >= 16);
    }

    #[test]
    fn a_gridded_source_gets_a_stand_in_of_its_size_and_bit_rate() {
        let planned = renditions(&source(1280, 720, (1, 1), 30.0), &RUNGS, Some(4_000_500));
        assert_eq!(planned[0].name.as_str(), "v720");
        assert_eq!(planned[0].video.bitrate_bps, 4_001_000);
        assert_eq!(planned.len(), 3);
    }

    #[test]
    fn the_usual_bit_rate_depends_on_size_and_frame_rate() {
        let kbps = |width, height, fps| usual_bitrate(&source(width, height, (1, 1), fps)) / 1_000;
        assert_eq!(
            [kbps(1280, 720, 30.0), kbps(1280, 720, 60.0), kbps(640, 360, 25.0)],
            [2_808, 5_616, 598]
        );
    }

    #[test]
    fn renditions_are_rescaled_when_the_source_changes_its_size() {
        let before = &renditions(&source(1920, 1080, (1, 1), 30.0), &RUNGS, None)[0].video;
        let size = |source: &avc::Config| {
            let (after, _) = renew(before, source, true);
            assert_eq!(after.bitrate_bps, 2_800_000);
            (after.width, after.height)
        };
        assert_eq!(size(&source(1280, 960, (1, 1), 30.0)), (960, 720));
        assert_eq!(size(&source(640, 480, (1, 1), 30.0)), (640, 480));
        assert_eq!(size(&source(1080, 1920, (1, 1), 30.0)), (720, 1280));
    }

    #[test]
    fn a_new_frame_rate_of_the_source_changes_rate_level_and_cost_of_its_renditions() {
        let (slow, fast) = (source(1920, 1080, (1, 1), 25.0), source(1920, 1080, (1, 1), 60.0));
        for (before, after) in [(&slow, &fast), (&fast, &slow)] {
            let wanted = renditions(after, &RUNGS, None);
            let renewed = renditions(before, &RUNGS, None).into_iter().enumerate();
            let renewed = renewed.map(|(index, planned)| renew(&planned.video, after, index == 0));
            assert_eq!(
                renewed.collect::<Vec<_>>(),
                wanted.into_iter().map(|planned| (planned.video, planned.cost)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn the_cost_of_a_rendition_is_its_macroblocks_per_second() {
        let source = source(1920, 1080, (1, 1), 60.0);
        let costs: Vec<_> =
            renditions(&source, &RUNGS, None).iter().map(|planned| planned.cost).collect();
        assert_eq!(costs, [80.0 * 45.0 * 60.0, 54.0 * 30.0 * 30.0, 40.0 * 23.0 * 30.0]);
    }
}
