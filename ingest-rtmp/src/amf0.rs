//! AMF0 values: the bounded decoder for untrusted bytes, and the encoder of our responses. Pure.
//! `session` interprets the commands.
//!
//! AMF 0 specification (Adobe, 2007), section 2. `amf` has the values and the limits; `amf3` reads
//! a value after the avmplus-object marker (3.1).
//!
//! Tolerated: an object or array that ends with its message instead of an end marker (seen in
//! onMetaData); strings that are not UTF-8. A reference is read as undefined, because no message
//! that we interpret contains one.

pub use crate::amf::{Error, Value};
use crate::{
    amf::{Decoder, MAX_DEPTH},
    amf3,
};

/// An object of these properties, in this order.
pub(crate) fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Type markers (AMF 0, 2.1). The reserved ones, 4 (movie clip) and 14 (record set), are errors.
mod marker {
    pub(super) const NUMBER: u8 = 0;
    pub(super) const BOOLEAN: u8 = 1;
    pub(super) const STRING: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const NULL: u8 = 5;
    pub(super) const UNDEFINED: u8 = 6;
    pub(super) const REFERENCE: u8 = 7;
    pub(super) const ECMA_ARRAY: u8 = 8;
    pub(super) const OBJECT_END: u8 = 9;
    pub(super) const STRICT_ARRAY: u8 = 10;
    pub(super) const DATE: u8 = 11;
    pub(super) const LONG_STRING: u8 = 12;
    pub(super) const UNSUPPORTED: u8 = 13;
    pub(super) const XML: u8 = 15;
    pub(super) const TYPED_OBJECT: u8 = 16;
    pub(super) const AVMPLUS: u8 = 17;
}

/// Parses a message of values.
///
/// # Errors
/// See [`Error`]; values that were parsed before it are dropped.
pub fn parse(message: &[u8]) -> Result<Vec<Value>, Error> {
    let mut decoder = Decoder::new(message);
    let mut values = Vec::new();
    while !decoder.is_done() {
        values.push(value(&mut decoder, 0)?);
    }
    Ok(values)
}

/// Reads one value at nesting depth `depth`.
///
/// # Errors
/// See [`Error`]; the position in the message is then undefined.
fn value(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, Error> {
    decoder.count()?;
    let at = decoder.at();
    let [marker] = decoder.take()?;
    // Checked before anything in them is read, because each level costs stack.
    let nested = matches!(
        marker,
        marker::OBJECT | marker::ECMA_ARRAY | marker::STRICT_ARRAY | marker::TYPED_OBJECT
    );
    if nested && depth == MAX_DEPTH {
        return Err(Error::TooDeep { at, max: MAX_DEPTH });
    }
    Ok(match marker {
        marker::NUMBER => Value::Number(f64::from_be_bytes(decoder.take()?)),
        marker::BOOLEAN => Value::Boolean(decoder.take::<1>()? != [0]),
        marker::STRING => Value::String(text(decoder)?),
        marker::LONG_STRING | marker::XML => {
            let len = u32::from_be_bytes(decoder.take()?) as usize;
            Value::String(decoder.text_of(len)?)
        }
        marker::OBJECT => properties(decoder, depth)?,
        marker::ECMA_ARRAY => {
            // The number of entries is a hint, often 0.
            decoder.take::<4>()?;
            properties(decoder, depth)?
        }
        // The class's name has no meaning here.
        marker::TYPED_OBJECT => {
            text(decoder)?;
            properties(decoder, depth)?
        }
        marker::STRICT_ARRAY => {
            // The count is the peer's claim, so nothing is allocated for it: the list grows with
            // its values, whose number the decoder limits.
            let count = u32::from_be_bytes(decoder.take()?);
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(value(decoder, depth + 1)?);
            }
            Value::Array(values)
        }
        marker::DATE => {
            let date = f64::from_be_bytes(decoder.take()?);
            // A time zone, which is reserved and 0 (AMF 0, 2.13).
            decoder.take::<2>()?;
            Value::Date(date)
        }
        marker::NULL => Value::Null,
        marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
        marker::REFERENCE => {
            // The index of an earlier object.
            decoder.take::<2>()?;
            Value::Undefined
        }
        marker::AVMPLUS => amf3::value(decoder, depth)?,
        marker => return Err(Error::BadMarker { marker, at }),
    })
}

/// Names and values up to an empty name with an end marker, or the message's end.
fn properties(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, Error> {
    let mut properties = Vec::new();
    while !decoder.is_done() {
        let name = text(decoder)?;
        if name.is_empty() && decoder.take_if(marker::OBJECT_END) {
            break;
        }
        properties.push((name, value(decoder, depth + 1)?));
    }
    Ok(Value::Object(properties))
}

/// A text after its length in two bytes, as in names and strings.
fn text(decoder: &mut Decoder<'_>) -> Result<String, Error> {
    let len = u16::from_be_bytes(decoder.take()?);
    decoder.text_of(usize::from(len))
}

/// Writes values in order. Strings beyond 65 535 bytes become long strings; longer names are
/// truncated.
pub fn write(values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        write_value(value, out);
    }
}

/// Writes one value with its marker (AMF 0, section 2).
fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            out.push(marker::NUMBER);
            out.extend(number.to_be_bytes());
        }
        Value::Boolean(truth) => out.extend([marker::BOOLEAN, u8::from(*truth)]),
        // A string has a length of two bytes, a long string of four.
        Value::String(text) => match u16::try_from(text.len()) {
            Ok(len) => {
                out.push(marker::STRING);
                out.extend(len.to_be_bytes());
                out.extend(text.as_bytes());
            }
            Err(_) => {
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.push(marker::LONG_STRING);
                out.extend(len.to_be_bytes());
                out.extend(&text.as_bytes()[..len as usize]);
            }
        },
        Value::Object(properties) => {
            out.push(marker::OBJECT);
            for (name, value) in properties {
                // A name has no long form, so a longer one is truncated.
                let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
                out.extend(len.to_be_bytes());
                out.extend(&name.as_bytes()[..usize::from(len)]);
                write_value(value, out);
            }
            out.extend([0, 0, marker::OBJECT_END]);
        }
        Value::Array(values) => {
            out.push(marker::STRICT_ARRAY);
            out.extend(u32::try_from(values.len()).unwrap_or(u32::MAX).to_be_bytes());
            write(values, out);
        }
        Value::Date(date) => {
            out.push(marker::DATE);
            out.extend(date.to_be_bytes());
            // The time zone is reserved and 0 (AMF 0, 2.13).
            out.extend([0, 0]);
        }
        Value::Null => out.push(marker::NULL),
        Value::Undefined => out.push(marker::UNDEFINED),
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_connect_command_byte_for_byte() {
        let values = [
            Value::from("connect"),
            Value::from(1.0),
            object([("app", Value::from("live")), ("fpad", Value::Boolean(false))]),
        ];
        let bytes = hex!(
            "02 0007 636f6e6e656374"                        // "connect"
            "00 3ff0000000000000"                           // 1
            "03 0003 617070 02 0004 6c697665"               // { app: "live",
            "0004 66706164 01 00 0000 09"                   //   fpad: false }
        );
        let mut written = Vec::new();
        write(&values, &mut written);
        assert_eq!(written, bytes);
        assert_eq!(parse(&bytes).unwrap(), values);
    }

    #[test]
    fn every_marker_is_read_or_refused() {
        let read = |bytes: &[u8]| parse(bytes).map(|mut values| values.remove(0));
        assert_eq!(read(&hex!("05")), Ok(Value::Null));
        assert_eq!(read(&hex!("06")), Ok(Value::Undefined));
        assert_eq!(read(&hex!("07 0001")), Ok(Value::Undefined));
        let pair = Value::Object(vec![("a".into(), Value::Null)]);
        assert_eq!(read(&hex!("08 00000000 0001 61 05 0000 09")), Ok(pair.clone()));
        assert_eq!(read(&hex!("10 0001 43 0001 61 05 0000 09")), Ok(pair.clone()));
        assert_eq!(read(&hex!("08 00000001 0001 61 05")), Ok(pair)); // no end marker
        assert_eq!(
            read(&hex!("0a 00000002 05 06")),
            Ok(Value::Array(vec![Value::Null, Value::Undefined]))
        );
        assert_eq!(read(&hex!("0b 0000000000000000 0000")), Ok(Value::Date(0.0)));
        assert_eq!(read(&hex!("0c 00000001 61")), Ok(Value::from("a")));
        assert_eq!(read(&hex!("0d")), Ok(Value::Undefined));
        assert_eq!(read(&hex!("0f 00000001 61")), Ok(Value::from("a")));
        assert_eq!(read(&hex!("02 0001 ff")), Ok(Value::from("\u{fffd}")));
        for bad in [0x04, 0x09, 0x0e, 0x12, 0xff] {
            assert_eq!(read(&[bad]), Err(Error::BadMarker { marker: bad, at: 0 }));
        }
    }

    #[test]
    fn eighty_kilobytes_of_nested_arrays_are_refused_at_depth_eight() {
        let bytes = hex!("0a 00000001").repeat(16_000);
        assert_eq!(parse(&bytes), Err(Error::TooDeep { at: 40, max: 8 }));
        let bytes = hex!("03 0001 61").repeat(20_000);
        assert_eq!(parse(&bytes), Err(Error::TooDeep { at: 32, max: 8 }));
    }

    #[test]
    fn more_than_1024_values_are_refused() {
        assert!(parse(&[5; 1024]).is_ok());
        assert_eq!(parse(&[5; 1025]), Err(Error::TooMany { max: 1024 }));
        let array = [&hex!("0a ffffffff")[..], &[5; 2000]].concat();
        assert_eq!(parse(&array), Err(Error::TooMany { max: 1024 }));
    }

    #[test]
    fn a_declared_length_beyond_the_message_is_refused() {
        for bytes in
            [&hex!("0c ffffffff 61")[..], &hex!("02 ffff"), &hex!("00 00"), &hex!("0a ffffffff")]
        {
            assert!(matches!(parse(bytes), Err(Error::Truncated { .. })), "{bytes:02x?}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(|number| Value::Number(number.into())),
            any::<bool>().prop_map(Value::Boolean),
            "[a-zä]{0,9}".prop_map(Value::String),
            any::<u32>().prop_map(|date| Value::Date(date.into())),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec(("[a-z]{1,5}", inner), 0..4).prop_map(Value::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_values_are_parsed_back(values in prop::collection::vec(any_value(), 0..5)) {
            let mut bytes = Vec::new();
            write(&values, &mut bytes);
            prop_assert_eq!(parse(&bytes).unwrap(), values);
        }

        #[test]
        fn the_amf0_decoder_never_panics(bytes in prop::collection::vec(0u8..20, 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
