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
        test!(video::quality_tuning_reorders_pictures_and_loses_none),
        test!(video::openh264_renditions_have_each_picture_and_mark),
        test!(video::timestamps_of_the_source_are_kept_for_any_start),
        test!(video::timestamps_of_a_variable_frame_rate_are_kept),
        test!(video::an_incorrectly_declared_frame_rate_does_not_change_the_bit_rate),
        test!(loss::a_lost_unit_costs_no_other_picture),
        test!(loss::a_lost_key_frame_moves_its_mark_to_the_next_picture),
        test!(loss::broken_units_cost_at_most_their_own_pictures),
        test!(picture::every_picture_format_is_encoded_to_a_rendition),
        test!(picture::renditions_are_similar_to_the_source),
        test!(picture::the_configuration_of_a_rendition_matches_the_job),
        test!(video::a_rendition_that_was_turned_off_resumes_at_a_mark),
        test!(life::a_worker_that_receives_undecodable_units_ends_with_a_warning),
        test!(life::malformed_orders_end_a_worker_with_an_error),
        test!(life::a_worker_ends_without_an_error_when_its_socket_closes),
        test!(audio::audio_is_reencoded_unit_for_unit_and_in_step),
        test!(audio::audio_that_cannot_be_decoded_is_silence_and_stays_in_step),
        test!(picture::poster_pictures_are_taken_at_least_a_second_apart),
        test!(life::a_worker_reports_its_counts_cpu_time_and_memory),
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
