//! The waiting policy of what is measured: the broker's, and the echo's it is compared with.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ringlog_broker::config::parse_wait;
use ringlog_reactor::WaitPolicy;

/// How long `spin` without a time spins: longer than a synced write takes.
const SPIN: Duration = Duration::from_micros(200);

/// Sleep at once, or spin for a while and then sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Sleep in the kernel at once.
    Block,
    /// Poll for this long first.
    Spin(Duration),
}

impl Wait {
    /// As the reactor has it.
    pub fn policy(self) -> WaitPolicy {
        match self {
            Wait::Block => WaitPolicy::Block,
            Wait::Spin(limit) => WaitPolicy::Spin(limit),
        }
    }
}

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Wait, String> {
        match text {
            "spin" => Ok(Wait::Spin(SPIN)),
            // Broker and echo share a core: one that never sleeps would starve the other.
            "busy" => Err("`busy` never leaves the core that broker and echo share: use `spin`".into()),
            _ => match parse_wait(text) {
                Ok(WaitPolicy::Block) => Ok(Wait::Block),
                Ok(WaitPolicy::Spin(limit)) => Ok(Wait::Spin(limit)),
                _ => Err("want `block`, `spin`, or `spin:50us`".into()),
            },
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Block => f.write_str("block"),
            Wait::Spin(limit) => write!(f, "spin:{}us", limit.as_micros()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for text in ["block", "spin:50us"] {
            assert_eq!(text.parse::<Wait>().unwrap().to_string(), text);
        }
        assert!("busy".parse::<Wait>().unwrap_err().contains("use `spin`"));
        assert!("sleep".parse::<Wait>().is_err());
    }
}
