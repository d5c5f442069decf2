//! The packages from which operators install the elements.

/// The Debian packages that contain all elements.
pub const PACKAGES: &str = "gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
                            gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav";
