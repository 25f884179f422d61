//! Files and pipes that change while they are published.

use crate::place::{EVENT, Place, Ran, after_first_line};
use std::fs::OpenOptions;
use std::io::Write;
use std::process::Stdio;

#[test]
fn a_file_that_grows_is_read_to_its_new_end() {
    let place = Place::new();
    place.write_numbers("grows.ndjson", 400);
    let child = place.start(&["publish", EVENT, "--file", "grows.ndjson", "--ids", "--rate", "400"]);
    let ran = after_first_line(child, |_| {
        let mut file = OpenOptions::new().append(true).open(place.path("grows.ndjson")).unwrap();
        file.write_all(b"401\n").unwrap();
    });
    assert_eq!((ran.code, ran.count("published")), (Some(0), 401), "{ran:?}");
    assert!(ran.err.contains("grew while it was read"), "{ran:?}");
}

#[test]
fn a_file_that_is_cut_short_is_told_and_what_was_taken_is_counted() {
    let place = Place::new();
    place.write_numbers("shrinks.ndjson", 4_000_000);
    let child = place.start(&["publish", EVENT, "--file", "shrinks.ndjson", "--ids", "--rate", "2000"]);
    let ran = after_first_line(child, |_| {
        OpenOptions::new().write(true).open(place.path("shrinks.ndjson")).unwrap().set_len(10).unwrap();
    });
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("was cut short while it was read"), "{}", ran.err);
    assert_eq!(place.drained("dev").len() as u64, ran.count("published"));
}

#[test]
fn a_closed_pipe_on_the_way_into_publish_is_the_end_of_its_input() {
    let place = Place::new();
    let mut child = place
        .command(&["publish", EVENT, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"1\n2\n{\"cut\":").unwrap();
    drop(stdin);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.count("published"), ran.count("failed")), (Some(1), 2, 1), "{ran:?}");
    assert!(ran.err.contains("line 3: not JSON: EOF while parsing"), "{ran:?}");
}
