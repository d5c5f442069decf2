//! What crosses the socket between the daemon and a worker: length-prefixed messages. Sans-I/O: bytes to messages and back.
//!
//! A message is four bytes of length, big-endian, of what follows; one byte that says its kind; and its fields, all big-endian. Both ends
//! are the same program, so there are no versions. But a worker handles untrusted media: what it sends is read with the care that is
//! due to a peer.
//!
//! ```text
//! daemon to worker                                    worker to daemon
//! job      the [`Job`] as JSON; always the first      config   rendition u8, avcC or AudioSpecificConfig
//! unit     media u8, key u8, dts i64, pts i64,        unit     rendition u8, key u8, dts i64, pts i64, payload
//!          mark u8, payload                           picture  pts i64, JPEG
//! make     rendition u8, on u8                        log      level u8, UTF-8 text
//! end      nothing                                    figures  [`Figures`] as JSON
//! ```
//!
//! Times are 90 kHz ticks of the broadcast's timeline, whatever the medium. The end of either direction of the stream is the end of the job.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The largest message taken: an access unit of the largest size that RTMP lets in, and its fields.
pub const MAX_MESSAGE_BYTES: usize = (16 << 20) + 64;
/// Bytes of the length before each message.
pub const LENGTH_BYTES: usize = 4;
/// Longer texts of a worker are cut.
pub const MAX_TEXT_BYTES: usize = 400;

/// What one worker is to make of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// `AVCDecoderConfigurationRecord` of the source's video.
    pub video: Vec<u8>,
    /// `AudioSpecificConfig` of the source's audio, where that is to be encoded again.
    pub audio: Option<Vec<u8>>,
    /// The source's frames a second, as far as it is known: what encoders are told before there is anything to measure.
    pub frame_rate: f64,
    /// What to make of the video, dearest first. A unit's or config's `rendition` is an index in this list.
    pub renditions: Vec<VideoRendition>,
    /// What to make of the audio; its index is the length of `renditions`.
    pub audio_rendition: Option<AudioRendition>,
    /// The video encoder: an element that a trial encode has shown to work.
    pub encoder: Encoder,
    /// x264's preset, such as `veryfast`.
    pub preset: String,
    /// What encoders are set for.
    pub tuning: Tuning,
    /// Milliseconds between pictures; none are made for 0.
    pub picture_ms: u32,
    /// Width and height of pictures in square samples, both even.
    pub picture_size: (u32, u32),
    /// Private memory that the worker may have, in bytes.
    pub memory_bytes: u64,
}

/// One rendition of the video. Its samples are square.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoRendition {
    /// In luma samples; even.
    pub width: u32,
    /// In luma samples; even.
    pub height: u32,
    /// Bits a second, mean and, over a second, most.
    pub bitrate_bps: u32,
    /// Every second picture is left out.
    pub halve_rate: bool,
    /// H.264 level, ten times: 31 for 3.1.
    pub level: u8,
    /// Threads that its encoder may use.
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
    /// All, the preferred one first.
    pub const ALL: [Self; 4] = [Self::Nvenc, Self::Va, Self::X264, Self::OpenH264];

    /// As it is configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nvenc => "nvenc",
            Self::Va => "va",
            Self::X264 => "x264",
            Self::OpenH264 => "openh264",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoder| encoder.name() == name)
    }

    /// Whether a device does the work, not the processor.
    pub fn is_hardware(self) -> bool {
        matches!(self, Self::Nvenc | Self::Va)
    }
}

/// What encoders are set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tuning {
    /// Each picture leaves the encoder as it enters: no reordering, no look-ahead.
    #[default]
    Latency,
    /// Two reordered pictures and a short look-ahead: some tenths of a second later, and better at the same rate.
    Quality,
}

/// Which source track a unit is of.
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
    /// What to make; the first message, and the only one of its kind.
    Job(Box<Job>),
    /// One access unit of the source.
    Unit {
        /// Of which track.
        media: Media,
        /// Decoding can start here.
        key: bool,
        /// Decode time.
        dts: i64,
        /// Presentation time.
        pts: i64,
        /// A segment starts here: the first picture shown at `mark` or later is to be a key frame in every rendition.
        mark: Option<i64>,
        /// As in [`media_core::AccessUnit`].
        payload: Bytes,
    },
    /// Makes this rendition from the next mark on, or no more. All are made at first.
    Make {
        /// Which.
        rendition: u8,
        /// Whether it is made.
        on: bool,
    },
    /// Nothing follows: what was sent is to be finished.
    End,
}

/// Worker to daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The configuration that the rendition's next units need. Comes before its first unit.
    Config {
        /// Which.
        rendition: u8,
        /// `AVCDecoderConfigurationRecord` or `AudioSpecificConfig`.
        record: Bytes,
    },
    /// One access unit of a rendition.
    Unit {
        /// Which.
        rendition: u8,
        /// Decoding can start here.
        key: bool,
        /// Decode time.
        dts: i64,
        /// Presentation time: that of the source's unit that it was made of.
        pts: i64,
        /// As in [`media_core::AccessUnit`].
        payload: Bytes,
    },
    /// A picture of the source.
    Picture {
        /// Its presentation time.
        pts: i64,
        /// JPEG.
        jpeg: Bytes,
    },
    /// Something to be logged.
    Log {
        /// How bad it is.
        level: Level,
        /// What. At most [`MAX_TEXT_BYTES`].
        text: String,
    },
    /// How it is doing, about once a second.
    Figures(Figures),
}

/// How bad what is logged is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Degraded.
    Warn,
    /// For the curious.
    Debug,
}

/// How a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Pictures that the decoder has given since the start.
    pub decoded: u64,
    /// Units that it could not take.
    pub broken: u64,
    /// Processor time of the process since its start, in microseconds.
    pub cpu_us: u64,
    /// Its resident memory in bytes.
    pub resident_bytes: u64,
}

/// Why a message is none. The sender is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its length is zero, or above [`MAX_MESSAGE_BYTES`].
    #[error("a message of {len} bytes")]
    Length {
        /// As declared.
        len: usize,
    },
    /// No message has this kind, in this direction.
    #[error("a message of kind {kind}")]
    Kind {
        /// As read.
        kind: u8,
    },
    /// It ends before its fields do.
    #[error("a message of kind {kind} that is cut short")]
    Short {
        /// As read.
        kind: u8,
    },
    /// A field has a value that it cannot have.
    #[error("a message of kind {kind} with a {field} that cannot be")]
    Field {
        /// As read.
        kind: u8,
        /// Which.
        field: &'static str,
    },
}

mod kind {
    pub(super) const JOB: u8 = 1;
    pub(super) const UNIT: u8 = 2;
    pub(super) const MAKE: u8 = 3;
    pub(super) const END: u8 = 4;
    pub(super) const CONFIG: u8 = 5;
    pub(super) const PICTURE: u8 = 6;
    pub(super) const LOG: u8 = 7;
    pub(super) const FIGURES: u8 = 8;
}

/// The length of the message that follows.
///
/// # Errors
/// [`Malformed::Length`]: nothing is to be allocated for it.
pub fn parse_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, Malformed> {
    let len = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    match len {
        1..=MAX_MESSAGE_BYTES => Ok(len),
        _ => Err(Malformed::Length { len }),
    }
}

/// A message as it is written: all but the payload, which follows uncopied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Length, kind and fields.
    pub head: Bytes,
    /// What follows them; may be empty.
    pub payload: Bytes,
}

impl Written {
    fn new(kind: u8, payload: Bytes, fields: impl FnOnce(&mut BytesMut)) -> Self {
        let mut head = BytesMut::with_capacity(32);
        head.put_u32(0);
        head.put_u8(kind);
        fields(&mut head);
        let len = head.len() - LENGTH_BYTES + payload.len();
        // What is longer than a length can say is longer than what any reader takes.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        head[..LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
        Self {
            head: head.freeze(),
            payload,
        }
    }
}

impl Order {
    /// The message as it is written.
    pub fn write(&self) -> Written {
        match self {
            Self::Job(job) => {
                // A job has no map with keys that are not text, the one thing that cannot be written.
                let json = serde_json::to_vec(job).unwrap_or_default();
                Written::new(kind::JOB, json.into(), |_| {})
            }
            Self::Unit {
                media,
                key,
                dts,
                pts,
                mark,
                payload,
            } => Written::new(kind::UNIT, payload.clone(), |head| {
                head.put_u8(u8::from(*media == Media::Audio));
                head.put_u8(u8::from(*key));
                head.put_i64(*dts);
                head.put_i64(*pts);
                head.put_u8(u8::from(mark.is_some()));
                head.put_i64(mark.unwrap_or(0));
            }),
            Self::Make { rendition, on } => Written::new(kind::MAKE, Bytes::new(), |head| {
                head.put_u8(*rendition);
                head.put_u8(u8::from(*on));
            }),
            Self::End => Written::new(kind::END, Bytes::new(), |_| {}),
        }
    }

    /// Reads a message without its length. A payload is a part of `message`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(message: Bytes) -> Result<Self, Malformed> {
        let mut fields = Fields::new(message)?;
        let order = match fields.kind {
            kind::JOB => {
                let job = serde_json::from_slice(&fields.rest()).map_err(|_| fields.wrong("job"))?;
                Self::Job(Box::new(job))
            }
            kind::UNIT => {
                let media = match fields.flag("medium")? {
                    false => Media::Video,
                    true => Media::Audio,
                };
                let (key, dts, pts) = (fields.flag("key")?, fields.i64()?, fields.i64()?);
                let (marked, mark) = (fields.flag("mark")?, fields.i64()?);
                Self::Unit {
                    media,
                    key,
                    dts,
                    pts,
                    mark: marked.then_some(mark),
                    payload: fields.rest(),
                }
            }
            kind::MAKE => Self::Make {
                rendition: fields.u8()?,
                on: fields.flag("on")?,
            },
            kind::END => Self::End,
            kind => return Err(Malformed::Kind { kind }),
        };
        Ok(order)
    }
}

impl Report {
    /// The message as it is written.
    pub fn write(&self) -> Written {
        match self {
            Self::Config { rendition, record } => Written::new(kind::CONFIG, record.clone(), |head| {
                head.put_u8(*rendition);
            }),
            Self::Unit {
                rendition,
                key,
                dts,
                pts,
                payload,
            } => Written::new(kind::UNIT, payload.clone(), |head| {
                head.put_u8(*rendition);
                head.put_u8(u8::from(*key));
                head.put_i64(*dts);
                head.put_i64(*pts);
            }),
            Self::Picture { pts, jpeg } => Written::new(kind::PICTURE, jpeg.clone(), |head| head.put_i64(*pts)),
            Self::Log { level, text } => {
                let text = Bytes::copy_from_slice(cut(text).as_bytes());
                Written::new(kind::LOG, text, |head| head.put_u8(u8::from(*level == Level::Debug)))
            }
            Self::Figures(figures) => {
                let json = serde_json::to_vec(figures).unwrap_or_default();
                Written::new(kind::FIGURES, json.into(), |_| {})
            }
        }
    }

    /// Reads a message without its length. A payload is a part of `message`.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(message: Bytes) -> Result<Self, Malformed> {
        let mut fields = Fields::new(message)?;
        let report = match fields.kind {
            kind::CONFIG => Self::Config {
                rendition: fields.u8()?,
                record: fields.rest(),
            },
            kind::UNIT => Self::Unit {
                rendition: fields.u8()?,
                key: fields.flag("key")?,
                dts: fields.i64()?,
                pts: fields.i64()?,
                payload: fields.rest(),
            },
            kind::PICTURE => Self::Picture {
                pts: fields.i64()?,
                jpeg: fields.rest(),
            },
            kind::LOG => {
                let level = match fields.flag("level")? {
                    false => Level::Warn,
                    true => Level::Debug,
                };
                let text = fields.rest();
                Self::Log {
                    level,
                    text: cut(&String::from_utf8_lossy(&text)).into(),
                }
            }
            kind::FIGURES => {
                Self::Figures(serde_json::from_slice(&fields.rest()).map_err(|_| fields.wrong("figures"))?)
            }
            kind => return Err(Malformed::Kind { kind }),
        };
        Ok(report)
    }
}

/// The first [`MAX_TEXT_BYTES`] of a text, or a few less where a letter would be torn.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT_BYTES))
        .rev()
        .find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// The fields of a message, read in turn.
struct Fields {
    kind: u8,
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

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.rest
            .try_get_i64()
            .map_err(|_| Malformed::Short { kind: self.kind })
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.wrong(field)),
        }
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    fn wrong(&self, field: &'static str) -> Malformed {
        Malformed::Field { kind: self.kind, field }
    }
}

#[cfg(test)]
mod tests;
