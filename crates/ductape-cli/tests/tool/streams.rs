//! Streams that change under the tool, and signals: nothing that was taken is lost or reported wrongly.

use crate::place::{EVENT, Place, Ran, after_first_line, signal, terminate, until};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn a_stop_ends_with_the_count_of_what_was_taken() {
    for told in [Signal::SIGINT, Signal::SIGTERM] {
        let place = Place::new();
        place.write_numbers("many.ndjson", 100_000);
        let child = place.start(&["publish", EVENT, "--file", "many.ndjson", "--ids", "--rate", "1000"]);
        let ran = after_first_line(child, |child| signal(child, told));
        let published = ran.count("published");
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!((1..100_000).contains(&published), "{published}");
        assert_eq!(ran.out.lines().count() as u64, published + 1, "an id a message, and the count");
        let next = published + 1;
        assert!(ran.err.contains(&format!("lines from {next} on were not published")), "{}", ran.err);
        let expected: Vec<String> = (1..=published).map(|number| number.to_string()).collect();
        assert_eq!(place.drained("dev"), expected);
    }
}

#[test]
fn nobody_who_reads_the_ids_ends_it_with_the_count_on_standard_error() {
    let place = Place::new();
    place.write_numbers("many.ndjson", 100_000);
    let mut child = place.start(&["publish", EVENT, "--file", "many.ndjson", "--ids", "--rate", "2000"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let mut ran = Ran::from(child.wait_with_output().unwrap());
    ran.out.clone_from(&ran.err);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(place.drained("dev").len() as u64, ran.count("published"));
}

#[test]
fn a_subscriber_that_is_stopped_has_acknowledged_what_it_wrote_and_nothing_else() {
    let place = Place::new();
    place.write_numbers("some.ndjson", 3000);
    assert_eq!(place.run(&["publish", EVENT, "--file", "some.ndjson"]).code, Some(0));
    let ran = after_first_line(place.start(&["subscribe", EVENT, "--payload"]), terminate);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let mut seen: Vec<String> = ran.out.lines().map(str::to_owned).collect();
    seen.extend(place.drained("dev"));
    let expected: Vec<String> = (1..=3000).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_reader_that_stalls_holds_up_neither_a_stop_nor_what_was_not_written() {
    let place = Place::new();
    let line = format!("\"{}\"\n", "x".repeat(1000));
    place.write("large.ndjson", &line.repeat(2000));
    assert_eq!(place.run(&["publish", EVENT, "--file", "large.ndjson"]).code, Some(0));
    // Nobody reads its output: the pipe fills up, and the rest waits.
    let child = place.start(&["subscribe", EVENT, "--payload"]);
    until("all that may be are in hand", || place.in_hand("dev", "shop") > 0);
    terminate(&child);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let seen = ran.out.lines().filter(|written| written.len() == line.len() - 1).count();
    assert!(seen + place.drained("dev").len() >= 2000, "{seen} were written");
}

#[test]
fn commands_under_way_finish_before_a_stop_and_are_acknowledged() {
    let place = Place::new();
    place.write_numbers("some.ndjson", 20);
    assert_eq!(place.run(&["publish", EVENT, "--file", "some.ndjson"]).code, Some(0));
    // Each says that it has begun, waits for the file, and says that it is done.
    let command = "read n; echo begun $n; while ! test -e go; do sleep 0.01; done; echo done $n";
    let child = place.start(&["subscribe", EVENT, "--exec", command, "--concurrency", "2"]);
    let ran = after_first_line(child, |child| {
        signal(child, Signal::SIGINT);
        place.write("go", "");
    });
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let done = ran.out.lines().filter(|line| line.starts_with("done")).count();
    let begun = ran.out.lines().filter(|line| line.starts_with("begun")).count();
    assert!(done == begun && done < 20, "{ran:?}");
    assert_eq!(place.drained("dev").len(), 20 - done);
}

#[test]
fn never_more_commands_than_asked_for_and_the_order_of_each_key() {
    let place = Place::new();
    let lines: String = (0..60).map(|n| format!("{{\"k\":{},\"n\":{n}}}\n", n % 3)).collect();
    place.write("keyed.ndjson", &lines);
    assert_eq!(place.run(&["publish", EVENT, "--file", "keyed.ndjson", "--key", "/k"]).code, Some(0));
    let command =
        "read m; mkdir run.$$; ls -d run.* | wc -l >> running; echo $m >> done.$DUCTAPE_KEY; rmdir run.$$";
    let ran = place.run(&["subscribe", EVENT, "--exec", command, "--concurrency", "3", "--count", "60"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for key in 0..3 {
        let expected: String =
            (0..60).filter(|n| n % 3 == key).map(|n| format!("{{\"k\":{key},\"n\":{n}}}\n")).collect();
        assert_eq!(place.read(&format!("done.{key}")), expected);
    }
    let most = place.read("running").lines().map(|line| line.trim().parse::<u32>().unwrap()).max();
    assert!(most.is_some_and(|most| most <= 3), "{most:?} at once");
}

#[test]
fn a_bridge_that_is_killed_goes_on_where_it_was() {
    let place = Place::new();
    let lines: String = (0..20_000).map(|n| format!("{{\"k\":{},\"n\":{n}}}\n", n % 100)).collect();
    place.write("keyed.ndjson", &lines);
    let published = place.run(&["publish", EVENT, "--env", "stg", "--file", "keyed.ndjson", "--key", "/k"]);
    assert_eq!(published.code, Some(0));
    let bridge = ["bridge", EVENT, "--from", "stg", "--to", "dev"];
    let child = place.start(&bridge);
    until("some are copied", || (1..20_000).contains(&place.lag("stg", "bridge-to-dev")));
    signal(&child, Signal::SIGKILL);
    child.wait_with_output().unwrap();
    let left = place.lag("stg", "bridge-to-dev");
    let ran = place.run(&bridge);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.count("copied") >= left, "{ran:?}, {left} were left");
    let (mut seen, mut last) = (BTreeSet::new(), vec![None; 100]);
    for payload in place.drained("dev") {
        let message: serde_json::Value = serde_json::from_str(&payload).unwrap();
        let (key, n) = (message["k"].as_u64().unwrap() as usize, message["n"].as_u64().unwrap());
        // One that is copied again comes later than it did, and first sights keep their order.
        if seen.insert(n) {
            assert!(last[key] < Some(n), "{n} after {:?}", last[key]);
            last[key] = Some(n);
        }
    }
    assert_eq!(seen.len(), 20_000);
}

/// A port of which nobody accepts connections, and those that keep it so.
fn full_port() -> (u16, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Past its backlog the system answers no more.
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
    }
    (address.port(), listener, waiting)
}

#[test]
fn the_doctor_is_done_in_time_though_everything_hangs() {
    let place = Place::new();
    let (port, _listener, _waiting) = full_port();
    let servers: String = (0..8)
        .map(|n| {
            format!("      - {{ slug: s{n}, type: RABBITMQ, config: {{ host: 127.0.0.1, port: {port} }} }}\n")
        })
        .collect();
    let catalogue = crate::place::CATALOGUE.replace("    envs:\n", &format!("    envs:\n{servers}"));
    place.write("ductape.yaml", &catalogue);
    let begun = Instant::now();
    let ran = place.run(&["doctor", "--json"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    for n in 0..8 {
        let of = |check: &&serde_json::Value| check["env"] == format!("s{n}").as_str();
        let checks: Vec<_> = told["checks"].as_array().unwrap().iter().filter(of).collect();
        let silent = checks.iter().find(|check| check["check"] == "connect").unwrap();
        assert_eq!(silent["state"], "fault", "{checks:?}");
        assert!(silent["found"].as_str().unwrap().contains("no answer within"), "{silent}");
        assert!(silent["fix"].is_string(), "{silent}");
    }
}
