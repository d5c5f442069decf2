//! Scales pictures to a rendition's size.

use gstreamer as gst;
use gstreamer_video::{VideoFrame, VideoFrameExt, VideoFrameRef, video_frame::Readable};

use super::plane::{Filter, Plane};
use crate::Error;

/// Luma and two chroma planes.
const PLANES: u32 = 3;

/// Scales I420 to I420, of any sizes.
#[derive(Debug, Default)]
pub(super) struct Scaler {
    /// A filter for each plane, and its sizes.
    filters: Vec<((Size, Size), Filter)>,
}

/// Width and height.
type Size = (usize, usize);

impl Scaler {
    /// Fills `to` with `from`.
    ///
    /// # Errors
    /// [`Error::Scale`]: a picture does not match its caps.
    pub(super) fn scale(
        &mut self,
        from: &VideoFrame<Readable>,
        to: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<(), Error> {
        for plane in 0..PLANES {
            let from = shape(from, plane)?.with(from.plane_data(plane)?);
            let mut to = shape(to, plane)?.with(to.plane_data_mut(plane)?);
            // Checked here, because a plane that is shorter than its size would make the filter
            // panic.
            if !from.is_whole() || !to.is_whole() {
                return Err(Error::Scale);
            }
            let sizes = ((from.width, from.height), (to.width, to.height));
            self.filter(plane, sizes).scale(&from, &mut to);
        }
        Ok(())
    }

    /// The filter for a plane. Its coefficients depend only on the sizes, so it is kept.
    fn filter(&mut self, plane: u32, sizes: (Size, Size)) -> &mut Filter {
        let number = plane as usize;
        if self.filters.get(number).is_none_or(|(made_for, _)| *made_for != sizes) {
            // The first filter with another size; it and those after it are created again on
            // demand.
            self.filters.truncate(number);
            self.filters.push((sizes, Filter::new(sizes.0, sizes.1)));
        }
        &mut self.filters[number].1
    }
}

/// A plane without its samples.
fn shape(frame: &impl VideoFrameExt, plane: u32) -> Result<Plane<()>, Error> {
    let size = |size: u32| usize::try_from(size).map_err(|_| Error::Scale);
    let stride = frame.plane_stride().get(plane as usize).ok_or(Error::Scale)?;
    Ok(Plane {
        samples: (),
        width: size(frame.comp_width(plane))?,
        height: size(frame.comp_height(plane))?,
        stride: usize::try_from(*stride).map_err(|_| Error::Scale)?,
    })
}
