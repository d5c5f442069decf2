//! The messages between the daemon and a worker, with a length prefix. Sans-I/O: bytes to messages
//! and back.
//!
//! A message is four bytes of length, big-endian, of the rest; one byte for its kind; and its
//! fields, all big-endian. Both ends are the same program, so there are no versions. But a worker
//! handles untrusted media: its messages are parsed with the same care as those of a peer.
//!
//! ```text
//! daemon to worker
//! job      the [`Job`] as JSON; always the first
//! unit     media u8, key u8, dts i64, pts i64, has mark u8, mark i64, payload
//! make     rendition u8, on u8
//! end      nothing
//!
//! worker to daemon
//! config   rendition u8, avcC or AudioSpecificConfig
//! unit     rendition u8, key u8, dts i64, pts i64, payload
//! picture  pts i64, JPEG
//! log      level u8, UTF-8 text
//! stats  [`Stats`] as JSON
//! ```
//!
//! Times are 90 kHz ticks of the broadcast's timeline, whatever the medium. The end of either
//! direction of the stream is the end of the job.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use media_core::MediaTime;
use serde::{Deserialize, Serialize};

/// The largest accepted message: an access unit of the largest size that RTMP accepts, and its
/// fields.
pub const MAX_MESSAGE_BYTES: usize = (16 << 20) + 64;
/// Bytes of the length before each message.
pub const LENGTH_BYTES: usize = 4;
/// Longer texts of a worker are truncated.
pub const MAX_TEXT_BYTES: usize = 400;

/// The task of one worker: the renditions to make of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// `AVCDecoderConfigurationRecord` of the source's video.
    pub video: Vec<u8>,
    /// `AudioSpecificConfig` of the source's audio, if it is to be encoded again.
    pub audio: Option<Vec<u8>>,
    /// The source's frames a second, as far as known: the encoders' initial rate, before it can be
    /// measured.
    pub frame_rate: f64,
    /// The video renditions to make, the most expensive first. The `rendition` of a unit or
    /// configuration is an index in this list.
    pub renditions: Vec<VideoRendition>,
    /// The audio rendition to make; its index is the length of `renditions`.
    pub audio_rendition: Option<AudioRendition>,
    /// The video encoder, which has passed a trial.
    pub encoder: Encoder,
    /// x264's preset, for example `veryfast`.
    pub preset: String,
    /// The encoders' objective.
    pub tuning: Tuning,
    /// Milliseconds between pictures; 0 for no pictures.
    pub picture_ms: u32,
    /// Width and height of pictures in square samples, both even.
    pub picture_size: (u32, u32),
    /// Limit of the worker's private memory, in bytes.
    pub memory_bytes: u64,
    /// Niceness of the worker, 0 to 19. It stays that of the daemon if that is higher.
    pub nice: u8,
}

/// One rendition of the video. Its samples are square.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoRendition {
    /// Width in luma samples; even.
    pub width: u32,
    /// Height in luma samples; even.
    pub height: u32,
    /// Bits a second: the mean, and the maximum over a second.
    pub bitrate_bps: u32,
    /// Whether every second picture is dropped.
    pub halve_rate: bool,
    /// H.264 level times ten: 31 for 3.1.
    pub level: u8,
    /// Number of threads of its encoder.
    pub threads: u32,
}

/// One rendition of the audio: AAC-LC with the source's sampling rate and channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioRendition {
    /// Bits a second.
    pub bitrate_bps: u32,
}

/// A video encoder: an element of GStreamer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// `nvh264enc`: NVIDIA's.
    Nvenc,
    /// `vah264enc` or `vah264lpenc`: Intel's and AMD's, by VA-API.
    Va,
    /// `x264enc`: the reference in software.
    X264,
    /// `openh264enc`: software, where x264 is not installed.
    OpenH264,
}

impl Encoder {
    /// All encoders, the preferred one first.
    pub const ALL: [Self; 4] = [Self::Nvenc, Self::Va, Self::X264, Self::OpenH264];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nvenc => "nvenc",
            Self::Va => "va",
            Self::X264 => "x264",
            Self::OpenH264 => "openh264",
        }
    }

    /// The encoder with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoder| encoder.name() == name)
    }

    /// Whether a device encodes, not the processor.
    pub fn is_hardware(self) -> bool {
        match self {
            Self::Nvenc | Self::Va => true,
            Self::X264 | Self::OpenH264 => false,
        }
    }
}

/// The encoders' objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tuning {
    /// The encoder outputs each picture at once: no reordering, no look-ahead.
    #[default]
    Latency,
    /// Two reordered pictures and a short look-ahead: some tenths of a second later, with a better
    /// quality at the same rate.
    Quality,
}

/// The source track of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// The source's video.
    Video,
    /// The source's audio.
    Audio,
}

/// Daemon to worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// The job; the first message, and the only one of its kind.
    Job(Box<Job>),
    /// One access unit of the source.
    Unit {
        /// Its track.
        media: Media,
        /// Whether decoding can start here.
        key: bool,
        /// Decode time.
        dts: MediaTime,
        /// Presentation time.
        pts: MediaTime,
        /// Set if a segment starts here: the first picture shown at `mark` or later becomes a key
        /// frame in every rendition.
        mark: Option<MediaTime>,
        /// As in [`media_core::AccessUnit`].
        payload: Bytes,
    },
    /// Starts or stops a rendition at the next mark. All are made at first.
    Make {
        /// Its index.
        rendition: u8,
        /// Whether it is made.
        on: bool,
    },
    /// The end of the input: the worker finishes the units that it has.
    End,
}

/// Worker to daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The configuration of the rendition's next units. Sent before its first unit.
    Config {
        /// Its index.
        rendition: u8,
        /// `AVCDecoderConfigurationRecord` or `AudioSpecificConfig`.
        record: Bytes,
    },
    /// One access unit of a rendition.
    Unit {
        /// Its index.
        rendition: u8,
        /// Whether decoding can start here.
        key: bool,
        /// Decode time.
        dts: MediaTime,
        /// Presentation time: that of the source's unit.
        pts: MediaTime,
        /// As in [`media_core::AccessUnit`].
        payload: Bytes,
    },
    /// A picture of the source.
    Picture {
        /// Its presentation time.
        pts: MediaTime,
        /// JPEG.
        jpeg: Bytes,
    },
    /// A message for the log.
    Log {
        /// Its level.
        level: Level,
        /// The text, at most [`MAX_TEXT_BYTES`].
        text: String,
    },
    /// Stats of the worker, about once a second.
    Stats(Stats),
}

/// The level of a log message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The service is degraded.
    Warn,
    /// For debugging.
    Debug,
}

/// Stats of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Pictures that the decoder has output since the start.
    pub decoded: u64,
    /// Units that could not be decoded.
    pub broken: u64,
    /// Processor time of the process since its start, in microseconds.
    pub cpu_us: u64,
    /// Its resident memory in bytes.
    pub resident_bytes: u64,
}

/// Why a message is invalid. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its length is zero, or above [`MAX_MESSAGE_BYTES`].
    #[error("a message of {len} bytes")]
    Length {
        /// The declared length.
        len: usize,
    },
    /// There is no message of this kind in this direction.
    #[error("a message of kind {kind}")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// It ends within its fields.
    #[error("a truncated message of kind {kind}")]
    Short {
        /// The kind.
        kind: u8,
    },
    /// A field has an invalid value.
    #[error("a message of kind {kind} with an invalid {field}")]
    Field {
        /// The kind.
        kind: u8,
        /// The field.
        field: &'static str,
    },
}

/// The kind bytes of messages. Both directions share one number space; 2 is a unit in either.
mod kind {
    pub(super) const JOB: u8 = 1;
    pub(super) const UNIT: u8 = 2;
    pub(super) const MAKE: u8 = 3;
    pub(super) const END: u8 = 4;
    pub(super) const CONFIG: u8 = 5;
    pub(super) const PICTURE: u8 = 6;
    pub(super) const LOG: u8 = 7;
    pub(super) const STATS: u8 = 8;
}

/// Parses the length of the following message.
///
/// # Errors
/// [`Malformed::Length`]: allocate nothing for it.
pub fn parse_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, Malformed> {
    let len = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    match len {
        1..=MAX_MESSAGE_BYTES => Ok(len),
        _ => Err(Malformed::Length { len }),
    }
}

/// A serialised message, without its payload, which is not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Length, kind and fields.
    pub head: Bytes,
    /// The bytes after them; may be empty.
    pub payload: Bytes,
}

impl Written {
    fn new(kind: u8, payload: Bytes, fields: impl FnOnce(&mut BytesMut)) -> Self {
        let mut head = BytesMut::with_capacity(32);
        // The length is written last, when the fields are known.
        head.put_u32(0);
        head.put_u8(kind);
        fields(&mut head);
        let len = head.len() - LENGTH_BYTES + payload.len();
        // A length that does not fit is larger than any reader accepts.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        head[..LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
        Self { head: head.freeze(), payload }
    }
}

impl Order {
    /// Serialises the order.
    pub fn write(&self) -> Written {
        match self {
            Self::Job(job) => {
                // Serialising fails only for maps with keys that are not text, which a job does not
                // have.
                let json = serde_json::to_vec(job).unwrap_or_default();
                Written::new(kind::JOB, json.into(), |_| {})
            }
            Self::Unit { media, key, dts, pts, mark, payload } => {
                Written::new(kind::UNIT, payload.clone(), |head| {
                    head.put_u8(u8::from(*media == Media::Audio));
                    head.put_u8(u8::from(*key));
                    head.put_i64(dts.ticks());
                    head.put_i64(pts.ticks());
                    head.put_u8(u8::from(mark.is_some()));
                    head.put_i64(mark.unwrap_or(MediaTime::ZERO).ticks());
                })
            }
            Self::Make { rendition, on } => Written::new(kind::MAKE, Bytes::new(), |head| {
                head.put_u8(*rendition);
                head.put_u8(u8::from(*on));
            }),
            Self::End => Written::new(kind::END, Bytes::new(), |_| {}),
        }
    }

    /// Parses a message without its length. The payload is a slice of `message`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(message: Bytes) -> Result<Self, Malformed> {
        let mut fields = Fields::new(message)?;
        let order = match fields.kind {
            kind::JOB => {
                // JSON, because a job has many fields and is sent once for each worker.
                let job =
                    serde_json::from_slice(&fields.rest()).map_err(|_| fields.wrong("job"))?;
                Self::Job(Box::new(job))
            }
            kind::UNIT => {
                let media = match fields.flag("medium")? {
                    false => Media::Video,
                    true => Media::Audio,
                };
                let (key, dts, pts) = (fields.flag("key")?, fields.time()?, fields.time()?);
                // The mark's field is always present, so that the payload starts at a fixed offset.
                let (marked, mark) = (fields.flag("mark")?, fields.time()?);
                Self::Unit {
                    media,
                    key,
                    dts,
                    pts,
                    mark: marked.then_some(mark),
                    payload: fields.rest(),
                }
            }
            kind::MAKE => Self::Make { rendition: fields.u8()?, on: fields.flag("on")? },
            kind::END => Self::End,
            kind => return Err(Malformed::Kind { kind }),
        };
        Ok(order)
    }
}

impl Report {
    /// Serialises the report.
    pub fn write(&self) -> Written {
        match self {
            Self::Config { rendition, record } => {
                Written::new(kind::CONFIG, record.clone(), |head| {
                    head.put_u8(*rendition);
                })
            }
            Self::Unit { rendition, key, dts, pts, payload } => {
                Written::new(kind::UNIT, payload.clone(), |head| {
                    head.put_u8(*rendition);
                    head.put_u8(u8::from(*key));
                    head.put_i64(dts.ticks());
                    head.put_i64(pts.ticks());
                })
            }
            Self::Picture { pts, jpeg } => {
                Written::new(kind::PICTURE, jpeg.clone(), |head| head.put_i64(pts.ticks()))
            }
            Self::Log { level, text } => {
                // Truncated by the sender too: a longer text would only be discarded by the reader.
                let text = Bytes::copy_from_slice(cut(text).as_bytes());
                Written::new(kind::LOG, text, |head| head.put_u8(u8::from(*level == Level::Debug)))
            }
            Self::Stats(stats) => {
                let json = serde_json::to_vec(stats).unwrap_or_default();
                Written::new(kind::STATS, json.into(), |_| {})
            }
        }
    }

    /// Parses a message without its length. The payload is a slice of `message`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(message: Bytes) -> Result<Self, Malformed> {
        let mut fields = Fields::new(message)?;
        let report = match fields.kind {
            kind::CONFIG => Self::Config { rendition: fields.u8()?, record: fields.rest() },
            kind::UNIT => Self::Unit {
                rendition: fields.u8()?,
                key: fields.flag("key")?,
                dts: fields.time()?,
                pts: fields.time()?,
                payload: fields.rest(),
            },
            kind::PICTURE => Self::Picture { pts: fields.time()?, jpeg: fields.rest() },
            kind::LOG => {
                let level = match fields.flag("level")? {
                    false => Level::Warn,
                    true => Level::Debug,
                };
                let text = fields.rest();
                // The text of an untrusted worker may be invalid UTF-8 and of any length up to the
                // message limit.
                Self::Log { level, text: cut(&String::from_utf8_lossy(&text)).into() }
            }
            kind::STATS => Self::Stats(
                serde_json::from_slice(&fields.rest()).map_err(|_| fields.wrong("stats"))?,
            ),
            kind => return Err(Malformed::Kind { kind }),
        };
        Ok(report)
    }
}

/// The first [`MAX_TEXT_BYTES`] of a text, or a few less so that no character is split.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT_BYTES)).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// The fields of a message, read in order.
struct Fields {
    /// The kind byte, for errors.
    kind: u8,
    /// Bytes that are not parsed yet. Slices share the message's memory.
    rest: Bytes,
}

impl Fields {
    fn new(mut message: Bytes) -> Result<Self, Malformed> {
        if message.is_empty() {
            return Err(Malformed::Length { len: 0 });
        }
        let kind = message.get_u8();
        Ok(Self { kind, rest: message })
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.rest.try_get_u8().map_err(|_| Malformed::Short { kind: self.kind })
    }

    /// A time, written as its ticks of 90 kHz.
    fn time(&mut self) -> Result<MediaTime, Malformed> {
        let ticks = self.rest.try_get_i64().map_err(|_| Malformed::Short { kind: self.kind })?;
        Ok(MediaTime::from_ticks(ticks))
    }

    /// A byte that must be 0 or 1. Other values are refused, because only a faulty sender writes
    /// them.
    fn flag(&mut self, field: &'static str) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong(field)),
        }
    }

    /// All remaining bytes: the last field of a message has no length of its own.
    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// The error of an invalid value in `field`, which appears in the log.
    fn wrong(&self, field: &'static str) -> Malformed {
        Malformed::Field { kind: self.kind, field }
    }
}

#[cfg(test)]
mod tests;
