//! Which way of getting servers the environment allows.

use super::{Error, Kind};

/// The environment's variable that chooses.
pub(super) const WAY: &str = "DUCTAPE_TEST_SERVERS";

/// How servers are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In Docker where that can be had, else as processes.
    First,
    /// In Docker alone.
    Docker,
    /// As processes of this machine alone.
    Native,
    /// Not at all: for a quick run of what needs none.
    None,
}

impl Way {
    /// # Errors
    /// [`Error::Broken`] where the variable says something else.
    pub(super) fn from_environment(kind: Kind) -> Result<Self, Error> {
        Self::named(&std::env::var(WAY).unwrap_or_default())
            .map_err(|other| Error::broken(kind, format!("{WAY}={other} is not docker, native or none")))
    }

    fn named(name: &str) -> Result<Self, &str> {
        match name {
            "" => Ok(Way::First),
            "docker" => Ok(Way::Docker),
            "native" => Ok(Way::Native),
            "none" => Ok(Way::None),
            other => Err(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_way_is_no_way() {
        assert_eq!(Way::named(""), Ok(Way::First));
        assert_eq!(Way::named("none"), Ok(Way::None));
        assert_eq!(Way::named("Docker"), Err("Docker"));
    }
}
