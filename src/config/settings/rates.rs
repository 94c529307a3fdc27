//! The settings of rate limits.

use clap::Args;

use crate::config::values::whole;

/// How much is allowed. Zero means no limit.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rate limits (0: none)")]
pub struct Rates {
    /// Messages of one member a second, over all their devices.
    #[arg(long, env = "RATE_MESSAGES", default_value_t = 20, value_parser = whole::<u32>, global = true)]
    pub rate_messages: u32,
    /// Messages of one member at once, after a pause.
    #[arg(long, env = "RATE_MESSAGES_BURST", default_value_t = 100, value_parser = whole::<u32>, global = true)]
    pub rate_messages_burst: u32,
    /// Frames of one member a second, over all their devices; message.delivered, and message.read without an id, cost a quarter of one.
    #[arg(long, env = "RATE_FRAMES", default_value_t = 100, value_parser = whole::<u32>, global = true)]
    pub rate_frames: u32,
    /// Frames of one member at once, after a pause.
    #[arg(long, env = "RATE_FRAMES_BURST", default_value_t = 500, value_parser = whole::<u32>, global = true)]
    pub rate_frames_burst: u32,
    /// `typing` of one member a second, over all their devices.
    #[arg(long, env = "RATE_TYPING", default_value_t = 5, value_parser = whole::<u32>, global = true)]
    pub rate_typing: u32,
    /// `typing` of one member at once, after a pause.
    #[arg(long, env = "RATE_TYPING_BURST", default_value_t = 20, value_parser = whole::<u32>, global = true)]
    pub rate_typing_burst: u32,
    /// `presence.set` of one member a minute, over all their devices.
    #[arg(long, env = "RATE_STATUSES", default_value_t = 60, value_parser = whole::<u32>, global = true)]
    pub rate_statuses: u32,
    /// `presence.set` of one member at once, after a pause.
    #[arg(long, env = "RATE_STATUSES_BURST", default_value_t = 30, value_parser = whole::<u32>, global = true)]
    pub rate_statuses_burst: u32,
    /// Conversations that one member begins an hour. Administrators have no limit.
    #[arg(long, env = "RATE_NEW_CONVERSATIONS", default_value_t = 30, value_parser = whole::<u32>, global = true)]
    pub rate_new_conversations: u32,
    /// Conversations that one member begins at once, after a pause.
    #[arg(long, env = "RATE_NEW_CONVERSATIONS_BURST", default_value_t = 20, value_parser = whole::<u32>, global = true)]
    pub rate_new_conversations_burst: u32,
    /// Changes of profiles by one member a minute. Administrators have no limit.
    #[arg(long, env = "RATE_PROFILES", default_value_t = 10, value_parser = whole::<u32>, global = true)]
    pub rate_profiles: u32,
    /// Changes of profiles by one member at once, after a pause.
    #[arg(long, env = "RATE_PROFILES_BURST", default_value_t = 20, value_parser = whole::<u32>, global = true)]
    pub rate_profiles_burst: u32,
    /// Hellos of one session a minute; one without a cursor that is good counts as three.
    #[arg(long, env = "RATE_HELLOS", default_value_t = 20, value_parser = whole::<u32>, global = true)]
    pub rate_hellos: u32,
    /// Hellos of one session at once, after a pause.
    #[arg(long, env = "RATE_HELLOS_BURST", default_value_t = 12, value_parser = whole::<u32>, global = true)]
    pub rate_hellos_burst: u32,
    /// Hellos of one member a minute, over all their sessions; one without a cursor that is good counts as three.
    #[arg(long, env = "RATE_HELLOS_MEMBER", default_value_t = 60, value_parser = whole::<u32>, global = true)]
    pub rate_hellos_member: u32,
    /// Hellos of one member at once, after a pause.
    #[arg(long, env = "RATE_HELLOS_MEMBER_BURST", default_value_t = 40, value_parser = whole::<u32>, global = true)]
    pub rate_hellos_member_burst: u32,
    /// Hellos from one address a second; many members may share one.
    #[arg(long, env = "RATE_HELLOS_ADDRESS", default_value_t = 500, value_parser = whole::<u32>, global = true)]
    pub rate_hellos_address: u32,
    /// Hellos from one address at once, after a pause.
    #[arg(long, env = "RATE_HELLOS_ADDRESS_BURST", default_value_t = 20_000, value_parser = whole::<u32>, global = true)]
    pub rate_hellos_address_burst: u32,
    /// REST requests of one member a second.
    #[arg(long, env = "RATE_REQUESTS", default_value_t = 20, value_parser = whole::<u32>, global = true)]
    pub rate_requests: u32,
    /// REST requests of one member at once, after a pause.
    #[arg(long, env = "RATE_REQUESTS_BURST", default_value_t = 200, value_parser = whole::<u32>, global = true)]
    pub rate_requests_burst: u32,
    /// REST requests from one address a second.
    #[arg(long, env = "RATE_ADDRESS", default_value_t = 100, value_parser = whole::<u32>, global = true)]
    pub rate_address: u32,
    /// REST requests from one address at once, after a pause.
    #[arg(long, env = "RATE_ADDRESS_BURST", default_value_t = 1000, value_parser = whole::<u32>, global = true)]
    pub rate_address_burst: u32,
    /// Logins from one address a minute.
    #[arg(long, env = "RATE_LOGINS", default_value_t = 30, value_parser = whole::<u32>, global = true)]
    pub rate_logins: u32,
    /// Logins from one address at once, after a pause.
    #[arg(long, env = "RATE_LOGINS_BURST", default_value_t = 60, value_parser = whole::<u32>, global = true)]
    pub rate_logins_burst: u32,
    /// Exchanges of refresh tokens by one member a minute, over all their sessions.
    #[arg(long, env = "RATE_REFRESHES", default_value_t = 30, value_parser = whole::<u32>, global = true)]
    pub rate_refreshes: u32,
    /// Exchanges of refresh tokens by one member at once, after a pause.
    #[arg(long, env = "RATE_REFRESHES_BURST", default_value_t = 30, value_parser = whole::<u32>, global = true)]
    pub rate_refreshes_burst: u32,
    /// Registrations from one address a minute.
    #[arg(long, env = "RATE_REGISTRATIONS", default_value_t = 10, value_parser = whole::<u32>, global = true)]
    pub rate_registrations: u32,
    /// Registrations from one address at once, after a pause.
    #[arg(long, env = "RATE_REGISTRATIONS_BURST", default_value_t = 60, value_parser = whole::<u32>, global = true)]
    pub rate_registrations_burst: u32,
}
