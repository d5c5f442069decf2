//! The pictures of renditions, compared with the source.

use super::*;

pub(crate) fn every_picture_format_is_encoded_to_a_rendition() {
    let kinds: [(&str, Recipe); 8] = [
        ("odd", Recipe { size: (321, 181), options: &["-pix_fmt", "yuv444p"], ..PLAIN }),
        ("vertical", Recipe { size: (180, 320), ..PLAIN }),
        ("anamorphic", Recipe { filter: "setsar=16/11", ..PLAIN }),
        ("4:2:2", Recipe { options: &["-pix_fmt", "yuv422p"], ..PLAIN }),
        ("10 bit", Recipe { options: &["-pix_fmt", "yuv420p10le"], ..PLAIN }),
        (
            "interlaced",
            Recipe { filter: "interlace=lowpass=0", options: &["-flags", "+ilme+ildct"], ..PLAIN },
        ),
        (
            "bottom field first",
            Recipe {
                filter: "interlace=lowpass=0:scan=bff",
                options: &["-flags", "+ilme+ildct", "-x264-params", "bff=1"],
                b_frames: 2,
                ..PLAIN
            },
        ),
        (
            "said to be interlaced",
            Recipe { options: &["-x264-params", "fake-interlaced=1"], ..PLAIN },
        ),
    ];
    for (kind, recipe) in kinds {
        let recipe = Recipe { pictures: 40, group: 20, ..recipe };
        let source = recipe.source(0);
        let said = made(
            job(&recipe, &source, &[rendition(256, 144), rendition(90, 160)]),
            marked(&source),
        );
        for rendition in 0..2 {
            assert_eq!(said.units(rendition).len(), source.units.len(), "{kind}");
            each_picture_once(&said, rendition, &source);
            key_frames_at(&said, rendition, &key_times(&source));
        }
    }
}

pub(crate) fn the_configuration_of_a_rendition_matches_the_job() {
    let recipe = Recipe {
        options: &["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709"],
        ..PLAIN
    };
    let source = recipe.source(0);
    let rendition = VideoRendition { level: 31, ..rendition(256, 144) };
    let job = Job { preset: "veryfast".into(), ..job(&recipe, &source, &[rendition]) };
    let said = made(job, marked(&source));
    let records = said.records(0);
    let config = media_core::codec::avc::Config::parse(&records[0]).unwrap();
    assert_eq!((config.width, config.height), (256, 144));
    assert_eq!(config.sample_aspect, media_core::codec::avc::SampleAspect::SQUARE);
    assert_eq!(config.codec_string, "avc1.64001f");
    assert_eq!(config.length_size, 4);
    let report = probed(&said, 0);
    assert!(report.contains("color_primaries=bt709"), "{report}");
    assert!(report.contains("color_transfer=bt709"), "{report}");
    assert!(report.contains("color_space=bt709"), "{report}");
    assert!(report.contains(&format!("nb_read_frames={}", source.units.len())), "{report}");
}

/// The similarity (SSIM) of a rendition to the source, scaled by ffmpeg after `filter`: 1 is equal.
#[track_caller]
fn like(
    said: &Said,
    rendition: u8,
    (width, height): (u32, u32),
    recipe: &Recipe,
    filter: &str,
) -> f64 {
    let path = stream(said, rendition);
    let graph = format!(
        "[1]settb=1/30,setpts=N,{filter},format=yuv420p,\
         scale={width}:{height}:flags=lanczos[source];\
         [0]settb=1/30,setpts=N[made];[made][source]ssim"
    );
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-i"]).arg(&path).arg("-i").arg(recipe.flv());
    let output = ffmpeg.args(["-lavfi", &graph, "-f", "null", "-"]).output().unwrap();
    fs::remove_file(&path).unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let ssim =
        text.rsplit_once("All:").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    ssim.unwrap_or_else(|| panic!("no SSIM: {text}"))
}

pub(crate) fn renditions_are_similar_to_the_source() {
    const INTERLACED: Recipe =
        Recipe { filter: "interlace=lowpass=0", options: &["-flags", "+ilme+ildct"], ..PLAIN };
    let odd = Recipe { size: (321, 181), options: &["-pix_fmt", "yuv444p"], ..PLAIN };
    for (recipe, filter, least) in
        [(PLAIN, "null", 0.97), (odd, "null", 0.96), (INTERLACED, "bwdif=mode=0", 0.85)]
    {
        let source = recipe.source(0);
        let sizes = [(320, 180), (214, 120), (160, 90), (426, 240)];
        let renditions = sizes.map(|(width, height)| VideoRendition {
            bitrate_bps: 1_500_000,
            ..rendition(width, height)
        });
        let said = made(job(&recipe, &source, &renditions), marked(&source));
        for (index, size) in (0..).zip(sizes) {
            let like = like(&said, index, size, &recipe, filter);
            assert!(like > least, "{size:?} of {recipe:?}: {like}");
        }
    }
}

pub(crate) fn poster_pictures_are_taken_at_least_a_second_apart() {
    let recipe = Recipe {
        filter: "setsar=16/11",
        options: &["-color_range", "tv", "-colorspace", "bt709"],
        ..PLAIN
    };
    let source = recipe.source(0);
    let job = Job {
        picture_ms: 1_000,
        picture_size: (240, 92),
        ..job(&recipe, &source, &[rendition(160, 90)])
    };
    // As slowly as in a live source, so that none is dropped for being early.
    let said = made(job, marked(&source));
    let pictures = said.pictures();
    assert_eq!(pictures[0].0, 0);
    let spans: Vec<_> = pictures.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(!spans.is_empty() && spans.iter().all(|&span| span >= 90_000), "{spans:?}");
    for (_, jpeg) in &pictures {
        // Start of image; in the frame header (SOF0), height and width.
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]));
        let header = jpeg.windows(2).position(|bytes| bytes == [0xff, 0xc0]).unwrap();
        assert_eq!(jpeg[header + 5..header + 9], [0, 92, 0, 240]);
    }
}
