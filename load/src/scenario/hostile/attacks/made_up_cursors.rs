//! Hello with forged cursors of position 1, which make a sync as large as one can be, from ten devices that do not read it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio::time::sleep;

use super::super::{
    cast::{Kind, home},
    field::{Field, together},
    socket::Guest,
};

/// As many as a member may have, less the one that reads.
const DEVICES: usize = 9;
const KERNEL_BUFFER: u32 = 4_096;
/// How long a device stays without reading.
const STAY: Duration = Duration::from_millis(1_000);
const AGAIN: Duration = Duration::from_millis(20);

pub(super) async fn run(field: Field) -> Result<(), String> {
    let account = field.cast.one(&field.cast.layout.forger)?;
    let from = home(Kind::Member, 70);
    let guest = Guest::new(&account, "forger-reads".to_owned(), from);
    // Its own cursor shows it what one looks like.
    let (_, sync) = guest.enter(&field).await?;
    let forged = forge(&sync.cursor.ok_or("there was no cursor")?);
    let field = &field;
    together(DEVICES + 1, |number| {
        let (field, forged, account) = (field.clone(), forged.clone(), account.clone());
        async move {
            let mut guest = Guest::new(&account, format!("forger-{number}"), from);
            for forged in forged.iter().cycle() {
                guest.cursor = Some(forged.clone());
                let how = if number == DEVICES { read(&field, &guest).await } else { stay(&field, &mut guest).await };
                if let Err(how) = how {
                    field.count(&how, 1);
                }
                sleep(AGAIN).await;
            }
            Ok(())
        }
    })
    .await
}

/// Reads what comes.
async fn read(field: &Field, guest: &Guest) -> Result<(), String> {
    let (_, sync) = guest.enter(field).await?;
    field.count("syncs read", 1);
    field.count("KiB of syncs read", sync.bytes / 1024);
    Ok(())
}

/// Reads nothing, and goes after a while.
async fn stay(field: &Field, guest: &mut Guest) -> Result<(), String> {
    guest.kernel_buffer = Some(KERNEL_BUFFER);
    let wire = guest.knock(field).await?;
    field.count("syncs not read", 1);
    sleep(STAY).await;
    drop(wire);
    Ok(())
}

/// Cursors that say 1 wherever eight bytes of the real one might be a position.
fn forge(cursor: &str) -> Vec<String> {
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(cursor) else { return vec![cursor.to_owned()] };
    let place = |at: usize| {
        let mut forged = bytes.clone();
        forged.get_mut(at..at + 8)?.copy_from_slice(&1_u64.to_be_bytes());
        Some(URL_SAFE_NO_PAD.encode(forged))
    };
    let last = bytes.len().checked_sub(8);
    // Behind a version and an id of eight bytes, or at the end.
    let mut forged: Vec<String> = [Some(9), last].into_iter().flatten().filter_map(place).collect();
    forged.dedup();
    forged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_cursor_says_position_one() {
        // A version, an id, and a position.
        let of = |position: u64| {
            let mut bytes = vec![1, 2, 3, 4, 5, 6, 7, 8, 9];
            bytes.extend(position.to_be_bytes());
            URL_SAFE_NO_PAD.encode(bytes)
        };
        assert_eq!(forge(&of(42)), [of(1)]);
        assert_eq!(forge("not base64!"), ["not base64!"]);
        // One with a signature behind the position.
        let signed = URL_SAFE_NO_PAD.encode([7; 33]);
        assert_eq!(forge(&signed).len(), 2);
    }
}
