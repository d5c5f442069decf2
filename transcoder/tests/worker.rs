//! The ladder's worker as a process: orders in, reports out. The worker is this program, started
//! again. It confines itself, which is possible only while one thread runs, so the test has its own
//! `main`.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test says what is wrong by failing"
)]

mod cases;
mod support;

use std::{
    env, panic,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use cases::{audio, life, loss, picture, video};
use support::process;

/// Number of tests that run at the same time, because they mostly wait for their workers.
const AT_ONCE: usize = 3;

macro_rules! test {
    ($module:ident::$name:ident) => {
        (stringify!($name), $module::$name as fn())
    };
}

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    if args == [process::SUBCOMMAND] {
        return match transcoder::worker::run_for_parent() {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => {
                eprintln!("{err}");
                ExitCode::FAILURE
            }
        };
    }
    tests(&args)
}

/// Runs the tests whose names contain an argument, some in parallel; options are for the usual
/// harness and are ignored.
fn tests(args: &[String]) -> ExitCode {
    let tests = [
        test!(video::every_rendition_has_each_picture_of_the_source_and_a_key_frame_at_each_mark),
        test!(video::quality_reorders_and_loses_nothing),
        test!(video::where_x264_is_not_installed_openh264_does_the_same),
        test!(video::stamps_are_the_sources_wherever_they_start),
        test!(video::stamps_of_a_variable_rate_are_kept),
        test!(video::a_frame_rate_told_wrongly_does_not_change_the_bitrate),
        test!(loss::a_lost_unit_costs_itself),
        test!(loss::a_lost_key_frame_costs_no_mark),
        test!(loss::a_broken_unit_costs_at_most_itself),
        test!(picture::any_kind_of_picture_becomes_a_rendition),
        test!(picture::renditions_look_like_the_source),
        test!(picture::the_configuration_says_what_was_asked_for),
        test!(video::a_rendition_turned_off_returns_at_a_mark),
        test!(life::garbage_ends_a_worker_alone_and_soon),
        test!(life::a_socket_that_carries_no_messages_ends_a_worker),
        test!(life::a_worker_ends_quietly_with_the_daemon),
        test!(audio::audio_is_encoded_again_unit_for_unit_and_in_step),
        test!(audio::audio_that_cannot_be_decoded_is_silence_and_stays_in_step),
        test!(picture::pictures_are_taken_of_the_source_now_and_then),
        test!(life::a_worker_tells_how_it_does_once_a_second),
        test!(life::a_worker_has_the_niceness_of_its_job),
    ];
    if args.iter().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let parts: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen =
        |name: &str| parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()));
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, test)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if chosen(name) {
                        let ended = panic::catch_unwind(test);
                        println!("test {name} ... {}", if ended.is_ok() { "ok" } else { "FAILED" });
                        failed.fetch_add(usize::from(ended.is_err()), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if failed.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
