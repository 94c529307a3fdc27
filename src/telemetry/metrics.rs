//! Metrics in the Prometheus (OpenMetrics) text format.
//!
//! Every name is a variant of [`Metric`]; `docs/metrics.md` lists them and a test keeps it complete. The handles in
//! [`Metrics`] are made once, so that counting costs an atomic addition. Each server has its own registry.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{self, Registry},
};
use protocol::{ClientFrame, CloseCode, ErrorCode, ServerFrame};

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $kind:ident, [$($label:literal),*];)*) => {
        /// The name of a metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $($(#[doc = $doc])* $name,)*
        }

        impl Metric {
            /// Every metric, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name, without the prefix `membersbook_` and the suffix `_total` of counters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it measures, with its unit.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)*).trim_ascii(),)* }
            }

            /// What kind of metric it is.
            #[must_use]
            pub const fn kind(self) -> MetricKind {
                match self { $(Self::$name => MetricKind::$kind,)* }
            }

            /// The names of its labels.
            #[must_use]
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($label),*],)* }
            }
        }
    };
}

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

metrics! {
    /// Open WebSocket connections, signed in or not.
    Connections = "connections", Gauge, [];
    /// Members with at least one signed-in connection.
    MembersConnected = "members_connected", Gauge, [];
    /// TCP connections that there was no room for, by the limit that was reached: `address`, `network` or `total`.
    ConnectionsRefused = "connections_refused", Counter, ["limit"];
    /// Connections that nobody had signed in on, closed to make room for others.
    ConnectionsEvicted = "connections_evicted", Counter, [];
    /// Connections that ended, by close code; `gone` when the client just vanished.
    ConnectionsClosed = "connections_closed", Counter, ["code"];
    /// Frames from clients, by type; `invalid` for what was not a frame.
    FramesReceived = "frames_received", Counter, ["type"];
    /// Frames to clients, by type.
    FramesSent = "frames_sent", Counter, ["type"];
    /// Messages, by what became of them: `stored`, `duplicate`, `refused` or `failed`.
    Messages = "messages", Counter, ["result"];
    /// Messages that a node stored and did not live to tell of, told by another.
    MessagesRecovered = "messages_recovered", Counter, [];
    /// Watermarks that moved.
    Receipts = "receipts", Counter, [];
    /// Commands (messages and watermarks) in one commit.
    CommitCommands = "commit_commands", Histogram, [];
    /// Seconds that one commit of commands took until it was durable, waiting for the writer included.
    CommitSeconds = "commit_seconds", Histogram, [];
    /// Seconds from a message's arrival at the service until it was durable and its acknowledgement queued.
    MessageSeconds = "message_seconds", Histogram, [];
    /// Times that a connection was read no further because the store had enough to do.
    Backpressure = "backpressure", Counter, [];
    /// Connections that one event was queued for.
    FanOut = "fan_out", Histogram, [];
    /// Connections cut because their outbox was full.
    OutboxOverflows = "outbox_overflows", Counter, [];
    /// Frames dropped from the outboxes of connections that were cut; sync finds what was in them.
    OutboxDropped = "outbox_dropped", Counter, [];
    /// Bytes that wait for clients to take them (outboxes, syncs, answers) or are being received (uploads): what `MEMORY_MAX` bounds.
    MemoryCharged = "memory_charged_bytes", Gauge, [];
    /// Connections cut because too much memory was held, by what they held: `outbox` or `answer`.
    MemoryCuts = "memory_cuts", Counter, ["what"];
    /// Seconds that a sync took, from hello until its last frame was written.
    SyncSeconds = "sync_seconds", Histogram, [];
    /// Failed authentications, by error code, over REST and WebSocket.
    AuthFailures = "auth_failures", Counter, ["code"];
    /// Refresh tokens that were exchanged, by what they were: `rotated` (the newest one), `again` (the one before it, whose successor
    /// had not arrived), `reused` (one of before that; its session was revoked).
    Refreshes = "refreshes", Counter, ["result"];
    /// Members who registered, by the way that they came in: `free`, `invitation`, or `application` for those who wait for an administrator.
    Registrations = "registrations", Counter, ["way"];
    /// Codes of second factors that were given, by what became of them: `app` and `recovery` were used up, `refused` was not good.
    SecondFactorCodes = "second_factor_codes", Counter, ["result"];
    /// Failed logins of administrators that are not in the audit log: there were too many, or the server stopped.
    AuditDropped = "audit_dropped", Counter, [];
    /// Requests that were refused by a rate limit, by limit.
    RateLimited = "rate_limited", Counter, ["limit"];
    /// Seconds that hashing or checking one password took, without waiting for its turn.
    PasswordSeconds = "password_seconds", Histogram, [];
    /// Rounds of bcrypt that passwords took, 2^cost for each hash: what they cost, however fast the machine is.
    PasswordRounds = "password_rounds", Counter, [];
    /// Seconds that reads of the store took, waiting included.
    StoreReadSeconds = "store_read_seconds", Histogram, [];
    /// Seconds that writes of the store took, but those of messages and receipts (`commit_seconds`), waiting included.
    StoreWriteSeconds = "store_write_seconds", Histogram, [];
    /// Pages of 4 KiB in the log of the file after the newest commit (SQLite); from 16,000 on a checkpoint moves them.
    StoreLogPages = "store_log_pages", Gauge, [];
    /// Seconds that checkpoints took, beside the commits (SQLite).
    StoreCheckpointSeconds = "store_checkpoint_seconds", Histogram, [];
    /// Messages and receipts that are stored and wait for the rows that follow from them to be written (SQLite).
    StoreRowsBehind = "store_rows_behind", Gauge, [];
    /// Runs of keys in which ids are looked for (SQLite).
    StoreKeyRuns = "store_key_runs", Gauge, [];
    /// Conversations in which another node took the next `seq` first (MongoDB); the message was numbered again.
    SeqCollisions = "seq_collisions", Counter, [];
    /// Nodes that serve this store and live, this one among them; 0 for a store of one process.
    FleetNodes = "fleet_nodes", Gauge, [];
    /// How often events of other nodes may have been missed, by the cause: `no_bus`, `link_down`, `overflow`, `canary`, `peer_loss`, `silent_peer`, `node_out`, `unpublished` or `unknown`.
    FleetDoubts = "fleet_doubts", Counter, ["cause"];
    /// Whether events of other nodes may be missing at the moment (1), so that the store is swept for them.
    FleetInDoubt = "fleet_in_doubt", Gauge, [];
    /// How far the cursors of this node lie behind what the store shows, in milliseconds: more than some seconds while a node is silent or gone.
    FleetFloorBehind = "fleet_floor_behind_milliseconds", Gauge, [];
    /// Events that crossed the bus between nodes, by direction (`sent` or `received`) and kind; `unknown` for those of a newer version.
    BusEvents = "bus_events", Counter, ["direction", "kind"];
    /// Events for other nodes that were dropped, because a link was down or had no room: those nodes sweep.
    BusDropped = "bus_dropped", Counter, [];
    /// What nodes published on the bus that are not in this database, as far as is known, and was not listened to.
    BusStrangers = "bus_strangers", Counter, [];
    /// Bytes that were published on the bus.
    BusBytesSent = "bus_sent_bytes", Counter, [];
    /// Bytes that came from the bus, what this node published itself included.
    BusBytesReceived = "bus_received_bytes", Counter, [];
    /// How long a beat of this node takes over the bus and back, in seconds.
    BusRoundTripSeconds = "bus_round_trip_seconds", Histogram, [];
    /// Links of the bus that are up.
    BusLinksUp = "bus_links_up", Gauge, [];
    /// Attempts to connect a link of the bus again.
    BusReconnects = "bus_reconnects", Counter, [];
    /// How long a sweep of the store takes, in seconds.
    SweepSeconds = "sweep_seconds", Histogram, [];
    /// Conversations that a sweep has delivered to connections.
    SweptConversations = "swept_conversations", Counter, [];
    /// Steps of the database's clock that were noticed (MongoDB), by direction: `ahead` (cursors do not follow) or `back` (newer cursors lead to a full sync).
    ClockSteps = "clock_steps", Counter, ["direction"];
    /// By how many seconds the clock of this machine is ahead of the database's (MongoDB): beyond 5 either way the server is `degraded`.
    ClockSkew = "clock_skew_seconds", Gauge, [];
    /// What followed from changes (closing connections, telling others), by effect.
    Effects = "effects", Counter, ["effect"];
    /// Connections that the check of sessions closed because nobody told of it, by reason: `revoked`, `deactivated` or `disconnected`.
    SessionCheckClosed = "session_check_closed", Counter, ["reason"];
    /// Checks of sessions that failed and are made again soon.
    SessionCheckFailures = "session_check_failures", Counter, [];
    /// Seconds that a check of the sessions of all connections took; up to 5 of them are pauses.
    SessionCheckSeconds = "session_check_seconds", Histogram, [];
    /// Jobs that were tried, by kind and outcome: `done` or `failed`, which is tried again.
    Jobs = "jobs", Counter, ["job", "outcome"];
    /// Jobs that wait to be done or tried again, 100,000 at most.
    JobsWaiting = "jobs_waiting", Gauge, [];
    /// Mails that were tried, by kind and outcome: `sent`, `logged`, `resolved` (into a link, or nobody has the address), `dropped` (no longer good), `failed` (tried again), `refused` or `expired` (given up). And those that strangers have asked for and that have given way to what is sent sooner: `displaced`.
    Mail = "mail", Counter, ["mail", "outcome"];
    /// Mails that wait to be sent or tried again, of all nodes: 2,700 at most that strangers have asked for, and 3,000 of others.
    MailWaiting = "mail_waiting", Gauge, [];
    /// For how long the mail has waited that has waited for longest, of all nodes, in seconds: 0 if none waits. A link that is asked for is on its way within seconds; one that has waited for minutes is at a domain that takes none, or none can be sent.
    MailOldestSeconds = "mail_oldest_seconds", Gauge, [];
    /// Pushes to devices, by what became of them: `told`, `badge` (only the number at the icon), `read`, `acknowledged`, `muted`, `unregistered`, `signed_out`, `expired` and `nothing` (nothing was sent, and nothing will be), `quiet` (put off to the end of the quiet hours), `gone` (nobody is at the address any more), `refused` (the service will never take it), `ended` (it was refused so often that the registration has ended), `postponed` (it is tried again), `taken_again` (its lease ran out while this server had it in hand: counted beside what becomes of it).
    PushTasks = "push_tasks", Counter, ["outcome"];
    /// Pushes that wait: for their time, for the service, or because it has not taken them.
    PushWaiting = "push_waiting", Gauge, [];
    /// Devices that are registered for pushes.
    PushDevices = "push_devices", Gauge, [];
    /// Requests to push services, by service and what came of them.
    PushRequests = "push_requests", Counter, ["service", "outcome"];
    /// Seconds from when a message was stored until the push service had taken its push.
    PushSeconds = "push_seconds", Histogram, [];
    /// The circuit breaker before a push service: 0 closed (it is asked), 1 trying, 2 open (it is left alone).
    PushCircuit = "push_circuit", Gauge, ["service"];
    /// What Expo has said later of messages that it had taken: `delivered` to Apple or Google, `gone`, or why not.
    PushReceipts = "push_receipts", Counter, ["outcome"];
    /// Long-lived tasks and threads that ended although they should run, and tasks after an answer (`rehash`, `reminder`, `export`) that panicked, by name.
    TaskFailures = "task_failures", Counter, ["task"];
    /// Failed calls of the store, by kind.
    StoreErrors = "store_errors", Counter, ["kind"];
    /// HTTP requests, by method, route and status.
    HttpRequests = "http_requests", Counter, ["method", "route", "status"];
    /// Seconds that HTTP requests took, by route.
    HttpSeconds = "http_seconds", Histogram, ["route"];
    /// Questions for the AI service, by what became of them: `answered`, `timeout`, `unavailable`, `invalid_answer`, or not asked because of `busy`, `circuit_open` or `budget_spent`.
    AiCalls = "ai_calls", Counter, ["outcome"];
    /// Seconds that the AI service took to answer or to fail.
    AiSeconds = "ai_seconds", Histogram, [];
    /// The circuit breaker before the AI service: 0 closed (it is asked), 1 trying, 2 open (it is left alone).
    AiCircuit = "ai_circuit", Gauge, [];
}

/// The prefix of every name.
pub const PREFIX: &str = "membersbook";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FrameLabels {
    r#type: &'static str,
}

/// `code` is an error code or a close code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabels {
    way: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EffectLabels {
    effect: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabels {
    job: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MailLabels {
    mail: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BusLabels {
    direction: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabels {
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    service: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CircuitLabels {
    service: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The handles of every metric of one server.
pub struct Metrics {
    registry: Registry,
    /// [`Metric::Connections`]
    pub connections: Gauge,
    /// [`Metric::MembersConnected`]
    pub members_connected: Gauge,
    connections_refused: Family<LimitLabels, Counter>,
    /// [`Metric::ConnectionsEvicted`]
    pub connections_evicted: Counter,
    connections_closed: Family<CodeLabels, Counter>,
    frames_received: Vec<Counter>,
    frames_invalid: Counter,
    frames_sent: Vec<Counter>,
    /// [`Metric::Messages`], `stored`
    pub messages_stored: Counter,
    /// [`Metric::Messages`], `duplicate`
    pub messages_duplicate: Counter,
    /// [`Metric::Messages`], `refused`
    pub messages_refused: Counter,
    /// [`Metric::Messages`], `failed`
    pub messages_failed: Counter,
    /// [`Metric::MessagesRecovered`]
    pub messages_recovered: Counter,
    /// [`Metric::Receipts`]
    pub receipts: Counter,
    /// [`Metric::CommitCommands`]
    pub commit_commands: Histogram,
    /// [`Metric::CommitSeconds`]
    pub commit_seconds: Histogram,
    /// [`Metric::MessageSeconds`]
    pub message_seconds: Histogram,
    /// [`Metric::Backpressure`]
    pub backpressure: Counter,
    /// [`Metric::FanOut`]
    pub fan_out: Histogram,
    /// [`Metric::OutboxOverflows`]
    pub outbox_overflows: Counter,
    /// [`Metric::OutboxDropped`]
    pub outbox_dropped: Counter,
    /// [`Metric::MemoryCharged`]
    pub memory_charged: Gauge,
    memory_cuts: Family<WhatLabels, Counter>,
    /// [`Metric::SyncSeconds`]
    pub sync_seconds: Histogram,
    auth_failures: Family<CodeLabels, Counter>,
    refreshes: Family<ResultLabels, Counter>,
    registrations: Family<WayLabels, Counter>,
    second_factor_codes: Family<ResultLabels, Counter>,
    /// [`Metric::AuditDropped`]
    pub audit_dropped: Counter,
    rate_limited: Family<LimitLabels, Counter>,
    /// [`Metric::PasswordSeconds`]
    pub password_seconds: Histogram,
    /// [`Metric::PasswordRounds`]
    pub password_rounds: Counter,
    /// [`Metric::StoreReadSeconds`]
    pub store_read_seconds: Histogram,
    /// See [`Metric::StoreWriteSeconds`].
    pub store_write_seconds: Histogram,
    /// [`Metric::StoreLogPages`]
    pub store_log_pages: Gauge,
    /// [`Metric::StoreCheckpointSeconds`]
    pub store_checkpoint_seconds: Histogram,
    /// [`Metric::StoreRowsBehind`]
    pub store_rows_behind: Gauge,
    /// [`Metric::StoreKeyRuns`]
    pub store_key_runs: Gauge,
    /// Conversations in which another node took the next `seq` first.
    pub seq_collisions: Counter,
    /// [`Metric::FleetNodes`]
    pub fleet_nodes: Gauge,
    fleet_doubts: Family<CauseLabels, Counter>,
    /// [`Metric::FleetInDoubt`]
    pub fleet_in_doubt: Gauge,
    /// [`Metric::FleetFloorBehind`]
    pub fleet_floor_behind: Gauge,
    bus_events: Family<BusLabels, Counter>,
    /// [`Metric::BusDropped`]
    pub bus_dropped: Counter,
    /// [`Metric::BusStrangers`]
    pub bus_strangers: Counter,
    /// [`Metric::BusBytesSent`]
    pub bus_bytes_sent: Counter,
    /// [`Metric::BusBytesReceived`]
    pub bus_bytes_received: Counter,
    /// [`Metric::BusRoundTripSeconds`]
    pub bus_round_trip_seconds: Histogram,
    /// [`Metric::BusLinksUp`]
    pub bus_links_up: Gauge,
    /// [`Metric::BusReconnects`]
    pub bus_reconnects: Counter,
    /// [`Metric::SweepSeconds`]
    pub sweep_seconds: Histogram,
    /// [`Metric::SweptConversations`]
    pub swept_conversations: Counter,
    clock_steps: Family<DirectionLabels, Counter>,
    /// [`Metric::ClockSkew`]
    pub clock_skew: Gauge<f64, AtomicU64>,
    effects: Family<EffectLabels, Counter>,
    session_check_closed: Family<ReasonLabels, Counter>,
    /// [`Metric::SessionCheckFailures`]
    pub session_check_failures: Counter,
    /// [`Metric::SessionCheckSeconds`]
    pub session_check_seconds: Histogram,
    jobs: Family<JobLabels, Counter>,
    /// [`Metric::JobsWaiting`]
    pub jobs_waiting: Gauge,
    mail: Family<MailLabels, Counter>,
    /// [`Metric::MailWaiting`]
    pub mail_waiting: Gauge,
    /// [`Metric::MailOldestSeconds`]
    pub mail_oldest_seconds: Gauge,
    push_tasks: Family<OutcomeLabels, Counter>,
    /// See [`Metric::PushWaiting`].
    pub push_waiting: Gauge,
    /// See [`Metric::PushDevices`].
    pub push_devices: Gauge,
    push_requests: Family<ServiceLabels, Counter>,
    /// See [`Metric::PushSeconds`].
    pub push_seconds: Histogram,
    push_circuit: Family<CircuitLabels, Gauge>,
    push_receipts: Family<OutcomeLabels, Counter>,
    task_failures: Family<TaskLabels, Counter>,
    store_errors: Family<KindLabels, Counter>,
    http_requests: Family<RequestLabels, Counter>,
    http_seconds: Family<RouteLabels, Histogram>,
    ai_calls: Family<OutcomeLabels, Counter>,
    /// [`Metric::AiSeconds`]
    pub ai_seconds: Histogram,
    /// [`Metric::AiCircuit`]
    pub ai_circuit: Gauge,
}

/// Buckets of latencies, in seconds: 50 us to 26 s, doubling.
fn seconds() -> Histogram {
    Histogram::new(registry_buckets(0.000_05, 20))
}

/// Buckets of counts: 1 to 8,192, doubling.
fn counts() -> Histogram {
    Histogram::new(registry_buckets(1.0, 14))
}

fn registry_buckets(start: f64, length: u16) -> impl Iterator<Item = f64> {
    prometheus_client::metrics::histogram::exponential_buckets(start, 2.0, length)
}

/// Registers a metric under its name and gives its handle back.
fn register<M: registry::Metric + Clone>(registry: &mut Registry, metric: Metric, handle: M) -> M {
    registry.register(metric.name(), metric.help().trim_end_matches('.'), handle.clone());
    handle
}

impl Metrics {
    /// A registry with every metric in it.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let r = &mut registry;
        let received: Family<FrameLabels, Counter> = register(r, Metric::FramesReceived, Family::default());
        let sent: Family<FrameLabels, Counter> = register(r, Metric::FramesSent, Family::default());
        let messages: Family<ResultLabels, Counter> = register(r, Metric::Messages, Family::default());
        let by_type = |family: &Family<FrameLabels, Counter>, types: &[&'static str]| {
            types.iter().map(|&r#type| family.get_or_create_owned(&FrameLabels { r#type })).collect()
        };
        let message = |result| messages.get_or_create_owned(&ResultLabels { result });
        Self {
            connections: register(r, Metric::Connections, Gauge::default()),
            members_connected: register(r, Metric::MembersConnected, Gauge::default()),
            connections_refused: register(r, Metric::ConnectionsRefused, Family::default()),
            connections_evicted: register(r, Metric::ConnectionsEvicted, Counter::default()),
            connections_closed: register(r, Metric::ConnectionsClosed, Family::default()),
            frames_received: by_type(&received, ClientFrame::TYPES),
            frames_invalid: received.get_or_create_owned(&FrameLabels { r#type: "invalid" }),
            frames_sent: by_type(&sent, ServerFrame::TYPES),
            messages_stored: message("stored"),
            messages_duplicate: message("duplicate"),
            messages_refused: message("refused"),
            messages_failed: message("failed"),
            messages_recovered: register(r, Metric::MessagesRecovered, Counter::default()),
            receipts: register(r, Metric::Receipts, Counter::default()),
            commit_commands: register(r, Metric::CommitCommands, counts()),
            commit_seconds: register(r, Metric::CommitSeconds, seconds()),
            message_seconds: register(r, Metric::MessageSeconds, seconds()),
            backpressure: register(r, Metric::Backpressure, Counter::default()),
            fan_out: register(r, Metric::FanOut, counts()),
            outbox_overflows: register(r, Metric::OutboxOverflows, Counter::default()),
            outbox_dropped: register(r, Metric::OutboxDropped, Counter::default()),
            memory_charged: register(r, Metric::MemoryCharged, Gauge::default()),
            memory_cuts: register(r, Metric::MemoryCuts, Family::default()),
            sync_seconds: register(r, Metric::SyncSeconds, seconds()),
            auth_failures: register(r, Metric::AuthFailures, Family::default()),
            refreshes: register(r, Metric::Refreshes, Family::default()),
            registrations: register(r, Metric::Registrations, Family::default()),
            second_factor_codes: register(r, Metric::SecondFactorCodes, Family::default()),
            audit_dropped: register(r, Metric::AuditDropped, Counter::default()),
            rate_limited: register(r, Metric::RateLimited, Family::default()),
            password_seconds: register(r, Metric::PasswordSeconds, seconds()),
            password_rounds: register(r, Metric::PasswordRounds, Counter::default()),
            store_read_seconds: register(r, Metric::StoreReadSeconds, seconds()),
            store_write_seconds: register(r, Metric::StoreWriteSeconds, seconds()),
            store_log_pages: register(r, Metric::StoreLogPages, Gauge::default()),
            store_checkpoint_seconds: register(r, Metric::StoreCheckpointSeconds, seconds()),
            store_rows_behind: register(r, Metric::StoreRowsBehind, Gauge::default()),
            store_key_runs: register(r, Metric::StoreKeyRuns, Gauge::default()),
            seq_collisions: register(r, Metric::SeqCollisions, Counter::default()),
            fleet_nodes: register(r, Metric::FleetNodes, Gauge::default()),
            fleet_doubts: register(r, Metric::FleetDoubts, Family::default()),
            fleet_in_doubt: register(r, Metric::FleetInDoubt, Gauge::default()),
            fleet_floor_behind: register(r, Metric::FleetFloorBehind, Gauge::default()),
            bus_events: register(r, Metric::BusEvents, Family::default()),
            bus_dropped: register(r, Metric::BusDropped, Counter::default()),
            bus_strangers: register(r, Metric::BusStrangers, Counter::default()),
            bus_bytes_sent: register(r, Metric::BusBytesSent, Counter::default()),
            bus_bytes_received: register(r, Metric::BusBytesReceived, Counter::default()),
            bus_round_trip_seconds: register(r, Metric::BusRoundTripSeconds, seconds()),
            bus_links_up: register(r, Metric::BusLinksUp, Gauge::default()),
            bus_reconnects: register(r, Metric::BusReconnects, Counter::default()),
            sweep_seconds: register(r, Metric::SweepSeconds, seconds()),
            swept_conversations: register(r, Metric::SweptConversations, Counter::default()),
            clock_steps: register(r, Metric::ClockSteps, Family::default()),
            clock_skew: register(r, Metric::ClockSkew, Gauge::default()),
            effects: register(r, Metric::Effects, Family::default()),
            session_check_closed: register(r, Metric::SessionCheckClosed, Family::default()),
            session_check_failures: register(r, Metric::SessionCheckFailures, Counter::default()),
            session_check_seconds: register(r, Metric::SessionCheckSeconds, seconds()),
            jobs: register(r, Metric::Jobs, Family::default()),
            jobs_waiting: register(r, Metric::JobsWaiting, Gauge::default()),
            mail: register(r, Metric::Mail, Family::default()),
            mail_waiting: register(r, Metric::MailWaiting, Gauge::default()),
            mail_oldest_seconds: register(r, Metric::MailOldestSeconds, Gauge::default()),
            push_tasks: register(r, Metric::PushTasks, Family::default()),
            push_waiting: register(r, Metric::PushWaiting, Gauge::default()),
            push_devices: register(r, Metric::PushDevices, Gauge::default()),
            push_requests: register(r, Metric::PushRequests, Family::default()),
            push_seconds: register(r, Metric::PushSeconds, seconds()),
            push_circuit: register(r, Metric::PushCircuit, Family::default()),
            push_receipts: register(r, Metric::PushReceipts, Family::default()),
            task_failures: register(r, Metric::TaskFailures, Family::default()),
            store_errors: register(r, Metric::StoreErrors, Family::default()),
            http_requests: register(r, Metric::HttpRequests, Family::default()),
            http_seconds: register(r, Metric::HttpSeconds, Family::new_with_constructor(seconds)),
            ai_calls: register(r, Metric::AiCalls, Family::default()),
            ai_seconds: register(r, Metric::AiSeconds, seconds()),
            ai_circuit: register(r, Metric::AiCircuit, Gauge::default()),
            registry,
        }
    }

    /// Counts a connection that there was no room for.
    pub fn connection_refused(&self, limit: &'static str) {
        self.connections_refused.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Counts a frame from a client, by [`ClientFrame::index`].
    pub fn frame_received(&self, index: usize) {
        if let Some(counter) = self.frames_received.get(index) {
            counter.inc();
        }
    }

    /// Counts something from a client that is not a frame.
    pub fn frame_invalid(&self) {
        self.frames_invalid.inc();
    }

    /// Counts a frame to a client, by [`ServerFrame::index`].
    pub fn frame_sent(&self, index: usize) {
        if let Some(counter) = self.frames_sent.get(index) {
            counter.inc();
        }
    }

    /// Counts the end of a connection; without a code the client vanished.
    pub fn connection_closed(&self, code: Option<CloseCode>) {
        let code = code.map_or_else(|| "gone".to_owned(), |code| code.number().to_string());
        self.connections_closed.get_or_create(&CodeLabels { code }).inc();
    }

    /// Somebody has registered.
    pub fn registration(&self, way: &'static str) {
        self.registrations.get_or_create(&WayLabels { way }).inc();
    }

    /// Counts a code of a second factor.
    pub fn second_factor_code(&self, result: &'static str) {
        self.second_factor_codes.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts a failed authentication.
    pub fn auth_failure(&self, code: ErrorCode) {
        self.auth_failures.get_or_create(&CodeLabels { code: code.to_string() }).inc();
    }

    /// Counts a refresh token that was exchanged, or gave somebody away.
    pub fn refresh(&self, result: &'static str) {
        self.refreshes.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts a request that a rate limit refused.
    pub fn rate_limit_hit(&self, limit: &'static str) {
        self.rate_limited.get_or_create(&LimitLabels { limit }).inc();
    }

    /// Counts an event that crossed the bus.
    pub fn bus_event(&self, direction: &'static str, kind: &'static str) {
        self.bus_events.get_or_create(&BusLabels { direction, kind }).inc();
    }

    /// Counts that events of other nodes may have been missed.
    pub fn fleet_doubt(&self, cause: &'static str) {
        self.fleet_doubts.get_or_create(&CauseLabels { cause }).inc();
    }

    /// Counts a connection that was cut because too much memory was held.
    pub fn memory_cut(&self, what: &'static str) {
        self.memory_cuts.get_or_create(&WhatLabels { what }).inc();
    }

    /// Counts a step of the database's clock.
    pub fn clock_step(&self, direction: &'static str) {
        self.clock_steps.get_or_create(&DirectionLabels { direction }).inc();
    }

    /// Counts something that followed from a change.
    pub fn effect(&self, effect: &'static str) {
        self.effects.get_or_create(&EffectLabels { effect }).inc();
    }

    /// Counts connections that the check of sessions closed.
    pub fn session_check_closed(&self, reason: &'static str, connections: usize) {
        let connections = u64::try_from(connections).unwrap_or(u64::MAX);
        self.session_check_closed.get_or_create(&ReasonLabels { reason }).inc_by(connections);
    }

    /// Counts a job that was tried.
    pub fn job(&self, job: &'static str, outcome: &'static str) {
        self.jobs.get_or_create(&JobLabels { job, outcome }).inc();
    }

    /// Counts a mail that was tried.
    pub fn mail(&self, mail: &'static str, outcome: &'static str) {
        self.mail.get_or_create(&MailLabels { mail, outcome }).inc();
    }

    /// Counts what became of a push to a device.
    pub fn push_task(&self, outcome: &'static str) {
        self.push_tasks.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a request to a push service.
    pub fn push_request(&self, service: &'static str, outcome: &'static str) {
        self.push_requests.get_or_create(&ServiceLabels { service, outcome }).inc();
    }

    /// Shows how the circuit breaker before a push service is.
    pub fn push_circuit(&self, service: &'static str, condition: i64) {
        self.push_circuit.get_or_create(&CircuitLabels { service }).set(condition);
    }

    /// Counts what a push service has said later of a message.
    pub fn push_receipt(&self, outcome: &'static str) {
        self.push_receipts.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a task or thread that ended although it should run, or that panicked.
    pub fn task_failure(&self, task: &'static str) {
        self.task_failures.get_or_create(&TaskLabels { task }).inc();
    }

    /// Counts a failed call of the store.
    pub fn store_error(&self, kind: &'static str) {
        self.store_errors.get_or_create(&KindLabels { kind }).inc();
    }

    /// Counts an HTTP request. `route` is a pattern of ours and never a path: each one is a series for ever.
    pub fn http_request(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels { method, route: route.to_owned(), status };
        self.http_requests.get_or_create(&labels).inc();
        self.http_seconds.get_or_create(&RouteLabels { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// Counts a question for the AI service.
    pub fn ai_call(&self, outcome: &'static str) {
        self.ai_calls.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// The metrics as text.
    ///
    /// # Errors
    /// Never for metrics that can be written to memory.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_exported() {
        let metrics = Metrics::new();
        metrics.http_request("GET", "/healthz", 200, Duration::from_millis(1));
        metrics.connection_closed(Some(CloseCode::GoingAway));
        metrics.auth_failure(ErrorCode::TokenExpired);
        metrics.refresh("again");
        metrics.registration("free");
        metrics.second_factor_code("app");
        metrics.rate_limit_hit("login");
        metrics.clock_step("back");
        metrics.fleet_doubt("no_bus");
        metrics.bus_event("sent", "frame");
        metrics.effect("close");
        metrics.session_check_closed("revoked", 1);
        metrics.job("delete_photo", "done");
        metrics.mail("verify_email", "sent");
        metrics.push_task("told");
        metrics.push_request("expo", "answered");
        metrics.push_circuit("expo", 0);
        metrics.push_receipt("delivered");
        metrics.task_failure("lane");
        metrics.store_error("timeout");
        metrics.connection_refused("address");
        metrics.memory_cut("outbox");
        metrics.ai_call("answered");
        let text = metrics.render().unwrap();
        for metric in Metric::ALL {
            let kind = format!("{:?}", metric.kind()).to_lowercase();
            let line = format!("# TYPE {PREFIX}_{} {kind}\n", metric.name());
            assert!(text.contains(&line), "{line} is not in:\n{text}");
            for label in metric.labels() {
                let labelled =
                    text.lines().any(|line| line.contains(metric.name()) && line.contains(&format!("{label}=")));
                assert!(labelled, "{} has no label {label}", metric.name());
            }
        }
    }
}
