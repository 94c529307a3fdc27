//! Pipelines that were sent to Redis, and what has not been answered of them.

use std::{
    collections::VecDeque,
    future::{poll_fn, ready},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use redis::{Pipeline, RedisResult, aio::MultiplexedConnection};
use tokio::{task::coop::unconstrained, time::Instant};

/// Pipelines under way, at most: on a slow way what comes later waits for the answers to all of them. Fewer than the connection takes at once
/// (50), so that sending does not wait.
const UNDER_WAY: usize = 40;

/// Resolves when a pipeline is answered.
type Answer = Pin<Box<dyn Future<Output = RedisResult<()>> + Send>>;

/// The pipelines of one connection. Redis answers in their order.
pub(super) struct Pipelines {
    connection: MultiplexedConnection,
    /// Those that are not answered, in their order.
    under_way: VecDeque<UnderWay>,
    oldest: Arc<Oldest>,
}

struct UnderWay {
    answer: Answer,
    /// What it counts for.
    bytes: usize,
    sent_at: Instant,
}

/// When the oldest pipeline was sent that is not answered; for whoever does not wait for it.
#[derive(Default)]
pub(super) struct Oldest(Mutex<Option<Instant>>);

impl Oldest {
    pub(super) fn sent_at(&self) -> Option<Instant> {
        *self.lock()
    }

    /// Held for some instructions, and never across a call that could panic.
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipelines {
    /// None yet.
    pub(super) fn new(connection: MultiplexedConnection, oldest: &Arc<Oldest>) -> Self {
        let pipelines = Self { connection, under_way: VecDeque::new(), oldest: Arc::clone(oldest) };
        pipelines.tell_oldest();
        pipelines
    }

    fn tell_oldest(&self) {
        *self.oldest.lock() = self.under_way.front().map(|oldest| oldest.sent_at);
    }

    /// Whether all are answered.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether another one may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < UNDER_WAY
    }

    /// Sends a pipeline behind those before it, and does not wait for its answer. To be called only while there is room.
    pub(super) async fn send(&mut self, pipeline: Pipeline, bytes: usize) {
        let mut connection = self.connection.clone();
        // The first poll hands it to the connection: with a budget that is used up it would not, and the next one could be first.
        let answer = unconstrained(async move { pipeline.query_async::<()>(&mut connection).await });
        let mut answer: Answer = Box::pin(answer);
        if let Poll::Ready(result) = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await {
            answer = Box::pin(ready(result));
        }
        self.under_way.push_back(UnderWay { answer, bytes, sent_at: Instant::now() });
        self.tell_oldest();
    }

    /// Waits for the oldest answer: forever, if nothing is under way. Returns the bytes that the pipeline counted for. If it is
    /// dropped before, nothing is lost.
    pub(super) async fn answered(&mut self) -> RedisResult<usize> {
        let result = poll_fn(|context| match self.under_way.front_mut() {
            Some(oldest) => oldest.answer.as_mut().poll(context),
            None => Poll::Pending,
        })
        .await;
        // It has given its result, and must not be asked again.
        let bytes = self.under_way.pop_front().map_or(0, |answered| answered.bytes);
        self.tell_oldest();
        result.map(|()| bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    /// Pipelines, and the end of their Redis.
    async fn connected() -> (Pipelines, DuplexStream) {
        let (ours, theirs) = duplex(1 << 20);
        let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        let connected = MultiplexedConnection::new_with_config(&info, ours, AsyncConnectionConfig::new()).await;
        let (connection, driver) = connected.unwrap();
        tokio::spawn(driver);
        (Pipelines::new(connection, &Arc::default()), theirs)
    }

    fn publish(number: usize) -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.cmd("PUBLISH").arg("channel").arg(number);
        pipeline
    }

    /// The first so many numbers that come to Redis.
    async fn published(theirs: &mut DuplexStream, count: usize) -> Vec<usize> {
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8(read.clone()).unwrap();
            // The last one may not be there to its end.
            let whole = text.rsplit_once("\r\n").map_or("", |(whole, _)| whole);
            let numbers: Vec<usize> = whole.lines().filter_map(|line| line.parse().ok()).collect();
            if numbers.len() >= count {
                return numbers;
            }
            let came = timeout(Duration::from_secs(10), theirs.read_buf(&mut read)).await;
            assert!(came.unwrap().unwrap() > 0);
        }
    }

    #[tokio::test]
    async fn pipelines_go_in_their_order_without_the_answers_of_those_before() {
        let (mut pipelines, mut theirs) = connected().await;
        for number in 0..UNDER_WAY {
            assert!(pipelines.has_room());
            pipelines.send(publish(number), 100 + number).await;
        }
        assert!(!pipelines.has_room());
        assert_eq!(published(&mut theirs, UNDER_WAY).await, (0..UNDER_WAY).collect::<Vec<_>>());
        assert!(pipelines.answered().now_or_never().is_none());
        theirs.write_all(b":1\r\n:1\r\n").await.unwrap();
        assert_eq!((pipelines.answered().await, pipelines.answered().await), (Ok(100), Ok(101)));
        assert!(pipelines.has_room() && pipelines.answered().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_error_and_the_end_of_the_connection_are_heard_of_behind_what_was_answered() {
        let (mut pipelines, mut theirs) = connected().await;
        for number in 0..3 {
            pipelines.send(publish(number), 1).await;
        }
        assert_eq!(published(&mut theirs, 3).await, [0, 1, 2]);
        theirs.write_all(b":1\r\n-NOPERM no\r\n").await.unwrap();
        assert_eq!(pipelines.answered().await, Ok(1));
        assert!(pipelines.answered().await.is_err());
        let (mut pipelines, theirs) = connected().await;
        pipelines.send(publish(0), 1).await;
        drop(theirs);
        assert!(pipelines.answered().await.is_err());
        pipelines.send(publish(1), 1).await;
        assert!(!pipelines.is_empty() && pipelines.answered().await.is_err(), "nor is anything sent any more");
    }
}
