//! From what was measured to what is told: targets, tables, the chart.

use crate::plan::{CORPORA, Plan, WITH_TARGET};
use crate::rounds::{AtOnce, Costs, InTurn, Memory, OURS, Paced, Played, bar};
use ductape_benches::report::{Report, Target};
use ductape_benches::results::{Chart, Group, Made, Section, Table};
use ductape_benches::spread::{Rounds, short};

/// The place of the raw client among the players.
const RAW: usize = 1;
/// What the peak of memory may be at a backlog ten times as long.
const FLAT: f64 = 1.1;
/// What ours must be of the best peer.
const OF_BEST_PEER: f64 = 1.2;

type Pick = fn(&InTurn) -> &Rounds;

const PHASES: [(&str, Pick); 2] = [("publish", |it| &it.publish), ("consume", |it| &it.consume)];

pub(crate) fn section(plan: &Plan, played: &Played, made: Made) -> Section {
    let report = targets(plan, played);
    report.end();
    let mut tables: Vec<Table> = (0..CORPORA.len()).map(|corpus| in_turn(plan, played, corpus)).collect();
    tables.push(at_once(played));
    tables.push(paced(played));
    tables.push(costs(played));
    let mut missing = report.skipped().to_vec();
    missing.extend(played.failed.iter().cloned());
    if played.players.iter().all(|player| player.about.version.is_empty()) {
        missing.push("peers: the run was without --peers, or none carries this provider".into());
    }
    Section {
        name: plan.provider.clone(),
        title: plan.kind.into(),
        order: plan.order,
        made,
        about: about(plan, played),
        targets: report.lines().to_vec(),
        tables,
        chart: Some(chart(plan, played)),
        missing,
    }
}

fn about(plan: &Plan, played: &Played) -> Vec<String> {
    let server = played.server.as_ref().map_or_else(String::new, |server| format!("Server: {server}. "));
    let mut about = vec![format!("{server}Durability: {}. Raw: {}.", plan.durability, plan.raw)];
    let notes = played.players.iter().filter(|player| !player.about.note.is_empty());
    about.extend(notes.map(|player| format!("{}: {}.", player.shown(), player.about.note)));
    about
}

fn targets(plan: &Plan, played: &Played) -> Report {
    let mut report = Report::default();
    println!("\nTargets");
    for (corpus, payload) in CORPORA.iter().enumerate().take(WITH_TARGET) {
        for (phase, pick) in PHASES {
            let of =
                |player: usize| played.in_turn.get(&(corpus, player)).map(pick).filter(|it| !it.is_empty());
            let name = format!("{phase} {payload}");
            let (Some(ours), Some(raw)) = (of(OURS), of(RAW)) else {
                report.skip(&name, "ours or raw failed");
                continue;
            };
            let detail = format!("messages/s: ours {ours}, raw {raw}{}", said(ours, raw));
            let ratio = ours.median() / raw.median();
            report.line(&format!("{name}, of raw"), ratio, "x", Target::AtLeast(plan.of_raw), &detail);
            let Some((peer, best)) = best_peer(played, &of) else { continue };
            let detail = format!("messages/s: ours {ours}, {peer} {best}{}", said(ours, best));
            let ratio = ours.median() / best.median();
            report.line(
                &format!("{name}, of the best peer"),
                ratio,
                "x",
                Target::AtLeast(OF_BEST_PEER),
                &detail,
            );
        }
    }
    if let Some(Memory { short: (few, low), long: (many, high) }) = &played.memory {
        let name = format!("peak memory, backlog of {} beside {}", short(*many as f64), short(*few as f64));
        let detail = format!("MiB: {high} beside {low}, published and worked off by one process");
        report.line(&name, high.median() / low.median(), "x", Target::AtMost(FLAT), &detail);
    }
    report
}

/// The fastest of those that confirm as we do.
fn best_peer<'p>(played: &Played, of: &impl Fn(usize) -> Option<&'p Rounds>) -> Option<(String, &'p Rounds)> {
    let peers = played
        .players
        .iter()
        .enumerate()
        .filter(|(_, it)| !it.about.version.is_empty() && it.about.confirmed);
    peers
        .filter_map(|(index, player)| Some((player.shown(), of(index)?)))
        .max_by(|(_, a), (_, b)| a.median().total_cmp(&b.median()))
}

fn said(one: &Rounds, other: &Rounds) -> &'static str {
    if one.overlaps(other) { "; no difference" } else { "" }
}

/// The share of the raw client's median.
fn beside(rounds: &Rounds, raw: Option<&Rounds>) -> String {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else { return "?".into() };
    let no_difference = if rounds.overlaps(raw) { ", no difference" } else { "" };
    format!("{:.2}{no_difference}", rounds.median() / raw.median())
}

fn in_turn(plan: &Plan, played: &Played, corpus: usize) -> Table {
    let (payload, messages) = (CORPORA[corpus], plan.messages(CORPORA[corpus]));
    let raw = played.in_turn.get(&(corpus, RAW));
    let rows = played.players.iter().enumerate().filter_map(|(index, player)| {
        let noted = played.in_turn.get(&(corpus, index))?;
        let of_raw = |pick: Pick| if index == RAW { "1".into() } else { beside(pick(noted), raw.map(pick)) };
        Some(vec![
            player.shown(),
            noted.publish.to_string(),
            of_raw(|it| &it.publish),
            short(noted.publish_cpu.median()),
            noted.consume.to_string(),
            of_raw(|it| &it.consume),
            short(noted.consume_cpu.median()),
            short(noted.peak_mib.median()),
            noted.repeated.to_string(),
        ])
    });
    let header = [
        "",
        "publish/s",
        "of raw",
        "CPU s a million",
        "consume/s",
        "of raw",
        "CPU s a million",
        "peak MiB",
        "repeated",
    ];
    Table {
        title: format!(
            "{payload}: {messages} messages published, then consumed; {} rounds",
            plan.rounds(corpus)
        ),
        header: header.map(String::from).into(),
        rows: rows.collect(),
    }
}

fn at_once(played: &Played) -> Table {
    let mut rows = Vec::new();
    for (corpus, payload) in CORPORA.iter().enumerate().take(WITH_TARGET) {
        let raw = played.at_once.get(&(corpus, RAW)).map(|it| &it.rate);
        for (index, player) in played.players.iter().enumerate() {
            let Some(AtOnce { rate, cpu }) = played.at_once.get(&(corpus, index)) else { continue };
            let of_raw = if index == RAW { "1".into() } else { beside(rate, raw) };
            let name = format!("{}, {payload}", player.shown());
            rows.push(vec![name, rate.to_string(), of_raw, short(cpu.median())]);
        }
    }
    Table {
        title: "Published and consumed at once, in one process".into(),
        header: ["", "messages/s", "of raw", "CPU s a million"].map(String::from).into(),
        rows,
    }
}

fn paced(played: &Played) -> Table {
    let rows = played.players.iter().enumerate().filter_map(|(index, player)| {
        let Paced { per_second, p50, p99, p999 } = played.paced.get(&index)?;
        Some(vec![player.shown(), short(*per_second), p50.to_string(), p99.to_string(), p999.to_string()])
    });
    Table {
        title: format!(
            "Milliseconds from when a message was due until it was handled, at half load (10,000 a second at most), {}",
            CORPORA[0]
        ),
        header: ["", "messages/s", "p50", "p99", "p99.9"].map(String::from).into(),
        rows: rows.collect(),
    }
}

fn costs(played: &Played) -> Table {
    let shown = |value: Option<f64>| value.map_or_else(|| "?".into(), short);
    let rows = played.players.iter().enumerate().filter_map(|(index, player)| {
        let Costs { instructions, publish_allocations, consume_allocations } = played.costs.get(&index)?;
        let figures = [instructions, publish_allocations, consume_allocations].map(|value| shown(*value));
        Some(std::iter::once(player.shown()).chain(figures).collect())
    });
    Table {
        title: format!("What a message of {} costs: published and consumed, all threads", CORPORA[0]),
        header: ["", "instructions", "allocations to publish", "to consume"].map(String::from).into(),
        rows: rows.collect(),
    }
}

fn chart(plan: &Plan, played: &Played) -> Chart {
    let mut groups = Vec::new();
    for (corpus, payload) in CORPORA.iter().enumerate().take(WITH_TARGET) {
        for (phase, pick) in PHASES {
            let bars = played.players.iter().enumerate().filter_map(|(index, player)| {
                Some(bar(player.shown(), pick(played.in_turn.get(&(corpus, index))?)))
            });
            let title = format!("{phase}, {payload}, messages a second");
            groups.push(Group { title, bars: bars.collect() });
        }
    }
    Chart { title: plan.kind.into(), groups }
}
