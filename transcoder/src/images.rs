//! Pictures of people: an uploaded JPEG, PNG or WebP is decoded, cut and scaled, and encoded again
//! as JPEG without metadata, in a confined process of its own.
//!
//! - For the daemon: [`Images`] starts a process for each picture, a few at a time. [`header`]
//!   judges a picture before that.
//! - For the process: [`worker`].
//!
//! A hostile picture costs its own process. The process has limits of memory and time; its result
//! is checked like a message of a peer.

mod exif;
pub mod header;
mod raster;
pub mod worker;

use std::{io, path::PathBuf, process::Stdio, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::Semaphore,
    time::timeout,
};

use crate::process::{self, NAME};

use self::header::{Header, HeaderError};

/// The hidden subcommand of the process.
const SUBCOMMAND: &str = "image-worker";
/// The largest accepted picture in bytes.
pub const MAX_BYTES: usize = 8 << 20;
/// The largest result in bytes.
const MAX_RESULT: usize = 2 << 20;
/// Maximum number of processes at a time.
const PLACES: usize = 2;
/// Maximum number of pictures that wait for one or are in one.
const WAITING: usize = 16;
/// Time limit of a process.
const LIMIT: Duration = Duration::from_secs(10);
/// The exit status of a process that refuses a picture.
pub const REFUSED: u8 = 2;
/// Bytes of a reason that are passed on.
const MAX_REASON: u64 = 300;

/// The size of a result, in samples: even numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Samples in a row.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A text is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size is two even numbers from 2 to 4096, for example 512x512")]
pub struct NotASize;

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let (width, height) = text.split_once('x').ok_or(NotASize)?;
        let side = |text: &str| {
            let side = text.parse().ok().filter(|side| (2..=4096).contains(side) && side % 2 == 0);
            side.ok_or(NotASize)
        };
        Ok(Self { width: side(width)?, height: side(height)? })
    }
}

/// Why a picture has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The picture is at fault; the reason is for its sender.
    #[error("{0}")]
    Refused(String),
    /// Too many pictures wait.
    #[error("too many pictures are being decoded")]
    Busy,
    /// This machine cannot decode pictures; the reason is for the operator.
    #[error("pictures cannot be decoded: {0}")]
    Unavailable(String),
}

impl From<HeaderError> for ImageError {
    fn from(error: HeaderError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Makes pictures. Cheap to clone; all clones share the limits.
#[derive(Debug, Clone)]
pub struct Images(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The daemon's own program.
    program: PathBuf,
    /// Niceness of the processes.
    nice: u8,
    places: Semaphore,
    waiting: Semaphore,
}

impl Images {
    /// `program` is the daemon's own program, whose processes have the niceness `nice`, 0 to 19.
    pub fn new(program: PathBuf, nice: u8) -> Self {
        let (places, waiting) = (Semaphore::new(PLACES), Semaphore::new(WAITING));
        Self(Arc::new(Shared { program, nice, places, waiting }))
    }

    /// The middle of a picture in each of these sizes, as JPEG. Takes some seconds at most.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn make(&self, picture: Bytes, sizes: &[Size]) -> Result<Vec<Bytes>, ImageError> {
        if picture.len() > MAX_BYTES {
            return Err(ImageError::Refused("the picture is larger than 8 MiB".to_owned()));
        }
        Header::parse(&picture)?;
        let _waiting = self.0.waiting.try_acquire().map_err(|_| ImageError::Busy)?;
        let _place = self.0.places.acquire().await.map_err(|_| ImageError::Busy)?;
        let too_long = |_| ImageError::Refused("the picture takes too long to decode".to_owned());
        timeout(LIMIT, self.work(picture, sizes)).await.map_err(too_long)?
    }

    /// Runs a process. It is killed when the future is dropped.
    async fn work(&self, picture: Bytes, sizes: &[Size]) -> Result<Vec<Bytes>, ImageError> {
        let unavailable = |err: io::Error| ImageError::Unavailable(err.to_string());
        let mut command = Command::new(&self.0.program);
        command.arg0(NAME).arg(SUBCOMMAND).arg("--nice").arg(self.0.nice.to_string());
        for Size { width, height } in sizes {
            command.arg(format!("{width}x{height}"));
        }
        let mut child = command
            .env_clear()
            .envs(process::environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(unavailable)?;
        let missing = || ImageError::Unavailable("the process has no pipes".to_owned());
        let mut input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        let (mut results, mut reason) = (Vec::new(), Vec::new());
        // One byte more shows a result that is too large.
        let most = (sizes.len() * (MAX_RESULT + 4) + 1) as u64;
        let (mut output, mut errors) = (output.take(most), errors.take(MAX_REASON));
        let send = async {
            // A process that ends early has its reasons.
            let _ = input.write_all(&picture).await;
            drop(input);
        };
        let (_, read, _) =
            tokio::join!(send, output.read_to_end(&mut results), errors.read_to_end(&mut reason));
        read.map_err(unavailable)?;
        // Beyond the limits nobody reads, so that it would not end.
        drop((output, errors));
        let status = child.wait().await.map_err(unavailable)?;
        let reason = String::from_utf8_lossy(&reason);
        let reason = reason.lines().next().unwrap_or_default().trim();
        match status.code() {
            Some(0) => split(results.into(), sizes.len()).ok_or_else(|| {
                ImageError::Unavailable("the process has written no pictures".to_owned())
            }),
            Some(code) if code == i32::from(REFUSED) => Err(ImageError::Refused(reason.to_owned())),
            Some(_) => Err(ImageError::Unavailable(reason.to_owned())),
            // Ended by a signal: the picture made a decoder fail or exceed its limits.
            None => Err(ImageError::Refused("the picture cannot be decoded".to_owned())),
        }
    }
}

/// The results of a process, which is not trusted: each must be a JPEG of a bounded size.
fn split(mut output: Bytes, count: usize) -> Option<Vec<Bytes>> {
    let mut results = Vec::with_capacity(count);
    for _ in 0..count {
        let length = u32::from_be_bytes(*output.first_chunk()?);
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_RESULT)?;
        let end = length.checked_add(4).filter(|end| *end <= output.len())?;
        let jpeg = output.split_to(end).slice(4..);
        // The markers at both ends (ITU-T T.81 B.1.1.3).
        if !jpeg.starts_with(&[0xff, 0xd8, 0xff]) || !jpeg.ends_with(&[0xff, 0xd9]) {
            return None;
        }
        results.push(jpeg);
    }
    output.is_empty().then_some(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of one row that passes the check of its structure.
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0crc!\
        \0\0\0\x01IDATxcrc!\0\0\0\0IENDcrc!";

    const SIZE: Size = Size { width: 2, height: 2 };

    #[test]
    fn results_of_a_process_must_be_jpegs_of_the_expected_number_and_size() {
        let jpeg = b"\0\0\0\x05\xff\xd8\xff\xff\xd9";
        let of = |parts: &[&[u8]], count| split(parts.concat().into(), count);
        assert_eq!(of(&[jpeg, jpeg], 2).map(|results| results.len()), Some(2));
        for (parts, count) in [
            (&[&jpeg[..]][..], 2),
            (&[jpeg, jpeg], 1),
            (&[&jpeg[..8]], 1),
            (&[b"\0\0\0\x05<svg>"], 1),
            (&[b"\xff\xff\xff\xff\xff\xd8\xff"], 1),
            (&[], 1),
        ] {
            assert_eq!(of(parts, count), None);
        }
    }

    #[test]
    fn a_size_is_two_even_numbers() {
        assert_eq!("512x128".parse(), Ok(Size { width: 512, height: 128 }));
        for refused in ["", "512", "512x", "0x2", "3x2", "2x5000", "-2x2"] {
            assert_eq!(refused.parse::<Size>(), Err(NotASize), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_no_worker_makes_pictures_unavailable_and_a_dead_one_refuses() {
        let make = async |program: &str| {
            Images::new(program.into(), 0).make(PNG.into(), &[SIZE]).await.unwrap_err()
        };
        assert!(matches!(make("/nonexistent").await, ImageError::Unavailable(_)));
        assert!(matches!(make("/bin/false").await, ImageError::Unavailable(_)));
        // It writes nothing and succeeds.
        assert!(matches!(make("/bin/true").await, ImageError::Unavailable(_)));
    }

    #[tokio::test]
    async fn what_is_no_picture_starts_no_process() {
        let images = Images::new("/nonexistent".into(), 0);
        let made = images.make(Bytes::from_static(b"<svg/>"), &[SIZE]).await;
        assert_eq!(made, Err(ImageError::Refused("this is no JPEG, PNG or WebP".to_owned())));
    }
}
