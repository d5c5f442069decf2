//! A row of elements between two of our threads: an `appsrc` that blocks when it is full, and an
//! `appsink` that does. There are no callbacks and no probes, so that none of our code runs in
//! GStreamer's threads.

use bytes::Bytes;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSrc};

use crate::Error;

/// The input. The caller sets the timestamps of buffers.
pub(crate) fn source(caps: &gst::Caps, max_buffers: u64) -> AppSrc {
    AppSrc::builder()
        .caps(caps)
        .format(gst::Format::Time)
        .block(true)
        .max_buffers(max_buffers)
        // The limit is the number of buffers, because their sizes vary with the picture.
        .max_bytes(0)
        .build()
}

/// The output, which does not synchronise to a clock.
pub(crate) fn sink(max_buffers: u32) -> AppSink {
    AppSink::builder()
        // The output is read as fast as possible. The pipeline neither waits for a preroll nor
        // keeps the last sample, which would hold a picture in memory.
        .sync(false)
        .async_(false)
        .qos(false)
        .enable_last_sample(false)
        .max_buffers(max_buffers)
        .build()
}

/// A capsfilter between two elements.
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
    // Sinks before sources.
    for element in elements.iter().rev() {
        element.sync_state_with_parent()?;
    }
    Ok(())
}

/// Stops `elements` and removes them from `pipeline`.
///
/// # Errors
/// [`Error::Build`], [`Error::Play`].
pub(crate) fn remove(pipeline: &gst::Pipeline, elements: &[gst::Element]) -> Result<(), Error> {
    for element in elements {
        element.set_state(gst::State::Null)?;
    }
    Ok(pipeline.remove_many(elements)?)
}

/// Pushes a buffer, waiting for room.
///
/// # Errors
/// [`Error::Flow`]: the chain has failed; the bus has the reason.
pub(crate) fn push(source: &AppSrc, buffer: gst::Buffer) -> Result<(), Error> {
    source.push_buffer(buffer).map(|_| ()).map_err(Error::Flow)
}

/// Ends the input: the chain outputs everything that it holds.
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
