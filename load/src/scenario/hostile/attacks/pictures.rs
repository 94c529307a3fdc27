//! Pictures of nearly 32 megapixels, which are small as files, uploaded in parallel.

use std::io::Write as _;

use flate2::{Compression, Crc, write::ZlibEncoder};

use super::{
    super::{
        cast::{Kind, PHOTOGRAPHERS, home},
        field::{Field, together},
    },
    flood,
};

/// Pixels a side: just what a picture may have.
const SIDES: (u32, u32) = (8_000, 3_900);
/// Bytes of a pixel: red, green, blue and transparency.
const PIXEL: usize = 4;
/// Uploads of one member at the same time.
const AT_ONCE: usize = 4;

pub(super) async fn run(field: Field) -> Result<(), String> {
    let members = field.cast.all(&field.cast.layout.photographers).to_vec();
    let picture = tokio::task::spawn_blocking(|| png(SIDES)).await.map_err(|error| error.to_string())?;
    let picture = picture.map_err(|error| error.to_string())?;
    let field = &field;
    together(PHOTOGRAPHERS * AT_ONCE, |number| {
        let (field, picture) = (field.clone(), picture.clone());
        let member = members.get(number % PHOTOGRAPHERS).cloned();
        async move {
            let member = member.ok_or("a member is missing")?;
            let head = format!(
                "PUT /api/members/{}/photo\nContent-Type: image/png\nAuthorization: Bearer {}",
                member.id, member.token
            );
            let from = home(Kind::Member, 40 + number % PHOTOGRAPHERS);
            flood::requests(field, from, |_| (head.clone(), picture.clone())).await
        }
    })
    .await
}

/// A picture of one colour (PNG, third edition).
fn png((width, height): (u32, u32)) -> std::io::Result<Vec<u8>> {
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    // Each row begins with its filter: none.
    let row = vec![0; width as usize * PIXEL + 1];
    for _ in 0..height {
        pixels.write_all(&row)?;
    }
    // Eight bits for each of red, green, blue and transparency.
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 6, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", pixels.finish()?), (b"IEND", Vec::new())] {
        let length = u32::try_from(data.len()).map_err(std::io::Error::other)?;
        file.extend(length.to_be_bytes());
        let mut sum = Crc::new();
        sum.update(kind);
        sum.update(&data);
        file.extend(kind);
        file.extend(data);
        file.extend(sum.sum().to_be_bytes());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The picture is one that the server takes.
    #[test]
    fn a_picture_is_a_picture() {
        let file = png((800, 390)).unwrap();
        assert!(file.len() < 64 * 1024, "{} bytes", file.len());
        assert!(members_book::photos::picture::portrait(&file).is_ok());
    }
}
