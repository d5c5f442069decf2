//! Allocations of the data plane: a counting allocator around the chunk reader and the tag parser.
//! The allocator is unsafe code, because `GlobalAlloc` is an unsafe trait.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering},
};

use ingest_rtmp::{
    chunk::{Limits, Reader},
    flv::{self, Tag},
};

struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller meets the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller meets the contract of `dealloc`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // A move allocates the whole size.
        ALLOCATED.fetch_add(size as u64, Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller meets the contract of `realloc`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A message in chunks of `chunk` bytes.
fn write(out: &mut Vec<u8>, csid: u8, kind: u8, ms: u32, body: &[u8], chunk: usize) {
    out.push(csid);
    out.extend(&ms.to_be_bytes()[1..]);
    out.extend(&u32::try_from(body.len()).expect("a short body").to_be_bytes()[1..]);
    out.push(kind);
    out.extend(1u32.to_le_bytes());
    for (n, body) in body.chunks(chunk).enumerate() {
        if n > 0 {
            out.push(0xc0 | csid);
        }
        out.extend(body);
    }
}

/// 20 s of 30 frames a second with a key frame of `key` bytes every 2 s, and AAC of 128 kbit/s.
fn stream(key: usize, chunk: usize) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
    out.extend(u32::try_from(chunk).expect("a short chunk").to_be_bytes());
    for n in 0..600u32 {
        let len = if n % 60 == 0 { key } else { 9_000 + n as usize % 7 * 500 };
        let mut video = vec![0u8; len];
        video[..5].copy_from_slice(&[0x27, 1, 0, 0, 0]);
        write(&mut out, 6, 9, n * 33, &video, chunk);
        let mut audio = [0u8; 341];
        audio[..2].copy_from_slice(&[0xaf, 1]);
        write(&mut out, 4, 8, n * 33, &audio, chunk);
    }
    out
}

#[test]
fn a_payload_byte_costs_at_most_1_06_allocated_bytes_and_a_message_one_allocation() {
    for chunk in [128, 4_096, 65_536] {
        for key in [60_000, 200_000, 400_000] {
            let bytes = stream(key, chunk);
            let mut reader = Reader::new(Limits { message_bytes: 8 << 20, ..Limits::SETUP });
            let mut buffer = Vec::with_capacity(128 << 10);
            let (mut payload, mut messages) = (0, 0);
            let before = (ALLOCATED.load(Ordering::Relaxed), CALLS.load(Ordering::Relaxed));
            // In reads of some kilobytes, as from a socket.
            for read in bytes.chunks(14_480) {
                buffer.extend_from_slice(read);
                let mut rest = &buffer[..];
                while let Some(message) = reader.read(&mut rest).unwrap() {
                    let tag = if message.kind == 9 {
                        flv::parse_video(message.payload)
                    } else {
                        flv::parse_audio(message.payload)
                    };
                    let Ok(Tag::Frame { payload: frame, .. }) = tag else { panic!("{tag:?}") };
                    payload += frame.len() as u64;
                    messages += 1;
                }
                let used = buffer.len() - rest.len();
                buffer.drain(..used);
            }
            let allocated = ALLOCATED.load(Ordering::Relaxed) - before.0;
            let calls = CALLS.load(Ordering::Relaxed) - before.1;
            assert_eq!(messages, 1_200);
            let each = allocated as f64 / payload as f64;
            println!(
                "chunks of {chunk}, key frames of {key}: {each:.3} bytes a byte, {calls} calls"
            );
            assert!(each <= 1.06, "chunks of {chunk}, key frames of {key}: {each:.3}");
            assert!(calls <= messages + 200, "{calls} calls for {messages} messages");
        }
    }
}
