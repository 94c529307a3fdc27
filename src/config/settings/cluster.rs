//! Settings of several nodes that serve one club.

use clap::Args;
use secrecy::SecretString;

use crate::config::values::secret;

/// Several nodes that serve one club.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Fleet")]
pub struct ClusterSettings {
    /// Redis, through which nodes on one MongoDB tell each other what happens: redis://HOST:PORT or rediss://…, with
    /// user, password and database if need be. Several addresses, separated by commas, share the members. Without it
    /// nodes find in the database what others did, every 250 ms.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_parser = secret, global = true)]
    pub redis_url: Option<SecretString>,
    /// The name of a master: the addresses of REDIS_URL are then Sentinels that know where it is. User, password and
    /// database of the first one are those of the master.
    #[arg(long, env = "REDIS_SENTINEL_MASTER", global = true)]
    pub redis_sentinel_master: Option<String>,
    /// The name of this node, for people. [default: the name of the machine]
    #[arg(long, env = "NODE_NAME", global = true)]
    pub node_name: Option<String>,
}
