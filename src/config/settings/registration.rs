//! Settings of who may come in.

use clap::Args;
use protocol::rest::{InvitationPolicy, RegistrationPolicy};

use super::Listen;
use crate::config::values::{invitations, registration};

/// Who may come in.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Who comes in")]
pub struct RegistrationSettings {
    /// Who may register: open (anybody), invite (whoever has an invitation), approval (an administrator decides about who has none) or closed
    /// (nobody). [default: open while HOST is a loopback address and neither PUBLIC_URL nor TRUSTED_PROXIES is set, else invite]
    #[arg(long, env = "REGISTRATION", value_parser = registration, global = true)]
    pub registration: Option<RegistrationPolicy>,
    /// Who may invite: admins, or members, who have 10 open invitations at most, each for one, and make 30 a day.
    #[arg(long, env = "INVITATIONS", value_parser = invitations, default_value = "admins", global = true)]
    pub invitations: InvitationPolicy,
}

/// Why a policy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The setting says so.
    Set,
    /// Only this machine reaches the server.
    OnlyHere,
    /// Others reach the server, and the setting says nothing.
    Reached,
}

impl RegistrationSettings {
    /// Who may register, and why it is so.
    #[must_use]
    pub fn policy(&self, listen: &Listen) -> (RegistrationPolicy, Because) {
        match self.registration {
            Some(policy) => (policy, Because::Set),
            None if listen.is_reached() => (RegistrationPolicy::Invite, Because::Reached),
            None => (RegistrationPolicy::Open, Because::OnlyHere),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Cli;

    fn policy(flags: &[&str]) -> (RegistrationPolicy, Because) {
        let cli = Cli::try_parse_from(std::iter::once("members-book").chain(flags.iter().copied()));
        cli.map_err(|error| error.to_string()).unwrap().settings.who_registers()
    }

    #[test]
    fn a_server_that_others_reach_takes_whom_it_is_told_to_take() {
        use RegistrationPolicy::{Closed, Invite, Open};
        assert_eq!(policy(&[]), (Open, Because::OnlyHere));
        assert_eq!(policy(&["--host", "::1"]), (Open, Because::OnlyHere));
        for reached in
            [["--host", "0.0.0.0"], ["--public-url", "https://club.example"], ["--trusted-proxies", "127.0.0.1"]]
        {
            assert_eq!(policy(&reached), (Invite, Because::Reached), "{reached:?}");
        }
        assert_eq!(policy(&["--host", "0.0.0.0", "--registration", "open"]), (Open, Because::Set));
        assert_eq!(policy(&["--registration", "closed"]), (Closed, Because::Set));
        assert!(Cli::try_parse_from(["members-book", "--registration", "everybody"]).is_err());
        assert!(Cli::try_parse_from(["members-book", "--invitations", "nobody"]).is_err());
    }
}
