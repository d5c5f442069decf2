//! Entry points of the fuzz targets: properties that hold for any bytes. `cargo test` runs them on
//! the corpus in `fuzz/corpus`.

use bytes::{Bytes, BytesMut};

use crate::{
    images::header::{Header, MAX_SAMPLES},
    protocol::{LENGTH_BYTES, Order, Report, Written, parse_length},
};

/// Messages between the daemon and a worker, in both directions: a valid message, serialised again,
/// parses to the same value.
pub fn messages(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    if let Ok(report) = Report::parse(message.clone()) {
        assert_eq!(Report::parse(joined(&report.write())), Ok(report));
    }
    match Order::parse(message) {
        // Decimal fractions may differ in their last digit.
        Ok(order @ Order::Job(_)) => {
            assert!(matches!(Order::parse(joined(&order.write())), Ok(Order::Job(_))))
        }
        Ok(order) => assert_eq!(Order::parse(joined(&order.write())), Ok(order)),
        Err(_) => {}
    }
}

/// The structure of an uploaded picture: one that is accepted has a size within the limits, and is
/// refused without its last byte, unless that stands behind the end of a JPEG.
pub fn image_header(bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else { return };
    assert!(u64::from(header.width) * u64::from(header.height) <= MAX_SAMPLES);
    assert!(header.width > 0 && header.height > 0);
    assert!((1..=8).contains(&header.orientation));
    if let Ok(shorter) = Header::parse(&bytes[..bytes.len() - 1]) {
        assert_eq!(shorter, header);
    }
}

/// The written message without its length, which is checked.
fn joined(written: &Written) -> Bytes {
    let mut bytes = BytesMut::from(&written.head[..]);
    bytes.extend_from_slice(&written.payload);
    let prefix = bytes[..LENGTH_BYTES].try_into().expect("a length");
    assert_eq!(parse_length(prefix), Ok(bytes.len() - LENGTH_BYTES));
    bytes.split_off(LENGTH_BYTES).freeze()
}

#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn the_corpus_passes() {
        corpus::run("worker_messages", super::messages);
        corpus::run("image_header", super::image_header);
    }
}
