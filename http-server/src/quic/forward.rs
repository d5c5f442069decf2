//! Encodes a datagram for the way from the process that reads the socket to the one that owns the
//! connection: QUIC's metadata, then the datagram. Both processes hold the same socket, so
//! addresses are passed exactly as the kernel reported them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use quinn::udp::{EcnCodepoint, RecvMeta};

/// Length in bytes of the metadata: ECN, flags, the sender's port, flow label, scope and address,
/// and the local address.
pub(super) const HEAD: usize = 1 + 1 + 2 + 4 + 4 + 16 + 16;
/// Larger datagrams are not QUIC: no path has such an MTU.
pub(super) const MAX: usize = HEAD + (16 << 10);

/// Flags: the sender's address is IPv4; the local address is known; it is IPv4.
const FROM_V4: u8 = 1;
const HAS_LOCAL: u8 = 2;
const LOCAL_V4: u8 = 4;

/// Encodes the metadata of a datagram. Both processes run on one machine, but the fields are
/// big-endian, so that the format does not depend on the build.
pub(super) fn seal(meta: &RecvMeta) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[0] = meta.ecn.map_or(0, |ecn| ecn as u8);
    head[2..4].copy_from_slice(&meta.addr.port().to_be_bytes());
    // The fields are at fixed positions, unused ones zero: an IPv4 address takes the first four
    // bytes of the room for one of IPv6.
    match meta.addr {
        SocketAddr::V4(from) => {
            head[1] |= FROM_V4;
            head[12..16].copy_from_slice(&from.ip().octets());
        }
        SocketAddr::V6(from) => {
            head[4..8].copy_from_slice(&from.flowinfo().to_be_bytes());
            head[8..12].copy_from_slice(&from.scope_id().to_be_bytes());
            head[12..28].copy_from_slice(&from.ip().octets());
        }
    }
    match meta.dst_ip {
        Some(IpAddr::V4(local)) => {
            head[1] |= HAS_LOCAL | LOCAL_V4;
            head[28..32].copy_from_slice(&local.octets());
        }
        Some(IpAddr::V6(local)) => {
            head[1] |= HAS_LOCAL;
            head[28..44].copy_from_slice(&local.octets());
        }
        None => {}
    }
    head
}

/// Decodes the metadata and returns the datagram with it. `None` if the bytes are too few, or if
/// there is no datagram.
pub(super) fn open(forwarded: &[u8]) -> Option<(RecvMeta, &[u8])> {
    let (head, datagram) = forwarded.split_first_chunk::<HEAD>()?;
    if datagram.is_empty() {
        return None;
    }
    let v4 = |at: usize| Some(Ipv4Addr::from(*head[at..].first_chunk::<4>()?));
    let v6 = |at: usize| Some(Ipv6Addr::from(*head[at..].first_chunk::<16>()?));
    let word = |at: usize| Some(u32::from_be_bytes(*head[at..].first_chunk()?));
    let port = u16::from_be_bytes([head[2], head[3]]);
    let is = |flag| head[1] & flag != 0;
    let addr = match is(FROM_V4) {
        true => (v4(12)?, port).into(),
        false => SocketAddrV6::new(v6(12)?, port, word(4)?, word(8)?).into(),
    };
    let dst_ip: Option<IpAddr> = match (is(HAS_LOCAL), is(LOCAL_V4)) {
        (true, true) => Some(v4(28)?.into()),
        (true, false) => Some(v6(28)?.into()),
        (false, _) => None,
    };
    let meta = RecvMeta {
        addr,
        len: datagram.len(),
        stride: datagram.len(),
        ecn: EcnCodepoint::from_bits(head[0]),
        dst_ip,
    };
    Some((meta, datagram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_datagram_keeps_its_addresses_and_ecn() {
        for (from, local) in [
            ("192.0.2.7:443", Some("198.51.100.1")),
            ("[::ffff:192.0.2.7]:443", Some("198.51.100.1")),
            ("[2001:db8::7]:9", Some("2001:db8::1")),
            ("[fe80::7%3]:9", None),
        ] {
            let meta = RecvMeta {
                addr: from.parse().unwrap(),
                len: 4,
                stride: 4,
                ecn: Some(EcnCodepoint::Ce),
                dst_ip: local.map(|local| local.parse().unwrap()),
            };
            let forwarded = [&seal(&meta)[..], b"quic"].concat();
            let (read, datagram) = open(&forwarded).unwrap();
            assert_eq!((read.addr, read.dst_ip, read.ecn), (meta.addr, meta.dst_ip, meta.ecn));
            assert_eq!((datagram, read.len, read.stride), (&b"quic"[..], 4, 4));
        }
        assert!(open(&[0; HEAD]).is_none() && open(&[0; 3]).is_none());
    }
}
