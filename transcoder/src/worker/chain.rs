//! A row of elements between two threads of ours: an `appsrc` that blocks when it is full, and an `appsink` that does. No callbacks and no
//! probes: nothing of ours runs inside GStreamer's threads.

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};

use crate::Error;

/// The way in. Buffers are stamped by who pushes them.
pub(crate) fn source(caps: &gst::Caps, max_buffers: u64) -> AppSrc {
    AppSrc::builder()
        .caps(caps)
        .format(gst::Format::Time)
        .block(true)
        .max_buffers(max_buffers)
        .max_bytes(0)
        .build()
}

/// The way out: as fast as it is taken.
pub(crate) fn sink(max_buffers: u32) -> AppSink {
    AppSink::builder()
        .sync(false)
        .async_(false)
        .qos(false)
        .enable_last_sample(false)
        .max_buffers(max_buffers)
        .build()
}

/// What passes between two elements.
///
/// # Errors
/// [`Error::Build`].
pub(crate) fn filter(caps: gst::Caps) -> Result<gst::Element, Error> {
    Ok(gst::ElementFactory::make("capsfilter").property("caps", caps).build()?)
}

/// Links `elements` in a playing `pipeline` and starts them.
///
/// # Errors
/// [`Error::Build`].
pub(crate) fn add(pipeline: &gst::Pipeline, elements: &[&gst::Element]) -> Result<(), Error> {
    pipeline.add_many(elements)?;
    gst::Element::link_many(elements)?;
    // Those that take before those that give.
    for element in elements.iter().rev() {
        element.sync_state_with_parent()?;
    }
    Ok(())
}

/// Stops `elements` and takes them out of `pipeline`.
///
/// # Errors
/// [`Error::Build`], [`Error::Play`].
pub(crate) fn remove(pipeline: &gst::Pipeline, elements: &[gst::Element]) -> Result<(), Error> {
    for element in elements {
        element.set_state(gst::State::Null)?;
    }
    Ok(pipeline.remove_many(elements)?)
}

/// Puts a buffer in, when there is room.
///
/// # Errors
/// [`Error::Flow`]: the chain has failed; the bus says why.
pub(crate) fn push(source: &AppSrc, buffer: gst::Buffer) -> Result<(), Error> {
    source.push_buffer(buffer).map(|_| ()).map_err(Error::Flow)
}

/// Nothing follows: what is in the chain comes out.
///
/// # Errors
/// As [`push`].
pub(crate) fn finish(source: &AppSrc) -> Result<(), Error> {
    source.end_of_stream().map(|_| ()).map_err(Error::Flow)
}

/// The codec's configuration in the caps of `sample`.
pub(crate) fn record(sample: &gst::Sample) -> Option<Bytes> {
    let record = sample.caps()?.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    let record = record.map_readable().ok()?;
    Some(Bytes::copy_from_slice(&record))
}

/// A buffer's bytes, not copied.
///
/// # Errors
/// [`Error::Build`]: its memory cannot be read.
pub(crate) fn bytes(buffer: gst::Buffer) -> Result<Bytes, Error> {
    struct Mapped(gst::buffer::MappedBuffer<gst::buffer::Readable>);
    impl AsRef<[u8]> for Mapped {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    let mapped = buffer
        .into_mapped_buffer_readable()
        .map_err(|_| gst::glib::bool_error!("a buffer cannot be read"))?;
    Ok(Bytes::from_owner(Mapped(mapped)))
}
