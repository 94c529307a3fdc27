//! What a message costs the server, with connections in memory that talk and others beside them.

use std::{sync::Arc, time::Duration};

use protocol::{ClientFrame, ClientMessageId, Request, client::MessageSend};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use super::near::{Near, thread_cpu_seconds};
use crate::{proc::cpu_seconds, recorder::Recorder, trial::Trial, wire::write_text};

/// Members that write, each to one other.
const PAIRS: usize = 50;
/// Messages of each.
const ROUNDS: usize = 300;
/// Characters in a message.
const SIZE: usize = 200;
/// How long one round may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks for answers.
const LOOK: Duration = Duration::from_micros(200);
/// The name of the thread that plays the clients.
const CLIENTS: &str = "talkers";

/// Lets pairs of members talk; returns the processor time of the server for each message, in microseconds.
pub(super) async fn cost_of_a_message(ends: Vec<Near>, trial: &Trial) -> Result<(f64, Vec<Near>), String> {
    let (recorder, ids) = (Arc::clone(&trial.recorder), trial.client_ids);
    // Messages are sent by the same members beside few and beside many: another stream of ids each time.
    let mut random = StdRng::seed_from_u64(trial.seed ^ ends.len() as u64);
    let mut next_id = move || ids.next(&mut random);
    let work = move || {
        // Conversations are made, and caches filled, before anything is measured.
        let warmed = rounds(&ends, ROUNDS / 10, &mut next_id, &recorder);
        let this = std::process::id();
        let spent = || Some((cpu_seconds(this)?, thread_cpu_seconds(CLIENTS)?));
        let before = spent();
        let said = rounds(&ends, ROUNDS, &mut next_id, &recorder);
        let (Some((all_before, own_before)), Some((all, own))) = (before, spent()) else {
            return Err("the processor time cannot be read".to_owned());
        };
        warmed.and(said)?;
        let pairs = u32::try_from(PAIRS.min(ends.len() / 2) * ROUNDS).unwrap_or(u32::MAX);
        let server = (all - all_before) - (own - own_before);
        Ok((server * 1e6 / f64::from(pairs.max(1)), ends))
    };
    let clients =
        std::thread::Builder::new().name(CLIENTS.to_owned()).spawn(work).map_err(|error| error.to_string())?;
    let joined = tokio::task::spawn_blocking(move || clients.join()).await.map_err(|error| error.to_string())?;
    joined.map_err(|_| "the clients panicked".to_owned())?
}

/// In each round every pair sends one message, and waits until it is acknowledged and has arrived.
fn rounds(
    ends: &[Near],
    count: usize,
    next_id: &mut impl FnMut() -> ClientMessageId,
    recorder: &Recorder,
) -> Result<(), String> {
    let content = "x".repeat(SIZE);
    let pairs: Vec<(&Near, &Near)> =
        ends.chunks_exact(2).take(PAIRS).filter_map(|pair| Some((pair.first()?, pair.last()?))).collect();
    for _ in 0..count {
        for (from, to) in &pairs {
            let client_id = next_id();
            let frame = ClientFrame::MessageSend(MessageSend {
                to: Some(to.member),
                conversation: None,
                client_id,
                content: content.clone(),
                reply_to: None,
            });
            let mut bytes = bytes::BytesMut::new();
            write_text(&mut bytes, &[&Request { id: "m".parse().ok(), frame }.encode()]);
            from.end.exchange(&bytes, |_| ());
        }
        let due = Instant::now() + PATIENCE;
        let mut open: Vec<(&Near, bool)> = pairs.iter().flat_map(|(from, to)| [(*from, true), (*to, false)]).collect();
        while !open.is_empty() {
            open.retain(|(near, sender)| !has_come(near, *sender, recorder));
            if Instant::now() > due {
                return Err("a message in memory was not acknowledged, or has not arrived".to_owned());
            }
            #[expect(clippy::disallowed_methods, reason = "it is a thread of its own, and has nothing else to do")]
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// Whether what a side waits for has come: the acknowledgement to the sender, the push to the receiver.
fn has_come(near: &Near, sender: bool, recorder: &Recorder) -> bool {
    let mut come = false;
    let there = near.end.exchange(&[], |bytes| {
        // One frame in each direction for each round.
        let wanted = if sender { r#""type":"message.accepted""# } else { r#""type":"entry""# };
        come = String::from_utf8_lossy(bytes).contains(wanted);
    });
    if !there {
        recorder.broken("a connection in memory ended while it talked");
    }
    come
}
