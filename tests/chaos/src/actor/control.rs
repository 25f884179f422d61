//! What an actor is told while it runs: a line each on the standard input of a process.

use std::fmt;
use std::time::Duration;
use tokio::sync::mpsc;

/// Where an actor hears what it is told. Its end is the conductor's end.
pub type Controls = mpsc::UnboundedReceiver<Command>;

/// What an actor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Publish up to this number, and no further for now.
    UpTo(u32),
    /// Stop in good order.
    Stop,
    /// Let the next so many handlers panic.
    Panic(u32),
    /// Let the next so many handlers hang.
    Hang(u32),
    /// Let the handlers of this key be slow for so long.
    Slow(String, Duration),
    /// Move the clock forward.
    Jump(Duration),
}

impl Command {
    /// Reads a line.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let command = words.next()?;
        let mut number = || words.next()?.parse::<u32>().ok();
        Some(match command {
            "up-to" => Command::UpTo(number()?),
            "stop" => Command::Stop,
            "panic" => Command::Panic(number()?),
            "hang" => Command::Hang(number()?),
            "jump" => Command::Jump(Duration::from_secs(number()?.into())),
            "slow" => {
                let millis = number()?;
                Command::Slow(words.next()?.to_owned(), Duration::from_millis(millis.into()))
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::UpTo(number) => write!(f, "up-to {number}"),
            Command::Stop => f.write_str("stop"),
            Command::Panic(count) => write!(f, "panic {count}"),
            Command::Hang(count) => write!(f, "hang {count}"),
            Command::Jump(by) => write!(f, "jump {}", by.as_secs()),
            Command::Slow(key, time) => write!(f, "slow {} {key}", time.as_millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let commands = [
            Command::UpTo(7),
            Command::Stop,
            Command::Panic(1),
            Command::Hang(2),
            Command::Jump(Duration::from_secs(60)),
            Command::Slow("N14228".into(), Duration::from_millis(1500)),
        ];
        for command in commands {
            assert_eq!(Command::parse(&command.to_string()), Some(command));
        }
        assert_eq!(Command::parse("dance"), None);
        assert_eq!(Command::parse("up-to"), None);
    }
}
