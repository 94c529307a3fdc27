//! The beat of a node: its document of `nodes` is stamped by the database, what the stamp tells is judged
//! ([`super::beats`]), recorded for all nodes ([`super::record`]), and only then cursors are made from it.
//!
//! Beats come one after the other: each is compared with the one before it, so the state between them is locked for as long
//! as one takes. Its calls have deadlines, and so has waiting for the lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mongodb::{
    bson::{DateTime, Document},
    options::ReturnDocument,
};
use protocol::Timestamp;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    beats::{Beat, Beats, Finding},
    db::Db,
    document::{millis, time},
    fault::Fault,
    horizon::Horizon,
    link::Link,
    nodes::{self, Identity, Nodes},
    record::{self, Recorded},
    unavailable,
};
use crate::{
    ids::Ids,
    position::{Epoch, Position},
    store::{StoreError, epochs::Epochs, fleet::ClockReading},
    telemetry::Metrics,
};

/// A pause in the beats of all nodes, in milliseconds, after which a node that starts begins a new epoch: what it finds
/// may be an older state, restored from a backup.
const PAUSE: u64 = 10_000;
/// For how long what is recorded has to stand still until no other node goes on that may be there: some of its beats. Where none is
/// there, the pause is one.
const STILL: Duration = Duration::from_secs(3);

/// What beats of one node go through, one after the other.
pub(super) struct Pulse {
    ids: Arc<Ids>,
    metrics: Arc<Metrics>,
    /// For durations since.
    origin: Instant,
    state: Mutex<State>,
    /// There are no further beats.
    ended: AtomicBool,
}

/// What a beat has told.
#[derive(Clone, Copy)]
pub(super) struct Beaten {
    /// What the clock of the database showed.
    pub(super) at: DateTime,
    /// When we asked: this node was one of the others then.
    pub(super) asked: Instant,
}

/// An epoch that is to begin.
#[derive(Clone)]
struct Due {
    /// After these.
    known: Epochs,
    /// Up to where cursors of the last one of them are good.
    end: u64,
    /// Only if this beat is what is recorded still.
    judged: Option<u64>,
}

/// What is remembered between beats.
#[derive(Default)]
struct State {
    beats: Beats,
    /// The epoch; nothing before the first beat.
    epoch: Option<Epoch>,
    /// What we recorded last.
    recorded: u64,
    /// The epoch that is to begin, until it is known that it has, or another node's: where nothing else tells that it has to.
    due: Option<Due>,
    /// Whether the clock of the database is ahead.
    ahead: bool,
    /// The beat that was recorded a pause ago when this node came, and since when it is known to stand still.
    paused: Option<(u64, Instant)>,
}

impl Pulse {
    pub(super) fn new(ids: Arc<Ids>, metrics: Arc<Metrics>) -> Self {
        Self { ids, metrics, origin: Instant::now(), state: Mutex::default(), ended: AtomicBool::new(false) }
    }

    /// No beat begins any more, and one that is under way has ended, if it does in time: this node does not join again while it leaves.
    pub(super) async fn end(&self, limit: Duration) {
        self.ended.store(true, Ordering::Release);
        if timeout(limit, self.state.lock()).await.is_err() {
            tracing::debug!("a beat did not end in time");
        }
    }

    fn check_ended(&self) -> Result<(), Fault> {
        if self.ended.load(Ordering::Acquire) { Err(unavailable("it is closed").into()) } else { Ok(()) }
    }

    /// One beat.
    pub(super) async fn beat(&self, db: &Db, link: &Link) -> Result<Beaten, Fault> {
        let Link { identity, horizon, unsettled, .. } = link;
        let Ok(mut state) = timeout(db.max_time, self.state.lock()).await else {
            return Err(StoreError::Timeout.into());
        };
        self.check_ended()?;
        let asked = Instant::now();
        let node = match self.stamp(db, identity, unsettled.since()).await? {
            Some(node) => node,
            None => self.enrol(db, identity, horizon).await?,
        };
        let at: DateTime = *node.get_datetime("at").map_err(|error| Fault::Data(error.to_string()))?;
        let answered = Instant::now();
        let beat = Beat { at: millis(at), asked: self.since_origin(asked), answered: self.since_origin(answered) };
        horizon.saw(ClockReading { at: time(at), asked, answered });
        match (state.due.clone(), state.epoch) {
            (Some(due), _) => self.begin(db, horizon, &mut state, due, beat).await?,
            (None, None) => self.enter(db, link, &mut state, beat).await?,
            (None, Some(epoch)) => self.go_on(db, horizon, &mut state, epoch, beat).await?,
        }
        Ok(Beaten { at, asked })
    }

    /// Stamps the document of this node; nothing if it has not joined, or is out.
    async fn stamp(&self, db: &Db, identity: &Identity, since: Option<Timestamp>) -> Result<Option<Document>, Fault> {
        let Some((own, beat)) = identity.beat(since) else { return Ok(None) };
        let stamp = async move |db: Db| {
            let nodes = db.collection::<Document>("nodes");
            let stamp = nodes.find_one_and_update(own, beat).return_document(ReturnDocument::After);
            Ok(stamp.max_time(db.max_time).await?)
        };
        db.within(stamp).await
    }

    /// Joins the nodes of the database, for the first time or again.
    async fn enrol(&self, db: &Db, identity: &Identity, horizon: &Horizon) -> Result<Document, Fault> {
        self.check_ended()?;
        let again = identity.generation() > 0;
        if again && identity.nodes == Nodes::Exclusive {
            return Err(
                StoreError::Unavailable("others use it by now; this process was silent too long".to_owned()).into()
            );
        }
        let (own, join) = (identity.filter(), identity.enrol(horizon.now().position));
        let enrol = async move |db: Db| {
            let nodes = db.collection::<Document>("nodes");
            let enrol = nodes.find_one_and_update(own, join).upsert(true).return_document(ReturnDocument::After);
            Ok(enrol.max_time(db.max_time).await?)
        };
        let node = db.within(enrol).await?.ok_or_else(|| Fault::Data("the beat left no document".to_owned()))?;
        identity.enrolled();
        if again {
            tracing::warn!("this node was silent for so long that others took it for dead: it joins them again");
        }
        Ok(node)
    }

    async fn recorded(&self, db: &Db) -> Result<Recorded, Fault> {
        let drawn = self.draw();
        db.within(async move |db| record::read(&db, drawn).await).await
    }

    fn since_origin(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.origin)
    }

    fn draw(&self) -> Epoch {
        Epoch(self.ids.secret())
    }

    /// The first beat: goes on in the epoch that is recorded, or begins one.
    async fn enter(&self, db: &Db, link: &Link, state: &mut State, beat: Beat) -> Result<(), Fault> {
        let Link { identity, horizon, .. } = link;
        let recorded = self.recorded(db).await?;
        if recorded.beat > 0 && beat.at > recorded.beat.saturating_add(PAUSE) && !goes_on(state, recorded.beat) {
            self.wait_for_others(db, identity, state, recorded.beat).await?;
            let end = recorded.beat.saturating_sub(horizon.window());
            // Not if a node goes on in the same moment, that was there all the time.
            let due = Due { known: recorded.epochs, end, judged: Some(recorded.beat) };
            self.begin(db, horizon, state, due, beat).await?;
            if state.epoch.is_none() {
                // Nothing is known of positions before the next beat has judged anew: nobody is served until then.
                let why = "other nodes go on in the epoch that was to end".to_owned();
                return Err(StoreError::Unavailable(why).into());
            }
            return Ok(());
        }
        let epoch = recorded.epochs.current();
        state.adopt(horizon, recorded, None);
        self.go_on(db, horizon, state, epoch, beat).await
    }

    /// Whether there was a pause, or the clock of the database is ahead and others go on: what they record tells. Fails while that is
    /// not known; who is known not to be there is not waited for.
    async fn wait_for_others(
        &self,
        db: &Db,
        identity: &Identity,
        state: &mut State,
        recorded: u64,
    ) -> Result<(), Fault> {
        let own = identity.node;
        let others = db.within(async move |db| nodes::others(&db, own).await).await?;
        let (_, since) = *state.paused.get_or_insert((recorded, Instant::now()));
        if since.elapsed() < STILL && others.iter().any(|other| identity.sees(other) != Some(false)) {
            return Err(unavailable("it is looked whether other nodes go on").into());
        }
        Ok(())
    }

    /// A further beat of the epoch.
    async fn go_on(
        &self,
        db: &Db,
        horizon: &Horizon,
        state: &mut State,
        epoch: Epoch,
        beat: Beat,
    ) -> Result<(), Fault> {
        let believed = match state.beats.take(beat) {
            Finding::Back { by, end } => {
                self.metrics.clock_step("back");
                tracing::error!(
                    milliseconds = by,
                    "the clock of the database went back; newer cursors lead to a full sync"
                );
                return self.begin(db, horizon, state, Due { known: horizon.epochs(), end, judged: None }, beat).await;
            }
            Finding::Ahead { by, believed } => {
                if !std::mem::replace(&mut state.ahead, true) {
                    self.metrics.clock_step("ahead");
                    tracing::error!(
                        milliseconds = by,
                        "the clock of the database jumped ahead; cursors do not follow it"
                    );
                }
                believed
            }
            Finding::Unsure(believed) => believed,
            Finding::Good(believed) => {
                if std::mem::take(&mut state.ahead) {
                    tracing::info!("cursors follow the clock of the database again");
                }
                believed
            }
        };
        // It only grows, and a majority has had that.
        let least = state.recorded;
        if db.within(async move |db| record::advance(&db, epoch, believed, least).await).await? {
            state.recorded = state.recorded.max(believed);
            horizon.advance(epoch, believed);
            return Ok(());
        }
        let recorded = self.recorded(db).await?;
        match judge(epoch, least, &recorded) {
            Judgement::Same => {}
            Judgement::Successor => state.adopt(horizon, recorded, Some((beat, believed))),
            Judgement::WentBack => {
                tracing::error!("the database went back to an earlier state; newer cursors lead to a full sync");
                let end = recorded.beat.saturating_sub(horizon.window());
                self.begin(db, horizon, state, Due { known: recorded.epochs, end, judged: None }, beat).await?;
            }
        }
        Ok(())
    }

    /// Begins an epoch after those that are known, unless another node is first: then goes on in that one's.
    async fn begin(&self, db: &Db, horizon: &Horizon, state: &mut State, due: Due, beat: Beat) -> Result<(), Fault> {
        // If it fails half-way, the next beat begins it; where the record tells that it has to, that tells it again.
        state.due = Some(due.clone()).filter(|due| due.judged.is_none());
        let Due { known, end, judged } = due;
        let before = known.current();
        let epochs = known.with_new(self.draw(), Position(end));
        let (replacing, at) = (epochs.clone(), beat.at);
        let replace = async move |db: Db| record::replace(&db, before, judged, &replacing, at).await;
        if db.within(replace).await? {
            tracing::info!("a new epoch of the store begins");
            state.adopt(horizon, Recorded { epochs, beat: at }, Some((beat, at)));
            return Ok(());
        }
        let recorded = self.recorded(db).await?;
        match judge(before, 0, &recorded) {
            // By another node, or by us, and the answer was lost.
            Judgement::Successor => state.adopt(horizon, recorded, Some((beat, at))),
            // Another node goes on in it: the next beat judges anew.
            Judgement::Same => {}
            // It went back once more.
            Judgement::WentBack => {
                let end = recorded.beat.saturating_sub(horizon.window());
                state.due = Some(Due { known: recorded.epochs, end, judged: None });
            }
        }
        Ok(())
    }
}

/// Whether others have recorded something since this node came.
fn goes_on(State { paused, .. }: &State, recorded: u64) -> bool {
    paused.is_some_and(|(before, _)| before != recorded)
}

/// What a record says to a node that knows an epoch.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// The epoch goes on.
    Same,
    /// Another node has begun one after it.
    Successor,
    /// The record is of before what this node knows: the database went back to an earlier state.
    WentBack,
}

/// Judges a record, of which `least` should be there if it is of the same epoch.
fn judge(epoch: Epoch, least: u64, Recorded { epochs, beat }: &Recorded) -> Judgement {
    if epochs.current() == epoch {
        return if *beat < least { Judgement::WentBack } else { Judgement::Same };
    }
    let is_known = epochs.former().iter().any(|former| former.epoch == epoch);
    if is_known { Judgement::Successor } else { Judgement::WentBack }
}

impl State {
    /// Goes on in what is recorded, after this beat and what the clock is taken to have shown at it, if there was one.
    fn adopt(&mut self, horizon: &Horizon, recorded: Recorded, last: Option<(Beat, u64)>) {
        let Recorded { epochs, beat: believed } = recorded;
        let (beats, epoch) = (Beats::in_epoch(believed, last), Some(epochs.current()));
        *self = Self { beats, epoch, recorded: believed, due: None, ahead: false, paused: None };
        horizon.enter(epochs, believed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_does_not_know_ours_is_of_before() {
        let (one, two) = (Epoch([1; 8]), Epoch([2; 8]));
        let first = Epochs::new(one, Vec::new());
        let record = |epochs: &Epochs, beat| Recorded { epochs: epochs.clone(), beat };
        assert_eq!(judge(one, 100, &record(&first, 100)), Judgement::Same);
        assert_eq!(judge(one, 100, &record(&first, 99)), Judgement::WentBack);
        let second = first.with_new(two, Position(50));
        assert_eq!(judge(one, 100, &record(&second, 60)), Judgement::Successor);
        assert_eq!(judge(two, 60, &record(&first, 1_000)), Judgement::WentBack, "a backup of before the second began");
    }
}
