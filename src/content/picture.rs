//! QR codes in pictures (ISO/IEC 18004, by `rqrr`), and what their data is.
//!
//! The size is read from the header before anything is decoded: above `max_pixels` a picture stays closed. A panic in a
//! decoder counts as no code found. Not here: metadata (`exif`), other bar codes.

use bytes::Bytes;

use super::{ContentLimits, File, FileType, Means, explode_file};

/// Width and height of a picture in pixels, as its header says.
pub fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    super::exif::size(bytes)
}

/// Whether bytes are a picture.
pub fn is_picture(bytes: &[u8]) -> bool {
    FileType::detect(bytes, "") == FileType::Image
}

/// Pictures of one Office file that are looked at.
const MAX_OFFICE_PICTURES: usize = 50;

/// All codes of a picture, or of all pictures in a PDF or an Office file of 2007 and later.
pub fn codes_of(file: &File) -> Vec<QrCode> {
    match file.kind {
        FileType::Image => file.qr().to_vec(),
        #[cfg(feature = "pdf")]
        FileType::Pdf => {
            let files = file.pdf().map(|pdf| pdf.files.as_slice()).unwrap_or_default();
            let pictures = files.iter().filter(|(_, bytes)| is_picture(bytes));
            let read = pictures.flat_map(|(_, bytes)| codes(bytes, &file.limits, &file.means).unwrap_or_default());
            read.take(file.limits.max_codes).collect()
        }
        FileType::OfficeXml => {
            let pictures = pictures_in(&file.name, file.bytes.clone(), &file.limits, MAX_OFFICE_PICTURES);
            let read = pictures.iter().flat_map(|bytes| codes(bytes, &file.limits, &file.means).unwrap_or_default());
            read.take(file.limits.max_codes).collect()
        }
        _ => Vec::new(),
    }
}

/// The pictures in a file, itself if it is one; `most` at most.
pub fn pictures_in(name: &str, bytes: Bytes, limits: &ContentLimits, most: usize) -> Vec<Bytes> {
    if is_picture(&bytes) {
        return vec![bytes];
    }
    let files = explode_file(name, "", bytes, limits).into_iter();
    files.filter(|file| file.kind == FileType::Image).map(|file| file.bytes).take(most).collect()
}

/// One QR code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QrCode {
    /// `url`, `email`, `mobile`, `app`, `geo`, `wifi` or `undefined`.
    pub kind: &'static str,
    /// What it says.
    pub data: String,
}

impl QrCode {
    /// Tells the kind of data.
    #[cfg(any(feature = "qr", test))]
    pub(super) fn new(data: String) -> Self {
        let lower = data.trim().get(..data.trim().floor_char_boundary(40)).unwrap_or_default().to_ascii_lowercase();
        let starts = |list: &[&str]| list.iter().any(|start| lower.starts_with(start));
        let domain = || {
            let host = data.trim().split(['/', '?', '#']).next().unwrap_or_default();
            host.contains('.') && !host.contains([' ', '@', ':']) && crate::mail::registrable_domain(host).is_some()
        };
        let kind = if starts(&["http://", "https://", "www."]) {
            "url"
        } else if starts(&["mailto:", "matmsg:", "smtp:"]) {
            "email"
        } else if starts(&["tel:", "sms:", "smsto:", "mms:", "facetime:"]) {
            "mobile"
        } else if starts(&["geo:"]) {
            "geo"
        } else if starts(&["wifi:"]) {
            "wifi"
        } else if starts(&["market:", "itms", "intent:"]) {
            "app"
        } else if domain() {
            "url"
        } else {
            "undefined"
        };
        Self { kind, data }
    }
}

/// All codes of a picture; `None`: the message has no pixels left.
#[cfg(feature = "qr")]
pub(super) fn codes(bytes: &[u8], limits: &ContentLimits, means: &Means) -> Option<Vec<QrCode>> {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    let Some((width, height)) = super::exif::size(bytes) else { return Some(Vec::new()) };
    let pixels = usize::try_from(u64::from(width) * u64::from(height)).unwrap_or(usize::MAX);
    if pixels == 0 || pixels > limits.max_pixels {
        return Some(Vec::new());
    }
    if !means.allows_pixels(pixels) {
        return None;
    }
    let read = || {
        let mut bounds = image::Limits::default();
        bounds.max_image_width = Some(width);
        bounds.max_image_height = Some(height);
        bounds.max_alloc = Some((limits.max_pixels as u64).saturating_mul(8));
        let mut reader = image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().ok()?;
        reader.limits(bounds);
        let picture = reader.decode().ok()?;
        // What is transparent is shown on white.
        let picture = flatten(&picture);
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let mut out: Vec<QrCode> = Vec::new();
        // Light codes on dark ground are tried as well.
        for invert in [false, true] {
            let pixel = |x: usize, y: usize| {
                let value = picture.get_pixel(x as u32, y as u32).0[0];
                if invert { 255 - value } else { value }
            };
            let mut prepared = rqrr::PreparedImage::prepare_from_greyscale(width, height, pixel);
            for grid in prepared.detect_grids().into_iter().take(limits.max_codes) {
                if let Ok((_, data)) = grid.decode() {
                    out.push(QrCode::new(data));
                }
            }
            if !out.is_empty() {
                break;
            }
        }
        Some(out)
    };
    Some(catch_unwind(AssertUnwindSafe(read)).ok().flatten().unwrap_or_default())
}

#[cfg(feature = "qr")]
fn flatten(picture: &image::DynamicImage) -> image::GrayImage {
    if !picture.color().has_alpha() {
        return picture.to_luma8();
    }
    let with = picture.to_luma_alpha8();
    image::GrayImage::from_fn(with.width(), with.height(), |x, y| {
        let [value, alpha] = with.get_pixel(x, y).0.map(u32::from);
        image::Luma([((value * alpha + 255 * (255 - alpha)) / 255) as u8])
    })
}

/// Without the feature nothing is found.
#[cfg(not(feature = "qr"))]
pub(super) fn codes(_bytes: &[u8], _limits: &ContentLimits, _means: &Means) -> Option<Vec<QrCode>> {
    Some(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "qr")]
    fn codes(bytes: &[u8], limits: &ContentLimits) -> Vec<QrCode> {
        super::codes(bytes, limits, &Means::new(limits, None)).unwrap()
    }

    #[test]
    fn kinds() {
        let cases = [
            ("https://example.com/a", "url"),
            ("WWW.example.com", "url"),
            ("example.com/a", "url"),
            ("mailto:a@example.com", "email"),
            ("tel:+49", "mobile"),
            ("geo:1,2", "geo"),
            ("WIFI:S:x;;", "wifi"),
            ("market://details", "app"),
            ("hello there", "undefined"),
            ("", "undefined"),
            ("é", "undefined"),
        ];
        for (data, kind) in cases {
            assert_eq!(QrCode::new(data.to_owned()).kind, kind, "{data}");
        }
    }

    /// `https://example.com/q` as version 2, level L, mask 0; a row a number, the left module in the highest of 25 bits.
    #[cfg(feature = "qr")]
    const CODE: [u32; 25] = [
        0x1fc9e7f, 0x1047741, 0x175d35d, 0x174e65d, 0x1744e5d, 0x1048e41, 0x1fd557f, 0x001dd00, 0x1df6fc4, 0x0a16041,
        0x09e8837, 0x1892f82, 0x09e19cb, 0x0083dc9, 0x11f3567, 0x0c0df12, 0x12d67f8, 0x001231b, 0x1fd4b5b, 0x105e118,
        0x175d1fb, 0x174ba3c, 0x1753511, 0x1051d5a, 0x1fd27e3,
    ];

    #[cfg(feature = "qr")]
    fn draw(dark: u8, light: u8, format: image::ImageFormat) -> Vec<u8> {
        let picture = image::GrayImage::from_fn(132, 132, |x, y| {
            let (column, row) = ((x / 4).wrapping_sub(4), (y / 4).wrapping_sub(4));
            let set = column < 25 && row < 25 && CODE[row as usize] >> (24 - column) & 1 == 1;
            image::Luma([if set { dark } else { light }])
        });
        let mut out = std::io::Cursor::new(Vec::new());
        image::DynamicImage::from(picture).to_rgb8().write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    #[test]
    #[cfg(feature = "qr")]
    fn a_code() {
        let limits = ContentLimits::default();
        let expected = [QrCode::new("https://example.com/q".to_owned())];
        assert_eq!(codes(&draw(0, 255, image::ImageFormat::Png), &limits), expected);
        assert_eq!(codes(&draw(230, 20, image::ImageFormat::Png), &limits), expected, "light on dark");
        assert_eq!(codes(&draw(0, 255, image::ImageFormat::Bmp), &limits), expected);
        assert_eq!(codes(&draw(0, 255, image::ImageFormat::Jpeg), &limits), expected);
        assert!(codes(&draw(255, 255, image::ImageFormat::Png), &limits).is_empty());
        let tight = ContentLimits { max_pixels: 100, ..limits };
        assert!(codes(&draw(0, 255, image::ImageFormat::Png), &tight).is_empty());
    }

    #[test]
    #[cfg(feature = "qr")]
    fn all_pictures_of_a_message_share_its_pixels() {
        let limits = ContentLimits { max_message_pixels: 132 * 132 * 2, ..ContentLimits::default() };
        let (means, picture) = (Means::new(&limits, None), draw(0, 255, image::ImageFormat::Png));
        let read = || super::codes(&picture, &limits, &means).map(|codes| codes.len());
        assert_eq!([read(), read(), read()], [Some(1), Some(1), None]);
    }

    #[test]
    #[cfg(feature = "qr")]
    fn cut_anywhere_and_bombs() {
        let whole = draw(0, 255, image::ImageFormat::Png);
        for at in (0..whole.len()).step_by(11) {
            codes(&whole[..at], &ContentLimits::default());
        }
        // A header that claims 4,000 million pixels.
        let mut bomb = whole;
        bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        assert!(codes(&bomb, &ContentLimits::default()).is_empty());
    }
}
