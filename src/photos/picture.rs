//! Pictures: whatever a member uploads becomes a JPEG of at most 512 pixels a side, without its metadata.
//!
//! Nothing of the upload but its pixels gets through: they are decoded, and a new file is written from them.

use std::io::Cursor;

use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    imageops::FilterType, metadata::Orientation,
};
use protocol::limits::{PHOTO_MAX_SIDE, PHOTO_UPLOAD_MAX_PIXELS, PHOTO_UPLOAD_MAX_SIDE};

/// The quality of the JPEGs, of 100.
const QUALITY: u8 = 85;
/// Most memory for the decoded pixels of one upload, in bytes: 32 megapixels of 4 bytes, or 24 of 8.
const DECODED_MAX_BYTES: u64 = 192 * 1024 * 1024;

/// Why an upload is no picture that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The content is of another kind, whatever its name or content type says.
    #[error("it is no JPEG, PNG or WebP picture")]
    NotAPicture,
    /// The end is missing.
    #[error("it is cut short")]
    CutShort,
    /// Decoding it would take too much.
    #[error("it may have at most 12,000 pixels a side and 32 megapixels")]
    TooManyPixels,
    /// It cannot be decoded.
    #[error("it is damaged")]
    Damaged,
}

impl From<ImageError> for Unusable {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooManyPixels,
            ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Self::CutShort,
            _ => Self::Damaged,
        }
    }
}

/// Makes the portrait of an uploaded picture: upright, at most 512 pixels a side and never larger than it was, on white
/// where it is transparent, as a JPEG. Takes up to a second of a processor: not for the threads of the runtime.
///
/// # Errors
/// When the upload is no picture that can be used.
pub fn portrait(upload: &[u8]) -> Result<Vec<u8>, Unusable> {
    let Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) = image::guess_format(upload) else {
        return Err(Unusable::NotAPicture);
    };
    // The decoder fills the missing part of a JPEG with grey.
    if format == ImageFormat::Jpeg && !has_end(upload) {
        return Err(Unusable::CutShort);
    }
    let (image, orientation) = decode(upload, format)?;
    let mut image = fit(on_white(image));
    image.apply_orientation(orientation);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&image.to_rgb8())?;
    Ok(jpeg)
}

fn decode(upload: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), Unusable> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(PHOTO_UPLOAD_MAX_SIDE);
    limits.max_image_height = Some(PHOTO_UPLOAD_MAX_SIDE);
    limits.max_alloc = Some(DECODED_MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(upload), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PHOTO_UPLOAD_MAX_PIXELS || decoder.total_bytes() > DECODED_MAX_BYTES {
        return Err(Unusable::TooManyPixels);
    }
    // Metadata that cannot be read says nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder)?, orientation))
}

/// Puts what is transparent on white: JPEG has no transparency, and scaling would mix hidden colours in.
fn on_white(image: DynamicImage) -> DynamicImage {
    if !image.color().has_alpha() {
        return image;
    }
    let mut image = image.into_rgba8();
    for pixel in image.pixels_mut() {
        let [colors @ .., alpha] = &mut pixel.0;
        for color in colors {
            *color = over_white(*color, *alpha);
        }
        *alpha = u8::MAX;
    }
    image.into()
}

fn over_white(color: u8, alpha: u8) -> u8 {
    let (color, alpha) = (u16::from(color), u16::from(alpha));
    // At most 255: a mean of two values that are.
    u8::try_from((color * alpha + 255 * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX)
}

/// Scales down to the largest size that is served. Halves roughly first where there is far too much: it looks the same
/// and takes a fraction of the time.
fn fit(image: DynamicImage) -> DynamicImage {
    let side = image.width().max(image.height());
    if side <= PHOTO_MAX_SIDE {
        return image;
    }
    let rough = 3 * PHOTO_MAX_SIDE;
    let image = if side > rough { image.thumbnail(rough, rough) } else { image };
    image.resize(PHOTO_MAX_SIDE, PHOTO_MAX_SIDE, FilterType::Lanczos3)
}

/// Whether a JPEG has its end (ITU-T T.81, annex B). What is within a segment, such as a small picture in the EXIF data,
/// does not count.
fn has_end(jpeg: &[u8]) -> bool {
    const FIRST_WITHOUT_LENGTH: u8 = 0xd0;
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    let mut rest = jpeg;
    loop {
        // Within the pixels, 0xff is followed by 0x00; before a marker, it may be repeated.
        let marker = rest.windows(2).position(|pair| matches!(pair, [0xff, marker] if !matches!(marker, 0x00 | 0xff)));
        let Some([_, marker, after @ ..]) = marker.and_then(|at| rest.get(at..)) else { return false };
        rest = match marker {
            &END => return true,
            0x01 | FIRST_WITHOUT_LENGTH..=START => after,
            _ => {
                let Some([high, low]) = after.first_chunk() else { return false };
                let Some(next) = after.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
                next
            }
        };
    }
}

#[cfg(test)]
mod tests;
