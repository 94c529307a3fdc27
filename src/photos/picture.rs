//! Pictures: whatever a member uploads becomes a JPEG of at most 512 pixels a side, without its metadata.
//!
//! Nothing of the upload but its pixels gets through: they are decoded, and a new file is written from them.

use std::io::Cursor;

use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, codecs::jpeg::JpegEncoder,
    imageops::FilterType, metadata::Orientation,
};
use protocol::limits::{PHOTO_MAX_SIDE, PHOTO_UPLOAD_MAX_PIXELS, PHOTO_UPLOAD_MAX_SIDE};

/// The quality of the JPEGs, of 100.
const QUALITY: u8 = 85;
/// Most memory for decoding, in bytes: 32 megapixels of 4 bytes and what scaling takes, or 16 of a progressive JPEG.
/// [`super::portraits`] keeps what is decoded at the same time within it, so no single upload may take more.
pub const MEMORY_MAX: u64 = 160 * 1024 * 1024;
/// What scaling takes beside the decoded pixels, in bytes.
const SCALING_BYTES: u64 = 16 * 1024 * 1024;

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
    #[error("it may have at most 12,000 pixels a side and 32 megapixels, and take at most 160 MiB of memory")]
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

/// How much memory making the portrait of an upload takes at most, in bytes, [`MEMORY_MAX`] or less. Reads the head of the
/// picture only.
///
/// # Errors
/// When the upload is no picture that can be used, as far as its head says.
pub fn memory(upload: &[u8]) -> Result<u64, Unusable> {
    let format = format_of(upload)?;
    // The decoder fills the missing part of a JPEG with grey.
    if format == ImageFormat::Jpeg && !has_end(upload) {
        return Err(Unusable::CutShort);
    }
    let decoder = decoder(upload, format)?;
    let (width, height) = decoder.dimensions();
    let (pixels, color) = (u64::from(width) * u64::from(height), decoder.color_type());
    if pixels > PHOTO_UPLOAD_MAX_PIXELS {
        return Err(Unusable::TooManyPixels);
    }
    let of_decoder = match format {
        // The coefficients of the whole picture: two bytes for each of at least three components.
        ImageFormat::Jpeg if is_progressive(upload) => 2 * u64::from(color.channel_count().max(3)),
        // A picture of its own, before it is copied.
        ImageFormat::WebP => 4,
        _ => 0,
    };
    let of_alpha = if color.has_alpha() && color != ColorType::Rgba8 { 4 } else { 0 };
    let needed = decoder.total_bytes().saturating_add(pixels * (of_decoder + of_alpha)).saturating_add(SCALING_BYTES);
    if needed > MEMORY_MAX { Err(Unusable::TooManyPixels) } else { Ok(needed) }
}

fn format_of(upload: &[u8]) -> Result<ImageFormat, Unusable> {
    match image::guess_format(upload) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) => Ok(format),
        _ => Err(Unusable::NotAPicture),
    }
}

/// Makes the portrait of an uploaded picture: upright, at most 512 pixels a side and never larger than it was, on white
/// where it is transparent, as a JPEG. Takes up to a second of a processor: not for the threads of the runtime.
///
/// # Errors
/// When the upload is no picture that can be used.
pub fn portrait(upload: &[u8]) -> Result<Vec<u8>, Unusable> {
    memory(upload)?;
    let format = format_of(upload)?;
    let (image, orientation) = decode(upload, format)?;
    let mut image = fit(on_white(image));
    image.apply_orientation(orientation);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&image.to_rgb8())?;
    Ok(jpeg)
}

fn decoder(upload: &[u8], format: ImageFormat) -> Result<impl ImageDecoder, Unusable> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(PHOTO_UPLOAD_MAX_SIDE);
    limits.max_image_height = Some(PHOTO_UPLOAD_MAX_SIDE);
    limits.max_alloc = Some(MEMORY_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(upload), format);
    reader.limits(limits);
    Ok(reader.into_decoder()?)
}

fn decode(upload: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), Unusable> {
    let mut decoder = decoder(upload, format)?;
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

/// Whether a JPEG has its end (ITU-T T.81, annex B).
fn has_end(jpeg: &[u8]) -> bool {
    const END: u8 = 0xd9;
    markers(jpeg).any(|marker| marker == END)
}

/// Whether a JPEG is progressive: its frame begins with SOF2 or one of its kin.
fn is_progressive(jpeg: &[u8]) -> bool {
    markers(jpeg).any(|marker| matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce))
}

/// The markers of a JPEG (ITU-T T.81, annex B). What is within a segment, such as a small picture in the EXIF data, does
/// not count.
fn markers(jpeg: &[u8]) -> impl Iterator<Item = u8> {
    const FIRST_WITHOUT_LENGTH: u8 = 0xd0;
    const LAST_WITHOUT_LENGTH: u8 = 0xd9;
    let mut rest = Some(jpeg);
    std::iter::from_fn(move || {
        let within = rest?;
        // Within the pixels, 0xff is followed by 0x00; before a marker, it may be repeated.
        let at = within.windows(2).position(|pair| matches!(pair, [0xff, marker] if !matches!(marker, 0x00 | 0xff)))?;
        let Some([_, marker, after @ ..]) = within.get(at..) else { return None };
        rest = match marker {
            0x01 | FIRST_WITHOUT_LENGTH..=LAST_WITHOUT_LENGTH => Some(after),
            _ => {
                let length = after.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
                length.and_then(|length| after.get(length..))
            }
        };
        Some(*marker)
    })
}

#[cfg(test)]
mod tests;
