use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage, codecs::jpeg::JpegDecoder};

use super::*;

const RED: Rgb<u8> = Rgb([200, 30, 30]);
const BLUE: Rgb<u8> = Rgb([30, 30, 200]);

/// Red on the left, blue on the right.
fn red_and_blue(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { RED } else { BLUE })
}

/// Something that does not compress to nothing.
fn pattern(width: u32, height: u32) -> RgbImage {
    let wave = |x: u32, y: u32| u8::try_from((x * x + 3 * y * y + x * y) % 251).unwrap();
    RgbImage::from_fn(width, height, |x, y| Rgb([wave(x, y), wave(y, x), wave(x + y, 7)]))
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn decoded(jpeg: &[u8]) -> RgbImage {
    assert_eq!(image::guess_format(jpeg).unwrap(), ImageFormat::Jpeg);
    image::load_from_memory(jpeg).unwrap().into_rgb8()
}

/// A JPEG with an EXIF segment: upright after this orientation, and taken at a place.
fn with_exif(jpeg: &[u8], orientation: u16) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &value].concat()
    };
    let [low, high] = orientation.to_le_bytes();
    tiff.extend(2_u16.to_le_bytes());
    tiff.extend(entry(0x0112, 3, 1, [low, high, 0, 0]));
    tiff.extend(entry(0x8825, 4, 1, [38, 0, 0, 0]));
    tiff.extend(0_u32.to_le_bytes());
    // The GPS directory: the reference of the latitude, and the name of the place.
    tiff.extend(2_u16.to_le_bytes());
    tiff.extend(entry(0x0001, 2, 2, *b"N\0\0\0"));
    tiff.extend(entry(0x001b, 2, 18, [68, 0, 0, 0]));
    tiff.extend(0_u32.to_le_bytes());
    tiff.extend(b"Rua Secreta 7 GPS\0");
    // A small picture of its own, whose end is not that of the file.
    tiff.extend(encoded(red_and_blue(8, 8), ImageFormat::Jpeg));
    let length = u16::try_from(tiff.len() + 8).unwrap();
    let (start, rest) = jpeg.split_at(2);
    [start, &[0xff, 0xe1], &length.to_be_bytes(), b"Exif\0\0", &tiff, rest].concat()
}

fn is_near(found: Rgb<u8>, expected: Rgb<u8>) -> bool {
    found.0.iter().zip(expected.0).all(|(found, expected)| found.abs_diff(expected) < 24)
}

#[test]
fn every_format_becomes_a_jpeg_that_shows_the_same() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let image = decoded(&portrait(&encoded(red_and_blue(300, 200), format)).unwrap());
        assert_eq!(image.dimensions(), (300, 200), "{format:?}");
        assert!(is_near(*image.get_pixel(75, 100), RED) && is_near(*image.get_pixel(225, 100), BLUE), "{format:?}");
    }
    let gray = portrait(&encoded(GrayImage::from_pixel(40, 30, Luma([90])), ImageFormat::Png)).unwrap();
    assert!(is_near(*decoded(&gray).get_pixel(20, 15), Rgb([90, 90, 90])));
}

#[test]
fn large_ones_are_scaled_down_and_small_ones_stay() {
    for ((width, height), expected) in [
        ((2000, 1000), (512, 256)),
        ((1000, 2000), (256, 512)),
        ((700, 700), (512, 512)),
        ((512, 400), (512, 400)),
        ((1, 1), (1, 1)),
        ((12_000, 1), (512, 1)),
    ] {
        let image = decoded(&portrait(&encoded(red_and_blue(width, height), ImageFormat::Png)).unwrap());
        assert_eq!(image.dimensions(), expected, "{width}x{height}");
    }
}

#[test]
fn the_picture_is_upright_whichever_way_the_camera_was_held() {
    // Red is on the left of the file; where the orientation puts it.
    let top = |image: &RgbImage| *image.get_pixel(image.width() / 2, 10);
    let left = |image: &RgbImage| *image.get_pixel(10, image.height() / 2);
    let file = encoded(red_and_blue(1200, 600), ImageFormat::Jpeg);
    let shown = |orientation| decoded(&portrait(&with_exif(&file, orientation)).unwrap());
    assert_eq!((shown(1).dimensions(), shown(6).dimensions()), ((512, 256), (256, 512)));
    assert!(is_near(left(&shown(1)), RED));
    assert!(is_near(left(&shown(2)), BLUE));
    assert!(is_near(left(&shown(3)), BLUE));
    assert!(is_near(top(&shown(6)), RED));
    assert!(is_near(top(&shown(8)), BLUE));
    // There is no such orientation.
    assert!(is_near(left(&shown(99)), RED));
}

#[test]
fn nothing_of_the_metadata_survives() {
    let upload = with_exif(&encoded(red_and_blue(300, 200), ImageFormat::Jpeg), 1);
    let has = |file: &[u8], what: &[u8]| file.windows(what.len()).any(|part| part == what);
    assert!(has(&upload, b"Rua Secreta 7 GPS"));
    let jpeg = portrait(&upload).unwrap();
    assert!(!has(&jpeg, b"Rua Secreta") && !has(&jpeg, b"Exif"));
    let mut decoder = JpegDecoder::new(Cursor::new(&jpeg)).unwrap();
    assert_eq!(decoder.exif_metadata().unwrap(), None);
    assert_eq!(decoder.icc_profile().unwrap(), None);
    assert_eq!(decoder.xmp_metadata().unwrap(), None);
}

#[test]
fn what_is_transparent_is_white() {
    // Black that nobody sees, half-transparent red, and red.
    let colors = [Rgba([0, 0, 0, 0]), Rgba([255, 0, 0, 128]), Rgba([255, 0, 0, 255])];
    let image = RgbaImage::from_fn(1500, 600, |x, _| colors[usize::try_from(x / 500).unwrap()]);
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let shown = decoded(&portrait(&encoded(image.clone(), format)).unwrap());
        assert!(is_near(*shown.get_pixel(80, 100), Rgb([255, 255, 255])), "{format:?}");
        assert!(is_near(*shown.get_pixel(256, 100), Rgb([255, 127, 127])), "{format:?}");
        assert!(is_near(*shown.get_pixel(430, 100), Rgb([255, 0, 0])), "{format:?}");
        // No black from under the transparency at the edge.
        assert!((0..512).all(|x| shown.get_pixel(x, 100).0[0] > 225), "{format:?}");
    }
}

#[test]
fn a_file_that_is_cut_short_is_refused_wherever_it_ends() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let file = encoded(pattern(200, 200), format);
        assert!(portrait(&file).is_ok(), "{format:?}");
        for percent in 1..=99 {
            let cut = &file[..file.len() * percent / 100];
            assert!(portrait(cut).is_err(), "{format:?} at {percent} %");
        }
    }
    let jpeg = with_exif(&encoded(pattern(200, 200), ImageFormat::Jpeg), 1);
    assert!(portrait(&jpeg).is_ok());
    assert_eq!(portrait(&jpeg[..jpeg.len() - 2]), Err(Unusable::CutShort));
    assert_eq!(portrait(&jpeg[..jpeg.len() / 2]), Err(Unusable::CutShort));
}

#[test]
fn what_is_no_picture_is_refused() {
    let mut gif = b"GIF89a".to_vec();
    gif.resize(500, 0);
    for upload in [&b""[..], b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", &gif, &[0; 4096]] {
        assert_eq!(portrait(upload), Err(Unusable::NotAPicture));
    }
    let png = encoded(pattern(64, 64), ImageFormat::Png);
    let damaged: Vec<u8> = png.iter().enumerate().map(|(at, byte)| if at == 100 { !byte } else { *byte }).collect();
    assert_eq!(portrait(&damaged), Err(Unusable::Damaged));
    assert!(portrait(b"\x89PNG\r\n\x1a\nnothing").is_err());
    assert!(portrait(b"\xff\xd8\xff\xd9").is_err());
    assert!(portrait(b"RIFF\x04\0\0\0WEBPnothing").is_err());
}

#[test]
fn a_small_file_of_far_too_many_pixels_is_refused() {
    // 45 megapixels in 200 KB, all of one colour.
    let bomb = encoded(GrayImage::new(9_000, 5_000), ImageFormat::Png);
    assert!(bomb.len() < 500_000);
    assert_eq!(portrait(&bomb), Err(Unusable::TooManyPixels));
    let long = encoded(GrayImage::new(12_001, 1), ImageFormat::Png);
    assert_eq!(portrait(&long), Err(Unusable::TooManyPixels));

    // Files that only claim a size: PNG's header has it at a fixed place, JPEG's after the marker of the frame.
    let mut jpeg = encoded(red_and_blue(8, 8), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(portrait(&jpeg), Err(Unusable::TooManyPixels));
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    assert_eq!(portrait(&jpeg), Err(Unusable::TooManyPixels), "10,000 x 10,000");
}

#[test]
fn memory_is_known_before_anything_is_decoded() {
    // The frame of a JPEG, baseline or progressive, says the size; the pixels are not looked at.
    let jpeg = |frame: u8, width: u16, height: u16| {
        let mut file = encoded(red_and_blue(8, 8), ImageFormat::Jpeg);
        let at = file.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        file[at + 1] = frame;
        file[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
        file[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
        file
    };
    assert!(memory(&jpeg(0xc0, 7_000, 4_500)).is_ok_and(|needed| needed < MEMORY_MAX), "31 megapixels");
    assert!(memory(&jpeg(0xc2, 4_032, 3_024)).is_ok_and(|needed| needed > 9 * 4_032 * 3_024), "12, progressive");
    assert_eq!(memory(&jpeg(0xc2, 7_000, 4_500)), Err(Unusable::TooManyPixels), "31, progressive");
    assert_eq!(memory(b"no picture"), Err(Unusable::NotAPicture));
}
