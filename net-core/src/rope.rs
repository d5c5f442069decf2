//! Bytes in pieces that are written to a socket as they are, never joined: for example the header
//! of a part of media and its samples.

use std::{io::IoSlice, sync::Arc};

use bytes::{Buf, Bytes};

/// Memory of a piece beside its bytes and its place in a row: its reference count, and the
/// allocator's share of both.
const PIECE_BYTES: usize = 64;

/// An immutable row of byte pieces. Cheap to clone: all clones share the row. As a [`Buf`] it is
/// read from the front, and hands out all its pieces for one vectored write.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    pieces: Arc<[Bytes]>,
    /// The first piece that is not read to its end.
    piece: usize,
    /// How much of that piece is read.
    offset: usize,
    /// Bytes left; the last piece may be cut short by it.
    remaining: usize,
}

impl Rope {
    /// A rope of `pieces`; empty ones are passed over. One allocation, if the iterator's length is
    /// known.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces: Arc<[Bytes]> = pieces.into_iter().collect();
        let remaining = pieces.iter().map(Bytes::len).sum();
        let mut rope = Self { pieces, piece: 0, offset: 0, remaining };
        rope.advance(0); // past empty pieces at the front
        rope
    }

    /// The pieces of `ropes`, one after the other; no byte is copied. One allocation: they are
    /// counted first.
    pub fn concat<'a>(ropes: impl IntoIterator<Item = &'a Rope, IntoIter: Clone>) -> Self {
        let ropes = ropes.into_iter();
        // An exact length lets `collect` allocate the shared slice once. A rope may end before its
        // last piece, so that some pieces of the count are empty.
        let most = ropes.clone().map(|rope| rope.pieces.len() - rope.piece).sum();
        let mut pieces = ropes.flat_map(Rope::pieces);
        Self::new((0..most).map(|_| pieces.next().unwrap_or_default()))
    }

    /// Bytes left to read.
    pub fn len(&self) -> usize {
        self.remaining
    }

    /// Memory in use: the row of pieces, and if `payload` also their bytes and bookkeeping.
    pub fn held_bytes(&self, payload: bool) -> usize {
        // An estimate for budgets: the allocator's real overhead is not known.
        let row = self.pieces.len() * size_of::<Bytes>() + PIECE_BYTES;
        match payload {
            true => row + self.remaining + self.pieces.len() * PIECE_BYTES,
            false => row,
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// The unread pieces.
    pub fn pieces(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut rest = self.clone();
        std::iter::from_fn(move || {
            let piece = rest.first()?;
            rest.advance(piece.len());
            Some(piece)
        })
    }

    /// `len` bytes from `start`, sharing the row; as much of it as there is.
    pub fn slice(&self, start: usize, len: usize) -> Self {
        let mut slice = self.clone();
        slice.advance(start.min(self.remaining));
        slice.remaining = slice.remaining.min(len);
        slice
    }

    /// One buffer with all of it: a copy, for tests and for callers that need contiguous bytes.
    pub fn to_bytes(&self) -> Bytes {
        self.clone().copy_to_bytes(self.remaining)
    }

    /// The rest of the first unread piece, sharing it.
    fn first(&self) -> Option<Bytes> {
        let piece = self.pieces.get(self.piece).filter(|_| self.remaining > 0)?;
        let end = piece.len().min(self.offset + self.remaining);
        Some(piece.slice(self.offset..end))
    }
}

impl From<Bytes> for Rope {
    fn from(piece: Bytes) -> Self {
        Self::new([piece])
    }
}

impl Buf for Rope {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        match self.pieces.get(self.piece) {
            Some(piece) => &piece[self.offset..piece.len().min(self.offset + self.remaining)],
            None => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        // Empty pieces are skipped: a vectored write must not begin with them.
        let (mut offset, mut remaining, mut count) = (self.offset, self.remaining, 0);
        let pieces = self.pieces.iter().skip(self.piece).filter(|piece| !piece.is_empty());
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            if remaining == 0 {
                break;
            }
            let part = &piece[offset..piece.len().min(offset + remaining)];
            *slice = IoSlice::new(part);
            remaining -= part.len();
            offset = 0;
            count += 1;
        }
        count
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining, "advance by {count} of {}", self.remaining);
        self.remaining -= count;
        self.offset += count;
        // Also passes empty pieces, so that `chunk` is empty only at the end, as `Buf` requires.
        while let Some(piece) = self.pieces.get(self.piece)
            && self.offset >= piece.len()
        {
            self.offset -= piece.len();
            self.piece += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope() -> Rope {
        Rope::new([
            Bytes::from_static(b"one"),
            Bytes::new(),
            Bytes::from_static(b"two"),
            Bytes::from_static(b"three"),
        ])
    }

    #[test]
    fn pieces_are_shared_not_copied() {
        let rope = rope();
        let first = rope.pieces().next().unwrap();
        assert_eq!(first.as_ptr(), rope.pieces[0].as_ptr());
        let joined = Rope::concat([&rope, &rope]);
        assert_eq!(joined.to_bytes(), "onetwothreeonetwothree");
        assert_eq!(joined.pieces().nth(3).unwrap().as_ptr(), first.as_ptr());
    }

    #[test]
    fn one_vectored_read_returns_all_pieces_of_a_slice() {
        let slice = rope().slice(2, 6);
        let mut slices = [IoSlice::new(&[]); 8];
        let count = slice.chunks_vectored(&mut slices);
        let parts: Vec<&[u8]> = slices[..count].iter().map(|slice| &**slice).collect();
        assert_eq!(parts, [&b"e"[..], b"two", b"th"]);
    }

    #[test]
    fn empty_pieces_are_skipped() {
        let rope = Rope::new([Bytes::new(), Bytes::from_static(b"one"), Bytes::new()]);
        assert_eq!((rope.chunk(), rope.pieces().count()), (&b"one"[..], 1));
        assert!(Rope::new([Bytes::new()]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn a_slice_read_in_steps_of_any_size_has_its_bytes(
            start in 0usize..14, len in 0usize..14, step in 1usize..5,
        ) {
            let all = b"onetwothree";
            let mut slice = rope().slice(start, len);
            let wanted = &all[start.min(11)..(start + len).min(11)];
            proptest::prop_assert_eq!(slice.len(), wanted.len());
            let mut read = Vec::new();
            while slice.has_remaining() {
                let chunk = slice.chunk();
                let n = chunk.len().min(step);
                read.extend_from_slice(&chunk[..n]);
                slice.advance(n);
            }
            proptest::prop_assert_eq!(&read, wanted);
        }
    }
}
