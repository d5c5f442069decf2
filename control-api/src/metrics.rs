//! Metrics that are read on demand: the process, and the number of broadcasts of the hub.

use std::{fmt, fs};

use media_core::{Hub, broadcast::Presence};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Unit,
};

/// Resident memory and open descriptors of this process, from Linux' /proc; absent on other
/// systems.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // A value that cannot be read is absent: 0 would look like a measurement.
        if let Some(bytes) = resident_bytes() {
            let gauge = ConstGauge::new(bytes);
            let help = "Resident memory";
            gauge.encode(encoder.encode_descriptor(
                "process_resident_memory",
                help,
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?)?;
        }
        if let Some(open) = open_descriptors() {
            let gauge = ConstGauge::new(open);
            let help = "Open file descriptors";
            gauge.encode(encoder.encode_descriptor(
                "process_open_fds",
                help,
                None,
                gauge.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// Broadcasts of a hub by presence, and the entries that they hold for subscribers.
#[derive(Debug)]
pub(crate) struct Broadcasts(pub(crate) Hub);

impl Collector for Broadcasts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // Counted at each scrape and not at each change, so that the numbers cannot drift from
        // those of the hub.
        let (mut live, mut away) = (0_i64, 0_i64);
        let (mut frames, mut bytes) = (0, 0);
        for broadcast in self.0.broadcasts() {
            let size = broadcast.log_size();
            frames += size.entries;
            bytes += size.bytes;
            match broadcast.presence() {
                Presence::Live => live += 1,
                Presence::Away(_) => away += 1,
                Presence::Ended => {}
            }
        }
        // Both states are present at 0 too, because rates and alerts need a series that stays.
        let mut family = encoder.encode_descriptor(
            "broadcasts",
            "Broadcasts with a connected (live) or absent (away) publisher",
            None,
            ConstGauge::new(live).metric_type(),
        )?;
        for (state, count) in [("live", live), ("away", away)] {
            ConstGauge::new(count).encode(family.encode_family(&[("state", state)])?)?;
        }
        // Together with the resident memory, these show whether memory is held for subscribers. The
        // encoder appends the unit to the second name: `hub_queued_bytes`.
        for (unit, held) in [(None, frames), (Some(&Unit::Bytes), bytes)] {
            let gauge = ConstGauge::new(i64::try_from(held).unwrap_or(i64::MAX));
            let (name, help) = match unit {
                None => ("hub_queued_frames", "Frames held for subscribers, in all broadcasts"),
                Some(_) => ("hub_queued", "Payload bytes held for subscribers, in all broadcasts"),
            };
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Resident memory in bytes: `VmRSS` in kibibytes, from proc_pid_status(5). `None` if the file or
/// the line is absent.
fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

/// Number of open file descriptors: the entries of `/proc/self/fd`, proc_pid_fd(5).
fn open_descriptors() -> Option<i64> {
    // One of them is the directory listing itself.
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?.checked_sub(1)
}
