//! Typed tables over [`Rows`]. Keys keep the order of their values, so that ranges and cursors
//! work; values are postcard, because tables can be built again from the log.

use std::{marker::PhantomData, ops::Bound};

use serde::{Serialize, de::DeserializeOwned};

use crate::rows::{Fault, Order, Rows, RowsMut};

/// A value that is a key, or a part of one: its bytes sort as the values do, and no encoding is the
/// beginning of another.
pub trait Key: Sized {
    /// Appends the bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads the value, and moves `bytes` behind it. `None` if they are not a value.
    fn parse(bytes: &mut &[u8]) -> Option<Self>;
}

impl Key for u64 {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    fn parse(bytes: &mut &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(Self::from_be_bytes(*number))
    }
}

impl Key for [u8; 32] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn parse(bytes: &mut &[u8]) -> Option<Self> {
        let (digest, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(*digest)
    }
}

/// Ends with two zero bytes; a zero byte within is followed by 255, so that order is kept whatever
/// follows in the key.
impl Key for String {
    fn write(&self, out: &mut Vec<u8>) {
        write_text(self, out);
        out.extend_from_slice(&[0, 0]);
    }

    fn parse(bytes: &mut &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        loop {
            let end = bytes.iter().position(|&byte| byte == 0)?;
            text.extend_from_slice(&bytes[..end]);
            *bytes = &bytes[end + 1..];
            let (mark, rest) = bytes.split_first()?;
            *bytes = rest;
            match mark {
                0 => return Self::from_utf8(text).ok(),
                0xFF => text.push(0),
                _ => return None,
            }
        }
    }
}

macro_rules! tuple_keys {
    ($(($($name:ident $index:tt),+)),+) => {$(
        impl<$($name: Key),+> Key for ($($name,)+) {
            fn write(&self, out: &mut Vec<u8>) {
                $(self.$index.write(out);)+
            }

            fn parse(bytes: &mut &[u8]) -> Option<Self> {
                Some(($($name::parse(bytes)?,)+))
            }
        }
    )+};
}

tuple_keys!((A 0), (A 0, B 1), (A 0, B 1, C 2));

/// A table: its name, and the types of its keys and values. One feature owns it, and only this
/// feature's fold writes it.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Serialize + DeserializeOwned> Table<K, V> {
    /// A table of this name, which begins with its feature's.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The table's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The value at a key.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Row`].
    pub fn get(&self, rows: &(impl Rows + ?Sized), key: &K) -> Result<Option<V>, Fault> {
        rows.get(self.name, &bytes(key))?.map(|value| self.value(&value)).transpose()
    }

    /// Whether there is a row at a key.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn contains(&self, rows: &(impl Rows + ?Sized), key: &K) -> Result<bool, Fault> {
        Ok(rows.get(self.name, &bytes(key))?.is_some())
    }

    /// At most `limit` rows whose keys begin with `prefix`, in this order, behind the key `after`.
    /// The unit `()` is the prefix of all keys.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Row`].
    pub fn page(
        &self,
        rows: &(impl Rows + ?Sized),
        prefix: &impl Prefix<K>,
        after: Option<&K>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(K, V)>, Fault> {
        let mut start = Vec::new();
        prefix.write_prefix(&mut start);
        let end = successor(&start);
        let after = after.map(bytes);
        let lower = Bound::Included(start.as_slice());
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let keys = match (&after, order) {
            (None, _) => (lower, upper),
            // A cursor outside the prefix's range must not reach rows of another prefix.
            (Some(after), Order::Up) if *after < start => (lower, upper),
            (Some(after), Order::Up) => (Bound::Excluded(after.as_slice()), upper),
            (Some(after), Order::Down) if end.as_ref().is_some_and(|end| after >= end) => {
                (lower, upper)
            }
            (Some(after), Order::Down) => (lower, Bound::Excluded(after.as_slice())),
        };
        let rows = rows.range(self.name, keys, order, limit)?;
        rows.iter().map(|(key, value)| self.row(key, value)).collect()
    }

    /// Sets the value at a key.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn put(&self, rows: &mut (impl RowsMut + ?Sized), key: &K, value: &V) -> Result<(), Fault> {
        // Postcard refuses types without a length alone, and none of ours is one.
        let value = postcard::to_allocvec(value).map_err(|_| Fault::Row { table: self.name })?;
        rows.put(self.name, &bytes(key), &value)
    }

    /// Changes the value at a key, if there is one.
    ///
    /// # Errors
    /// [`Fault::Storage`], [`Fault::Row`].
    pub fn change(
        &self,
        rows: &mut (impl RowsMut + ?Sized),
        key: &K,
        change: impl FnOnce(&mut V),
    ) -> Result<(), Fault> {
        let Some(mut value) = self.get(rows, key)? else { return Ok(()) };
        change(&mut value);
        self.put(rows, key, &value)
    }

    /// Removes the row at a key, if there is one.
    ///
    /// # Errors
    /// [`Fault::Storage`].
    pub fn remove(&self, rows: &mut (impl RowsMut + ?Sized), key: &K) -> Result<(), Fault> {
        rows.remove(self.name, &bytes(key))
    }

    fn row(&self, mut key: &[u8], value: &[u8]) -> Result<(K, V), Fault> {
        let fault = Fault::Row { table: self.name };
        match K::parse(&mut key) {
            Some(parsed) if key.is_empty() => Ok((parsed, self.value(value)?)),
            _ => Err(fault),
        }
    }

    fn value(&self, value: &[u8]) -> Result<V, Fault> {
        postcard::from_bytes(value).map_err(|_| Fault::Row { table: self.name })
    }
}

/// The first parts of a key.
pub trait Prefix<K> {
    /// Appends the bytes with which such keys begin.
    fn write_prefix(&self, out: &mut Vec<u8>);
}

impl<K> Prefix<K> for () {
    fn write_prefix(&self, _: &mut Vec<u8>) {}
}

impl<A: Key, B> Prefix<(A, B)> for A {
    fn write_prefix(&self, out: &mut Vec<u8>) {
        self.write(out);
    }
}

impl<A: Key, B, C> Prefix<(A, B, C)> for A {
    fn write_prefix(&self, out: &mut Vec<u8>) {
        self.write(out);
    }
}

/// The beginning of a text: the prefix of all keys whose first part begins with it.
#[derive(Debug, Clone, Copy)]
pub struct Beginning<'a>(pub &'a str);

impl Prefix<String> for Beginning<'_> {
    fn write_prefix(&self, out: &mut Vec<u8>) {
        write_text(self.0, out);
    }
}

impl<B> Prefix<(String, B)> for Beginning<'_> {
    fn write_prefix(&self, out: &mut Vec<u8>) {
        write_text(self.0, out);
    }
}

/// Appends a text without its end.
fn write_text(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
}

fn bytes(key: &impl Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    key.write(&mut out);
    out
}

/// The first key behind all keys that begin with `prefix`; `None` if there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests;
