//! One request and its response of known length. RFC 9112.

use std::net::SocketAddr;

use crate::Failure;

/// Maximum size of a head.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The bytes of a GET request that accepts gzip, as players send it.
pub(super) fn request(server: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nAccept-Encoding: gzip\r\n\r\n").into_bytes()
}

/// The received part of a response.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Received bytes of the present response.
    bytes: Vec<u8>,
    /// Start of the body and end of the response, once the head is complete.
    bounds: Option<(usize, usize)>,
    /// The body of the last response.
    body: Vec<u8>,
}

impl Reader {
    /// Takes received bytes. Returns the number of responses that they complete: 0 or 1.
    ///
    /// # Errors
    /// The response is not 200, has no length, or is followed by another one.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<usize, Failure> {
        self.bytes.extend_from_slice(input);
        if self.bounds.is_none() {
            let Some(head) = self.bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                return match self.bytes.len() > MAX_HEAD_BYTES {
                    true => Err("a head without end".into()),
                    false => Ok(0),
                };
            };
            let text = String::from_utf8_lossy(&self.bytes[..head]);
            if !text.starts_with("HTTP/1.1 200 ") {
                return Err(text.lines().next().unwrap_or_default().into());
            }
            let length = text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse::<u32>().ok())?
            });
            let length = length.ok_or("an answer without a length")? as usize;
            self.bounds = Some((head + 4, head + 4 + length));
        }
        // There is one request at a time, so bytes after the response are an error of the server.
        match self.bounds {
            Some((begin, end)) if self.bytes.len() == end => {
                self.body.clear();
                self.body.extend_from_slice(&self.bytes[begin..]);
                self.bytes.clear();
                self.bounds = None;
                Ok(1)
            }
            Some((_, end)) if self.bytes.len() > end => Err("more than one answer".into()),
            _ => Ok(0),
        }
    }

    /// The body of the last response.
    pub(super) fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_at_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";
        let mut reader = Reader::default();
        for byte in &answer[..answer.len() - 1] {
            assert_eq!(reader.read(&[*byte]).unwrap(), 0);
        }
        assert_eq!(reader.read(b"c").unwrap(), 1);
        assert_eq!(reader.take_body(), b"abc");
        assert_eq!(reader.read(answer).unwrap(), 1);
    }

    #[test]
    fn a_status_other_than_200_and_an_extra_byte_are_errors() {
        let refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        assert!(Reader::default().read(refused).is_err());
        assert!(Reader::default().read(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab").is_err());
    }
}
