//! AMF values, the errors of their decoders, and the bounded reader of a message that `amf0` and
//! `amf3` share: a message may contain values of both.
//!
//! Depth, number of values and bytes are limited, so a message can cost neither stack nor more
//! memory than a small multiple of itself.

/// Maximum nesting of objects and arrays.
pub(crate) const MAX_DEPTH: usize = 8;
/// Maximum number of values in one message, including those in objects and arrays.
const MAX_VALUES: usize = 1024;

/// Why a message's values cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The message ends inside a value.
    #[error("AMF value at byte {at} is truncated")]
    Truncated {
        /// Offset in the message.
        at: usize,
    },
    /// Objects or arrays are nested more deeply than the limit.
    #[error("AMF values nested deeper than {max} at byte {at}")]
    TooDeep {
        /// Offset in the message.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// More values than the limit.
    #[error("more than {max} AMF values")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// A reserved or unknown marker.
    #[error("AMF marker {marker} at byte {at} is not supported")]
    BadMarker {
        /// The marker.
        marker: u8,
        /// Offset in the message.
        at: usize,
    },
    /// An AMF3 reference to a text or to traits that does not exist.
    #[error("AMF3 reference at byte {at} refers to no earlier value")]
    BadReference {
        /// Offset in the message.
        at: usize,
    },
    /// An AMF3 object with a class-specific encoding.
    #[error("AMF3 object at byte {at} is externalizable, which is not supported")]
    Externalizable {
        /// Offset in the message.
        at: usize,
    },
    /// AMF3 references repeat more text than the limit.
    #[error("AMF3 references repeat more than {max} bytes of text")]
    TooMuchRepeated {
        /// The limit in bytes.
        max: usize,
    },
}

/// A value. Objects, typed objects and ECMA arrays are all `Object`, because RTMP does not
/// distinguish them.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// A string, a long string or an XML document.
    String(String),
    /// Names and values in their original order.
    Object(Vec<(String, Value)>),
    /// A strict array.
    Array(Vec<Value>),
    /// Milliseconds since 1970, UTC.
    Date(f64),
    /// Null.
    Null,
    /// Undefined, unsupported, or a reference.
    Undefined,
}

impl Value {
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The value of an object's property.
    pub fn property(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// A position in a message, and the number of values that were read before it.
pub(crate) struct Decoder<'m> {
    message: &'m [u8],
    at: usize,
    values: usize,
}

impl<'m> Decoder<'m> {
    /// Reads `message` from its start.
    pub(crate) fn new(message: &'m [u8]) -> Self {
        Self { message, at: 0, values: 0 }
    }

    /// Whether the whole message was read.
    pub(crate) fn is_done(&self) -> bool {
        self.at == self.message.len()
    }

    /// Offset of the next byte in the message.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Counts one more value.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub(crate) fn count(&mut self) -> Result<(), Error> {
        self.values += 1;
        match self.values <= MAX_VALUES {
            true => Ok(()),
            false => Err(Error::TooMany { max: MAX_VALUES }),
        }
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`]; nothing is read.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        // `at` never exceeds the message's length, because each read is checked first.
        let rest: &'m [u8] = &self.message[self.at..];
        let taken = rest.first_chunk().ok_or(Error::Truncated { at: self.at })?;
        self.at += N;
        Ok(*taken)
    }

    /// Reads the next byte if it is `byte`. Returns whether it was.
    pub(crate) fn take_if(&mut self, byte: u8) -> bool {
        let found = self.message.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    /// Reads a text of `len` bytes. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// [`Error::Truncated`]; nothing is read.
    pub(crate) fn text_of(&mut self, len: usize) -> Result<String, Error> {
        let rest = &self.message[self.at..];
        let text = rest.get(..len).ok_or(Error::Truncated { at: self.at })?;
        self.at += len;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Skips `len` bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`]; nothing is skipped.
    pub(crate) fn skip(&mut self, len: usize) -> Result<(), Error> {
        if self.message.len() - self.at < len {
            return Err(Error::Truncated { at: self.at });
        }
        self.at += len;
        Ok(())
    }
}
