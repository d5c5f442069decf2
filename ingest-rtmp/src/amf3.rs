//! AMF3 values, which an AMF0 message may contain after the avmplus-object marker. Pure. The shared
//! decoder limits depth and number of values; text that is repeated by reference is limited too,
//! because a reference of two bytes can name a long text.
//!
//! AMF 3 specification (Adobe, 2013), section 3; AMF 0, section 3.1 (the marker). Each marker
//! starts new reference tables.
//!
//! Tolerated: references to objects, arrays and dates, byte arrays, vectors of numbers and
//! dictionaries are read as undefined, because no message that we interpret contains one.

use crate::amf::{Decoder, Error, MAX_DEPTH, Value};

/// Maximum number of bytes of text that one value may repeat by reference.
const MAX_REPEATED: usize = 64 << 10;

/// AMF 3, section 3.1.
mod marker {
    pub(super) const UNDEFINED: u8 = 0x00;
    pub(super) const NULL: u8 = 0x01;
    pub(super) const FALSE: u8 = 0x02;
    pub(super) const TRUE: u8 = 0x03;
    pub(super) const INTEGER: u8 = 0x04;
    pub(super) const DOUBLE: u8 = 0x05;
    pub(super) const STRING: u8 = 0x06;
    pub(super) const XML_DOCUMENT: u8 = 0x07;
    pub(super) const DATE: u8 = 0x08;
    pub(super) const ARRAY: u8 = 0x09;
    pub(super) const OBJECT: u8 = 0x0a;
    pub(super) const XML: u8 = 0x0b;
    pub(super) const BYTES: u8 = 0x0c;
    pub(super) const VECTOR_INT: u8 = 0x0d;
    pub(super) const VECTOR_UINT: u8 = 0x0e;
    pub(super) const VECTOR_DOUBLE: u8 = 0x0f;
    pub(super) const VECTOR_OBJECT: u8 = 0x10;
    pub(super) const DICTIONARY: u8 = 0x11;
}

/// Reads one value from `decoder`, which is positioned after the marker, at nesting depth `depth`.
///
/// # Errors
/// See [`Error`].
pub(crate) fn value(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, Error> {
    let mut reader = Reader { decoder, strings: Vec::new(), traits: Vec::new(), repeated: 0 };
    reader.value(depth)
}

/// Reads the values after one marker, with the tables that references in them name.
struct Reader<'a, 'm> {
    decoder: &'a mut Decoder<'m>,
    /// Texts in order of arrival, without the empty one (1.3.2).
    strings: Vec<String>,
    /// Traits in order of arrival (3.12).
    traits: Vec<Traits>,
    /// Bytes of text read by reference.
    repeated: usize,
}

/// The names of an object's fixed properties, and whether others follow.
#[derive(Clone)]
struct Traits {
    /// Names of the fixed properties, in the order of their values.
    names: Vec<String>,
    /// Whether further properties follow with their names.
    dynamic: bool,
}

/// The meaning of the integer in front of a value that can be referred to (3.3 to 3.12).
enum Header {
    /// Index of an earlier value in its table.
    Reference(usize),
    /// The value follows; the integer's other bits.
    Inline(usize),
}

impl Reader<'_, '_> {
    /// Reads one value at nesting depth `depth` (3.1).
    ///
    /// # Errors
    /// See [`Error`].
    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        let at = self.decoder.at();
        self.decoder.count()?;
        let [marker] = self.decoder.take()?;
        // Checked before anything in them is read, because each level costs stack.
        let nested = matches!(
            marker,
            marker::ARRAY | marker::OBJECT | marker::VECTOR_OBJECT | marker::DICTIONARY
        );
        if nested && depth == MAX_DEPTH {
            return Err(Error::TooDeep { at, max: MAX_DEPTH });
        }
        Ok(match marker {
            marker::UNDEFINED => Value::Undefined,
            marker::NULL => Value::Null,
            marker::FALSE => Value::Boolean(false),
            marker::TRUE => Value::Boolean(true),
            // 29 bits with a sign.
            marker::INTEGER => Value::Number(f64::from((self.integer()? << 3).cast_signed() >> 3)),
            marker::DOUBLE => Value::Number(f64::from_be_bytes(self.decoder.take()?)),
            marker::STRING => Value::String(self.text()?),
            // A reference to one of the values below is undefined: they are not kept, because a
            // reference of two bytes could repeat a large value.
            marker::XML_DOCUMENT | marker::XML => match self.header()? {
                Header::Reference(_) => Value::Undefined,
                Header::Inline(len) => Value::String(self.decoder.text_of(len)?),
            },
            marker::DATE => match self.header()? {
                Header::Reference(_) => Value::Undefined,
                Header::Inline(_) => Value::Date(f64::from_be_bytes(self.decoder.take()?)),
            },
            marker::ARRAY => self.array(depth)?,
            marker::OBJECT => self.object(depth)?,
            marker::BYTES => self.skip(0, 1)?,
            marker::VECTOR_INT | marker::VECTOR_UINT => self.skip(1, 4)?,
            marker::VECTOR_DOUBLE => self.skip(1, 8)?,
            marker::VECTOR_OBJECT => self.vector(depth)?,
            marker::DICTIONARY => self.dictionary(depth)?,
            marker => return Err(Error::BadMarker { marker, at }),
        })
    }

    /// 3.11: names and values up to an empty name, then a list of values. An array with names is an
    /// object of them.
    fn array(&mut self, depth: usize) -> Result<Value, Error> {
        let Header::Inline(len) = self.header()? else {
            return Ok(Value::Undefined);
        };
        // The lists grow with the values that are present; `len` is only the peer's claim.
        let mut named = Vec::new();
        self.dynamic(&mut named, depth)?;
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(depth + 1)?);
        }
        Ok(if named.is_empty() { Value::Array(values) } else { Value::Object(named) })
    }

    /// 3.12. An object with its own serialisation (externalizable) cannot be read.
    fn object(&mut self, depth: usize) -> Result<Value, Error> {
        let at = self.decoder.at();
        let Header::Inline(bits) = self.header()? else {
            return Ok(Value::Undefined);
        };
        // Three forms: traits that were sent before, by number; an encoding of the class's own,
        // whose length is unknown; or the class, the number of names, and the names.
        let traits = if bits & 1 == 0 {
            let traits = self.traits.get(bits >> 1).cloned().ok_or(Error::BadReference { at })?;
            self.repeat(traits.names.iter().map(String::len).sum())?;
            traits
        } else if bits & 2 != 0 {
            return Err(Error::Externalizable { at });
        } else {
            self.text()?; // the class
            let mut names = Vec::new();
            for _ in 0..bits >> 3 {
                // A name counts as a value, so that traits are limited like objects.
                self.decoder.count()?;
                names.push(self.text()?);
            }
            let traits = Traits { names, dynamic: bits & 4 != 0 };
            self.traits.push(traits.clone());
            traits
        };
        // The values of the fixed names follow in the order of the names, then pairs of name and
        // value.
        let mut properties = Vec::new();
        for name in traits.names {
            let value = self.value(depth + 1)?;
            properties.push((name, value));
        }
        if traits.dynamic {
            self.dynamic(&mut properties, depth)?;
        }
        Ok(Value::Object(properties))
    }

    /// Names and values up to an empty name.
    fn dynamic(
        &mut self,
        properties: &mut Vec<(String, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        loop {
            let name = self.text()?;
            if name.is_empty() {
                return Ok(());
            }
            properties.push((name, self.value(depth + 1)?));
        }
    }

    /// 3.13: a vector of values of a named type.
    fn vector(&mut self, depth: usize) -> Result<Value, Error> {
        let Header::Inline(len) = self.header()? else {
            return Ok(Value::Undefined);
        };
        self.decoder.take::<1>()?; // whether its length is fixed
        self.text()?;
        // The type's name is not needed, because each value has a marker of its own.
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    /// 3.15: pairs of values.
    fn dictionary(&mut self, depth: usize) -> Result<Value, Error> {
        if let Header::Inline(len) = self.header()? {
            self.decoder.take::<1>()?; // whether its keys are weak
            for _ in 0..len {
                self.value(depth + 1)?;
                self.value(depth + 1)?;
            }
        }
        Ok(Value::Undefined)
    }

    /// Skips `flags` bytes, and as many items of `size` bytes as in the header.
    fn skip(&mut self, flags: usize, size: usize) -> Result<Value, Error> {
        if let Header::Inline(len) = self.header()? {
            self.decoder.skip(flags + len * size)?;
        }
        Ok(Value::Undefined)
    }

    /// 1.3.2: a text, or the number of an earlier one. The empty text has no number.
    fn text(&mut self) -> Result<String, Error> {
        let at = self.decoder.at();
        match self.header()? {
            Header::Reference(index) => {
                let text = self.strings.get(index).cloned().ok_or(Error::BadReference { at })?;
                self.repeat(text.len())?;
                Ok(text)
            }
            Header::Inline(0) => Ok(String::new()),
            Header::Inline(len) => {
                let text = self.decoder.text_of(len)?;
                self.strings.push(text.clone());
                Ok(text)
            }
        }
    }

    /// Counts text that a reference repeats.
    ///
    /// # Errors
    /// [`Error::TooMuchRepeated`].
    fn repeat(&mut self, bytes: usize) -> Result<(), Error> {
        self.repeated += bytes;
        match self.repeated <= MAX_REPEATED {
            true => Ok(()),
            false => Err(Error::TooMuchRepeated { max: MAX_REPEATED }),
        }
    }

    /// Reads the integer in front of a value. Its lowest bit distinguishes the two forms.
    fn header(&mut self) -> Result<Header, Error> {
        let bits = self.integer()? as usize;
        Ok(match bits & 1 {
            0 => Header::Reference(bits >> 1),
            _ => Header::Inline(bits >> 1),
        })
    }

    /// 1.3.1: an integer of 29 bits in one to four bytes.
    fn integer(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..3 {
            let [byte] = self.decoder.take()?;
            value = value << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        // The fourth byte has no flag, and contributes all of its 8 bits: 3 times 7 and 8 are 29.
        let [byte] = self.decoder.take()?;
        Ok(value << 8 | u32::from(byte))
    }
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;
    use crate::amf0::parse;

    fn read(bytes: &[u8]) -> Result<Value, Error> {
        parse(&[&[0x11][..], bytes].concat()).map(|mut values| values.remove(0))
    }

    #[test]
    fn every_marker_is_read_or_refused() {
        assert_eq!(read(&hex!("00")), Ok(Value::Undefined));
        assert_eq!(read(&hex!("01")), Ok(Value::Null));
        assert_eq!(read(&hex!("02")), Ok(Value::Boolean(false)));
        assert_eq!(read(&hex!("03")), Ok(Value::Boolean(true)));
        assert_eq!(read(&hex!("04 7f")), Ok(Value::Number(127.0)));
        assert_eq!(read(&hex!("04 ff ff ff ff")), Ok(Value::Number(-1.0)));
        assert_eq!(read(&hex!("04 c0 80 80 00")), Ok(Value::Number(-268_435_456.0)));
        assert_eq!(read(&hex!("05 3ff0000000000000")), Ok(Value::Number(1.0)));
        assert_eq!(read(&hex!("06 03 61")), Ok(Value::from("a")));
        assert_eq!(read(&hex!("06 01")), Ok(Value::from("")));
        assert_eq!(read(&hex!("07 03 61")), Ok(Value::from("a")));
        assert_eq!(read(&hex!("0b 03 61")), Ok(Value::from("a")));
        assert_eq!(read(&hex!("08 01 0000000000000000")), Ok(Value::Date(0.0)));
        assert_eq!(read(&hex!("0c 05 ffff")), Ok(Value::Undefined));
        assert_eq!(read(&hex!("0d 03 00 00000001")), Ok(Value::Undefined));
        assert_eq!(read(&hex!("0e 03 00 00000001")), Ok(Value::Undefined));
        assert_eq!(read(&hex!("0f 03 00 0000000000000000")), Ok(Value::Undefined));
        assert_eq!(read(&hex!("10 03 00 01 02")), Ok(Value::Array(vec![Value::Boolean(false)])));
        assert_eq!(read(&hex!("11 03 00 0403 02")), Ok(Value::Undefined));
        assert_eq!(
            read(&hex!("09 05 01 02 03")),
            Ok(Value::Array(vec![Value::Boolean(false), Value::Boolean(true)]))
        );
        let named = Value::Object(vec![("a".into(), Value::Null)]);
        assert_eq!(read(&hex!("09 03 03 61 01 01 02")), Ok(named.clone()));
        assert_eq!(read(&hex!("0a 0b 01 03 61 01 01")), Ok(named.clone())); // dynamic
        assert_eq!(read(&hex!("0a 13 01 03 61 01")), Ok(named)); // one fixed name
        for bad in [0x12, 0x7f, 0xff] {
            assert_eq!(read(&[bad]), Err(Error::BadMarker { marker: bad, at: 1 }));
        }
        assert_eq!(read(&hex!("0a 07 03 61")), Err(Error::Externalizable { at: 2 }));
        assert_eq!(read(&hex!("0a 05")), Err(Error::BadReference { at: 2 }));
        assert_eq!(read(&hex!("06 04")), Err(Error::BadReference { at: 2 }));
    }

    #[test]
    fn amf3_references_are_resolved_within_one_value() {
        // An array of two objects of one class with the fixed name "app", whose values are "live"
        // and the same text again.
        let bytes = hex!("09 05 01  0a 13 03 43 07 617070 06 09 6c697665  0a 01 06 04");
        let object = Value::Object(vec![("app".into(), "live".into())]);
        assert_eq!(read(&bytes), Ok(Value::Array(vec![object.clone(), object])));
        assert!(matches!(parse(&hex!("11 06 03 61 11 06 00")), Err(Error::BadReference { .. })));
    }

    #[test]
    fn depth_values_and_repeated_text_are_bounded() {
        let nested = hex!("09 03 01").repeat(20_000);
        assert!(matches!(read(&nested), Err(Error::TooDeep { max: 8, .. })));
        let many = [&hex!("09 ffffffff 01")[..], &[2; 2_000]].concat();
        assert_eq!(read(&many), Err(Error::TooMany { max: 1024 }));
        let names = [&hex!("0a ffffffff 01")[..], &[1; 2_000]].concat();
        assert!(read(&names).is_err());
        let traits = [&hex!("0a ff ff 73 01")[..], &[1; 4_000]].concat();
        assert_eq!(read(&traits), Err(Error::TooMany { max: 1024 }));
        // A text of 4 KiB, and itself 20 times.
        let text = [&hex!("09 2b 01 06 c0 01")[..], &[0x61; 4_096]].concat();
        let text = [&text[..], &hex!("06 00").repeat(20)].concat();
        assert_eq!(read(&text), Err(Error::TooMuchRepeated { max: 65_536 }));
        for cut in [
            &hex!("0c ffffffff 01")[..],
            &hex!("06 05 61"),
            &hex!("04 ff"),
            &hex!("0f ffffffff 00"),
        ] {
            assert!(matches!(read(cut), Err(Error::Truncated { .. })), "{cut:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_value_of_small_bytes_makes_the_decoder_panic(
            bytes in prop::collection::vec(0u8..20, 0..200),
        ) {
            let _ = read(&bytes);
        }
    }
}
