//! Limits the memory that a frame holds. A payload is a slice of its message and keeps all of the
//! message's allocation, but the hub and the window count the payload alone. Pure.

use bytes::Bytes;

/// A payload that keeps less than twice its own length in memory.
///
/// `message_bytes` is the length of the message that `payload` is a slice of. A payload that is
/// less than half of it is copied into an allocation of its own: for example one of 200 bytes with
/// a megabyte of zero bytes or of extensions beside it. All others share the message's memory.
pub(crate) fn held(payload: Bytes, message_bytes: usize) -> Bytes {
    if payload.len() < message_bytes / 2 { Bytes::copy_from_slice(&payload) } else { payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_copied_if_it_is_less_than_half_of_its_message() {
        for (len, copied) in [(0, true), (1, true), (499, true), (500, false), (1_000, false)] {
            let message = Bytes::from(vec![7; 1_000]);
            let payload = held(message.slice(..len), message.len());
            assert_eq!(payload, message[..len]);
            assert_eq!(message.is_unique(), copied, "{len}");
        }
    }
}
