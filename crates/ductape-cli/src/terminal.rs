//! What the terminal is: whether there is one, and whether it wants colours.

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use std::io::IsTerminal;

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

impl ColorWhen {
    /// What stands in the arguments, before they are parsed: help and usage errors are coloured too.
    pub(crate) fn of(arguments: &[std::ffi::OsString]) -> Self {
        let texts = arguments.iter().map_while(|argument| argument.to_str().filter(|text| *text != "--"));
        let mut when = ColorWhen::Auto;
        let mut named = false;
        for text in texts {
            let value = if named { Some(text) } else { text.strip_prefix("--color=") };
            when = value.and_then(|value| ColorWhen::from_str(value, true).ok()).unwrap_or(when);
            named = text == "--color";
        }
        when
    }

    pub(crate) fn clap(self) -> clap::ColorChoice {
        match self {
            ColorWhen::Auto => clap::ColorChoice::Auto,
            ColorWhen::Always => clap::ColorChoice::Always,
            ColorWhen::Never => clap::ColorChoice::Never,
        }
    }

    /// Makes it hold for everything that is written through `anstream`.
    pub(crate) fn apply(self) {
        match self {
            ColorWhen::Auto => anstream::ColorChoice::Auto,
            ColorWhen::Always => anstream::ColorChoice::Always,
            ColorWhen::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_one() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub(crate) fn stderr_is_one() -> bool {
    std::io::stderr().is_terminal()
}

/// Of headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// Of what went wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Of what may go wrong.
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// Of what is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Of what matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();

/// A text in a style. The stream it is written to takes the style away where there is no terminal.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> ColorWhen {
        ColorWhen::of(&arguments.iter().map(Into::into).collect::<Vec<_>>())
    }

    #[test]
    fn the_colour_option_is_found_wherever_it_stands() {
        assert_eq!(of(&["ductape", "check", "--color", "never"]), ColorWhen::Never);
        assert_eq!(of(&["ductape", "--color=always", "check"]), ColorWhen::Always);
        assert_eq!(of(&["ductape", "--", "--color=always"]), ColorWhen::Auto);
        assert_eq!(of(&["ductape", "--color=sometimes"]), ColorWhen::Auto);
    }
}
