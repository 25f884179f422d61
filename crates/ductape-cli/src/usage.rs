//! What is said of a command line that cannot be parsed.

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::Format;
use crate::terminal::ColorWhen;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use std::ffi::OsString;
use std::process::ExitCode;

/// The whole command line, as help, completions and man pages show it.
pub(crate) fn command() -> Command {
    Cli::command()
}

/// Tells it, and returns the exit code: 0 for help and version, 2 for everything else.
pub(crate) fn report(error: &clap::Error, arguments: &[OsString], color: ColorWhen) -> ExitCode {
    if !error.use_stderr() {
        // A reader that closes the pipe has seen what it wanted of the help.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    color.apply();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(2);
    }
    let json = arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json");
    let format = if json { Format::Json } else { Format::Human };
    let (message, help) = words(error, arguments);
    Failure::usage(masked(&message), masked(&help)).report(format)
}

/// What is wrong in the parser's words, and what to write instead.
fn words(error: &clap::Error, arguments: &[OsString]) -> (String, String) {
    let text = error.render().to_string();
    let first = text.trim().trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    let help = elsewhere(error).into_iter().chain(nearest(error)).chain([see(arguments)]);
    (flat(first), help.collect::<Vec<_>>().join("; "))
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('\'', "`")
}

/// The names that come nearest to what was typed.
fn nearest(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let names: Vec<String> = kinds
        .into_iter()
        .flat_map(|kind| match error.get(kind) {
            Some(ContextValue::String(name)) => vec![name.clone()],
            // The parser puts the nearest last.
            Some(ContextValue::Strings(names)) => names.iter().rev().cloned().collect(),
            _ => Vec::new(),
        })
        .collect();
    (!names.is_empty()).then(|| format!("did you mean `{}`", names.join("` or `")))
}

/// Where the command that was called is explained.
fn see(arguments: &[OsString]) -> String {
    let (mut command, mut name) = (command(), "ductape".to_owned());
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        if let Some(inner) = command.find_subcommand(argument).cloned() {
            name = format!("{name} {argument}");
            command = inner;
        }
    }
    format!("see `{name} --help`")
}

/// Which commands have an option that this one does not.
fn elsewhere(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = unknown.strip_prefix("--")?.split(['=', ' ']).next()?;
    let mut owners = Vec::new();
    collect(&command(), "ductape", long, &mut owners);
    (!owners.is_empty()).then(|| format!("`--{long}` belongs to {}", owners.join(", ")))
}

fn collect(command: &Command, name: &str, long: &str, owners: &mut Vec<String>) {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        let name = format!("{name} {}", inner.get_name());
        if inner.get_arguments().any(|argument| argument.get_long() == Some(long)) {
            owners.push(format!("`{name}`"));
        }
        collect(inner, &name, long, owners);
    }
}

/// Text without what may be a session's token: one that stands where it does not belong is quoted back by the
/// parser. A JWT (RFC 7519) is three runs of base64url with dots between, and begins with `eyJ`.
fn masked(text: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("eyJ") {
        let end = rest[at..].find(|c| !is_token(c)).map_or(rest.len(), |len| at + len);
        out.push_str(&rest[..at]);
        out.push_str(if rest[at..end].contains('.') { "***" } else { &rest[at..end] });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_no_contradiction() {
        command().debug_assert();
    }

    #[test]
    fn a_token_is_not_quoted_back() {
        assert_eq!(masked("unexpected 'u:eyJhbGci.eyJzdWIi.c2ln' found"), "unexpected 'u:***' found");
        assert_eq!(masked("eyJust a word"), "eyJust a word");
    }
}
