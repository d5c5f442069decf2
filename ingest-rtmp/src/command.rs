//! Commands and data messages as values: those of peers, and the objects of our responses. Pure;
//! `session` executes them.
//!
//! RTMP 1.0 section 7.2; Enhanced RTMP v2, "Enhancing NetConnection connect Command".

use crate::{
    Error,
    amf0::{self, Value, object},
    chunk::Message,
    transmit::{Transmit, kind},
};

/// RTMP 7.2: name, transaction, command object, arguments. Missing fields are null.
pub(crate) struct Command {
    /// Empty if it is missing or not a string.
    pub(crate) name: String,
    /// Repeated in the response; 0 if missing.
    pub(crate) transaction: f64,
    /// The properties of `connect`; null in most other commands.
    pub(crate) object: Value,
    /// The values after the command object.
    arguments: Vec<Value>,
}

impl Command {
    /// Parses the values of a command message.
    ///
    /// # Errors
    /// The values cannot be read as AMF0.
    pub(crate) fn parse(values: &[u8]) -> Result<Self, amf0::Error> {
        let mut values = amf0::parse(values)?.into_iter();
        let name =
            values.next().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Self { name, transaction, object, arguments: values.collect() })
    }

    /// The argument at `index`; 0 is the first after the command object.
    pub(crate) fn argument(&self, index: usize) -> Option<&Value> {
        self.arguments.get(index)
    }
}

/// onMetaData, alone or after `@setDataFrame`. It is only a hint, so an invalid one is skipped.
pub(crate) fn metadata(message: &Message) -> Option<Value> {
    // A data message that is marked as AMF3 starts with a zero byte, and continues in AMF0.
    let values = message
        .payload
        .strip_prefix(&[0])
        .filter(|_| message.kind == kind::DATA_AMF3)
        .unwrap_or(&message.payload);
    let mut values = amf0::parse(values).ok()?.into_iter().peekable();
    values.next_if(|value| value.as_str() == Some("@setDataFrame"));
    values.next_if(|value| value.as_str() == Some("onMetaData"))?;
    values.next()
}

/// capsEx: reconnect requests are supported (Enhanced RTMP v2, "Reconnect Request").
pub(crate) const CAN_RECONNECT: u32 = 1;

/// Whether the peer's capsEx has this bit. A value that is not a whole number has none.
pub(crate) fn has_capability(asked: &Value, bit: u32) -> bool {
    let caps = asked.property("capsEx").and_then(Value::as_number).unwrap_or(0.0);
    // The cast saturates, and NaN becomes 0.
    #[expect(clippy::cast_possible_truncation, reason = "above 32 bits there is no capability")]
    #[expect(clippy::cast_sign_loss, reason = "below 0 there is no capability")]
    let bits = caps as u32;
    caps.fract() == 0.0 && bits & bit != 0
}

/// Our capabilities of Enhanced RTMP, for peers that ask: forwarding of H.264 and AAC; of capsEx,
/// reconnecting.
pub(crate) fn enhanced_capabilities(asked: &Value) -> Vec<(String, Value)> {
    const CAN_FORWARD: f64 = 4.0;
    let mut capabilities = Vec::new();
    let mut add = |name: &str, value: Value| capabilities.push((name.to_owned(), value));
    // Each is a response to the peer's own property, so that a peer without Enhanced RTMP gets the
    // result that it knows.
    if asked.property("fourCcList").is_some() {
        add("fourCcList", Value::Array(vec!["avc1".into(), "mp4a".into()]));
    }
    if asked.property("videoFourCcInfoMap").is_some() {
        add("videoFourCcInfoMap", object([("avc1", CAN_FORWARD.into())]));
    }
    if asked.property("audioFourCcInfoMap").is_some() {
        add("audioFourCcInfoMap", object([("mp4a", CAN_FORWARD.into())]));
    }
    if asked.property("capsEx").is_some() {
        add("capsEx", f64::from(CAN_RECONNECT).into());
    }
    capabilities
}

/// The information object of onStatus, a result or an error (RTMP 7.2.2). `level` is `status`,
/// `warning` or `error`.
pub(crate) fn status_object(level: &str, code: &str, description: &str) -> Value {
    object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

impl Transmit {
    /// Queues an onStatus message for a message stream, or 0 for the connection.
    ///
    /// # Errors
    /// Only if it could not be framed, which no input causes.
    pub(crate) fn status(
        &mut self,
        stream_id: u32,
        level: &str,
        code: &str,
        description: &str,
    ) -> Result<(), Error> {
        let info = status_object(level, code, description);
        self.command(stream_id, &["onStatus".into(), 0.0.into(), Value::Null, info])
    }

    /// Queues the response to a command that failed.
    ///
    /// # Errors
    /// As [`Transmit::status`].
    pub(crate) fn error(
        &mut self,
        transaction: f64,
        code: &str,
        description: &str,
    ) -> Result<(), Error> {
        let info = status_object("error", code, description);
        self.command(0, &["_error".into(), transaction.into(), Value::Null, info])
    }
}

/// Splits a name from its query, the text after `?`.
pub(crate) fn split_query(name: &str) -> (&str, Option<&str>) {
    match name.split_once('?') {
        Some((name, query)) => (name, Some(query)),
        None => (name, None),
    }
}
