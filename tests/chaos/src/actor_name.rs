//! The names of actors, which are the names of their logs.

use std::fmt;
use std::path::{Path, PathBuf};

/// Who wrote a log. A life is one process: an actor that was killed and started again has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorName {
    /// Who starts the others and makes the faults.
    Conductor,
    /// A publisher in one of its lives.
    Publisher {
        /// Its index.
        index: u16,
        /// From 0 on.
        life: u16,
    },
    /// A member of a group in one of its lives.
    Subscriber {
        /// The index of its group.
        group: u8,
        /// Its index in the group.
        member: u8,
        /// From 0 on.
        life: u16,
    },
}

impl ActorName {
    /// The same actor in its next life.
    #[must_use]
    pub fn reborn(self) -> Self {
        match self {
            ActorName::Conductor => self,
            ActorName::Publisher { index, life } => ActorName::Publisher { index, life: life + 1 },
            ActorName::Subscriber { group, member, life } => {
                ActorName::Subscriber { group, member, life: life + 1 }
            }
        }
    }

    /// Whether it subscribes.
    pub fn is_subscriber(self) -> bool {
        matches!(self, ActorName::Subscriber { .. })
    }

    /// Its log in a run's folder.
    pub fn log(self, folder: &Path) -> PathBuf {
        folder.join(format!("{self}.log"))
    }

    /// The reverse of its `Display`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('-');
        let name = match words.next()? {
            "conductor" => ActorName::Conductor,
            "publisher" => {
                ActorName::Publisher { index: words.next()?.parse().ok()?, life: words.next()?.parse().ok()? }
            }
            "subscriber" => ActorName::Subscriber {
                group: words.next()?.parse().ok()?,
                member: words.next()?.parse().ok()?,
                life: words.next()?.parse().ok()?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(name)
    }

    /// As a number, for records about actors.
    pub fn code(self) -> u32 {
        match self {
            ActorName::Conductor => 0,
            ActorName::Publisher { index, life } => {
                1 << 30 | u32::from(index & 0x3fff) << 16 | u32::from(life)
            }
            ActorName::Subscriber { group, member, life } => {
                2 << 30 | u32::from(group & 0x3f) << 24 | u32::from(member) << 16 | u32::from(life)
            }
        }
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActorName::Conductor => f.write_str("conductor"),
            ActorName::Publisher { index, life } => write!(f, "publisher-{index}-{life}"),
            ActorName::Subscriber { group, member, life } => write!(f, "subscriber-{group}-{member}-{life}"),
        }
    }
}

/// The logs in a run's folder, by name.
///
/// # Errors
/// Where the folder cannot be read.
pub(crate) fn logs_in(folder: &Path) -> std::io::Result<Vec<ActorName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.file_name();
        names.extend(file.to_str().and_then(|name| ActorName::parse(name.strip_suffix(".log")?)));
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_has_a_code_of_its_own() {
        let names = [
            ActorName::Conductor,
            ActorName::Publisher { index: 3, life: 12 },
            ActorName::Subscriber { group: 1, member: 2, life: 40 },
        ];
        for name in names {
            assert_eq!(ActorName::parse(&name.to_string()), Some(name));
            assert_eq!(names.iter().filter(|other| other.code() == name.code()).count(), 1);
        }
        for wrong in ["", "publisher", "publisher-1", "publisher-1-2-3", "reader-0-0", "subscriber-0-x-0"] {
            assert_eq!(ActorName::parse(wrong), None);
        }
    }
}
