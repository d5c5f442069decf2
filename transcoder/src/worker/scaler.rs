//! Pictures to a rendition's size, plane by plane.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedCroppedImage, TypedCroppedImageMut, TypedImage, TypedImageRef},
    pixels::U8,
};
use gstreamer as gst;
use gstreamer_video::{VideoFrame, VideoFrameExt, VideoFrameRef, video_frame::Readable};

use crate::Error;

/// Luma and two of chroma.
const PLANES: u32 = 3;

/// Scales I420 to I420.
#[derive(Debug)]
pub(super) struct Scaler {
    resizer: Resizer,
    options: ResizeOptions,
}

impl Scaler {
    pub(super) fn new() -> Self {
        Self {
            resizer: Resizer::new(),
            options: ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)),
        }
    }

    /// Fills `to` with `from`.
    ///
    /// # Errors
    /// [`Error::Scale`]: a picture is not what its caps say.
    pub(super) fn scale(
        &mut self,
        from: &VideoFrame<Readable>,
        to: &mut VideoFrameRef<&mut gst::BufferRef>,
    ) -> Result<(), Error> {
        for plane in 0..PLANES {
            let (width, height) = (from.comp_width(plane), from.comp_height(plane));
            let stride = stride(from.plane_stride(), plane)?;
            let image = TypedImageRef::<U8>::from_buffer(stride, height, from.plane_data(plane)?);
            let image = image.map_err(|_| Error::Scale)?;
            let image = TypedCroppedImage::new(image, 0, 0, width, height).map_err(|_| Error::Scale)?;

            let (width, height) = (to.comp_width(plane), to.comp_height(plane));
            let stride = self::stride(to.plane_stride(), plane)?;
            let scaled = TypedImage::<U8>::from_buffer(stride, height, to.plane_data_mut(plane)?);
            let scaled = scaled.map_err(|_| Error::Scale)?;
            let mut scaled = TypedCroppedImageMut::new(scaled, 0, 0, width, height).map_err(|_| Error::Scale)?;
            self.resizer
                .resize_typed(&image, &mut scaled, &self.options)
                .map_err(|_| Error::Scale)?;
        }
        Ok(())
    }
}

fn stride(strides: &[i32], plane: u32) -> Result<u32, Error> {
    let stride = usize::try_from(plane).ok().and_then(|plane| strides.get(plane));
    stride
        .and_then(|&stride| u32::try_from(stride).ok())
        .ok_or(Error::Scale)
}
