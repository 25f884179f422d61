//! On a terminal: the bar, tables, colours, and Ctrl-C as a person presses it.

use crate::place::{EVENT, Place};
use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

/// How long to wait for what is expected, in milliseconds.
const PATIENCE: u64 = 20_000;

fn session(place: &Place, arguments: &[&str]) -> PtySession {
    let mut command = place.command(arguments);
    command.stdin(std::process::Stdio::inherit()).env("TERM", "xterm-256color");
    spawn_command(command, Some(PATIENCE)).unwrap()
}

fn code(session: &PtySession) -> i32 {
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, code) => code,
        other => panic!("it ended otherwise: {other:?}"),
    }
}

#[test]
fn a_bar_shows_rate_and_remaining_time_and_ctrl_c_ends_with_the_count() {
    let place = Place::new();
    place.write_numbers("many.ndjson", 100_000);
    let mut session = session(&place, &["publish", EVENT, "--file", "many.ndjson", "--rate", "2000"]);
    session.exp_regex("[0-9]+%").unwrap();
    session.exp_regex("[0-9]+ messages, [0-9]+/s").unwrap();
    session.exp_string("ETA").unwrap();
    session.send_control('c').unwrap();
    let (_, count) =
        session.exp_regex("\\{\"published\":[0-9]+,\"failed\":0,\"seconds\":[0-9.]+\\}").unwrap();
    let count: serde_json::Value = serde_json::from_str(&count).unwrap();
    assert_eq!(code(&session), 1);
    assert_eq!(Some(place.lag("dev", "shop")), count["published"].as_u64());
}

#[test]
fn ctrl_c_ends_a_subscriber_without_a_fault() {
    let place = Place::new();
    place.run(&["publish", EVENT, "--message", "{\"n\":1}"]);
    let mut session = session(&place, &["subscribe", EVENT]);
    session.exp_string("waiting as a member of `shop`").unwrap();
    session.exp_string("{\"n\":1}").unwrap();
    session.send_control('c').unwrap();
    assert_eq!(code(&session), 0);
    assert_eq!(place.lag("dev", "shop"), 0);
}

#[test]
fn tables_have_headings_and_colours_unless_they_are_not_wanted() {
    let place = Place::new();
    let shown = |options: &[&str]| {
        let mut session = session(&place, &[&["check"], options].concat());
        session.exp_eof().unwrap()
    };
    let coloured = shown(&[]);
    assert!(coloured.contains("\u{1b}[1mEVENT"), "{coloured:?}");
    let plain = shown(&["--color", "never"]);
    assert!(plain.contains("EVENT ") && !plain.contains('\u{1b}'), "{plain:?}");
    let piped = place.run(&["check", "--color", "always"]);
    assert!(!piped.out.contains("EVENT"), "a table is for a terminal: {piped:?}");
}

#[test]
fn no_color_is_heard() {
    let place = Place::new();
    let mut command = place.command(&["check"]);
    command.stdin(std::process::Stdio::inherit()).env("TERM", "xterm-256color").env("NO_COLOR", "1");
    let plain = spawn_command(command, Some(PATIENCE)).unwrap().exp_eof().unwrap();
    assert!(plain.contains("EVENT ") && !plain.contains('\u{1b}'), "{plain:?}");
}

#[test]
fn nothing_to_publish_is_told_where_nobody_pipes() {
    let place = Place::new();
    let mut session = session(&place, &["publish", EVENT]);
    session.exp_string("nothing to publish is named").unwrap();
    session.exp_eof().unwrap();
    assert_eq!(code(&session), 2);
}

#[test]
fn dead_letters_are_thrown_away_only_where_that_is_confirmed() {
    let place = Place::new();
    place.run(&["publish", EVENT, "--message", "1"]);
    place.run(&["subscribe", EVENT, "--exec", "exit 1", "--attempts", "1", "--timeout", "200ms"]);
    let asked = |answer: &str| {
        let mut session = session(&place, &["dead-letters", "purge", EVENT]);
        session.exp_string("throw 1 dead letters").unwrap();
        session.send_line(answer).unwrap();
        session.exp_eof().unwrap();
        code(&session)
    };
    assert_eq!(asked("n"), 2);
    assert_eq!(asked("y"), 0);
    assert_eq!(place.run(&["dead-letters", "list", EVENT]).out, "");
}
