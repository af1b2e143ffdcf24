//! Section `restart`: whether a machine that has ended is started again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, count};

/// Whether a machine in the background that has ended is started again. A string is the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restart {
    /// When it is.
    #[serde(default)]
    pub policy: Policy,
    /// With "on-failure": how often at most. By default there is no end.
    #[serde(
        default,
        deserialize_with = "count::max_retries",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "u32", range(max = u32::MAX - 1))]
    pub max_retries: Option<u32>,
    /// Time until the first start; each further one takes twice as long, until the program has run
    /// for ten seconds.
    #[serde(default = "tenth")]
    pub delay: Duration,
    /// The longest that it takes.
    #[serde(default = "minute")]
    pub max_delay: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            max_retries: None,
            delay: tenth(),
            max_delay: minute(),
        }
    }
}

/// When a machine that has ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// If its program exited with another status than 0, was killed, or could not go on.
    OnFailure,
    /// Unless it was stopped.
    Always,
    /// Unless it was stopped. Nothing starts machines with the host, so this is "always".
    UnlessStopped,
}

const fn tenth() -> Duration {
    Duration::from_ms(100)
}

const fn minute() -> Duration {
    Duration::from_secs(60)
}

/// As a command line has it: `no`, `on-failure`, `on-failure:3`, `always`, `unless-stopped`.
impl std::str::FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, count) = match text.split_once(':') {
            Some((word, count)) => (word, Some(count)),
            None => (text, None),
        };
        let policy = match word {
            "no" => Policy::No,
            "on-failure" => Policy::OnFailure,
            "always" => Policy::Always,
            "unless-stopped" => Policy::UnlessStopped,
            _ => return Err("must be no, on-failure[:N], always or unless-stopped".into()),
        };
        let max_retries = match count {
            None => None,
            Some(count) if policy == Policy::OnFailure => {
                let number = count.parse().map_err(|_| "N must be a whole number");
                Some(number?)
            }
            Some(_) => return Err("only on-failure takes a number".into()),
        };
        Ok(Self {
            policy,
            max_retries,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_word_and_maybe_a_number() {
        let parse = |text: &str| {
            let restart = text.parse::<Restart>().ok()?;
            Some((restart.policy, restart.max_retries))
        };
        assert_eq!(parse("no"), Some((Policy::No, None)));
        assert_eq!(parse("on-failure"), Some((Policy::OnFailure, None)));
        assert_eq!(parse("on-failure:3"), Some((Policy::OnFailure, Some(3))));
        assert_eq!(parse("unless-stopped"), Some((Policy::UnlessStopped, None)));
        for text in ["", "yes", "always:3", "on-failure:", "on-failure:-1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
