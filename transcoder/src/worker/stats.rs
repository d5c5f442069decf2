//! Stats of the process.

use std::{fs::File, os::unix::fs::FileExt};

use rustix::{
    param::page_size,
    time::{ClockId, clock_gettime},
};

use super::owed::Counts;
use crate::protocol::{Report, Stats};

/// Reads the stats of the process. Opened before the process confines itself.
#[derive(Debug)]
pub(super) struct Meter {
    /// `/proc/self/statm`: pages, all and resident.
    memory: Option<File>,
    /// Size of a page. A confined process cannot query it unless it is root, because root then owns
    /// the files under `/proc/self`.
    page_bytes: u64,
}

impl Meter {
    pub(super) fn open() -> Self {
        Self { memory: File::open("/proc/self/statm").ok(), page_bytes: page_size() as u64 }
    }

    /// The stats, together with the decoder's counts.
    pub(super) fn read(&self, counts: Counts) -> Report {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_us = cpu.tv_sec.saturating_mul(1_000_000).saturating_add(cpu.tv_nsec / 1_000);
        Report::Stats(Stats {
            decoded: counts.decoded,
            broken: counts.broken,
            cpu_us: u64::try_from(cpu_us).unwrap_or(0),
            resident_bytes: self.resident().unwrap_or(0),
        })
    }

    fn resident(&self) -> Option<u64> {
        let mut text = [0; 128];
        // One read of a file that is kept open: a confined process cannot open it again. The second
        // field is the number of resident pages (proc_pid_statm(5)).
        let len = self.memory.as_ref()?.read_at(&mut text, 0).ok()?;
        let pages: u64 =
            std::str::from_utf8(text.get(..len)?).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_reports_counts_cpu_time_and_memory_of_the_process() {
        let Report::Stats(stats) = Meter::open().read(Counts { decoded: 2, broken: 1 }) else {
            panic!("stats")
        };
        assert_eq!((stats.decoded, stats.broken), (2, 1));
        assert!(stats.cpu_us > 0);
        assert!((1 << 20..1 << 33).contains(&stats.resident_bytes));
    }
}
