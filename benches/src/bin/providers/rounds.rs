//! Every contestant in turn, round after round. One that fails is told and plays no more.

use crate::plan::{CORPORA, Plan, WITH_TARGET};
use ductape_benches::child;
use ductape_benches::referee::Player;
use ductape_benches::server::Server;
use ductape_benches::spread::{Rounds, short};
use ductape_benches::{Result, results};
use ductape_contest::{Corpus, Measured, Phase, Setup, Task};
use std::collections::HashMap;
use std::path::Path;
use tempfile::TempDir;

/// Messages whose instructions are counted, and whose allocations.
const COUNTED: u64 = 2_000;
/// The place of ours among the players.
pub(crate) const OURS: usize = 0;
/// How long a round at half load lasts, in seconds, and how many there are.
const PACED_SECONDS: f64 = 3.0;
const PACED_ROUNDS: usize = 3;
/// The most messages a second at half load: each is published by itself, by a task of its own, and past this the
/// tasks would be what is measured.
const PACED_MOST: f64 = 10_000.0;

/// Everything that was measured on a provider.
pub(crate) struct Played {
    pub(crate) players: Vec<Player>,
    /// By corpus and player.
    pub(crate) in_turn: HashMap<(usize, usize), InTurn>,
    pub(crate) at_once: HashMap<(usize, usize), AtOnce>,
    /// By player.
    pub(crate) paced: HashMap<usize, Paced>,
    pub(crate) costs: HashMap<usize, Costs>,
    /// What ours needed for a backlog.
    pub(crate) memory: Option<Memory>,
    /// Which server it was.
    pub(crate) server: Option<String>,
    /// Who failed, at what, and how.
    pub(crate) failed: Vec<String>,
}

#[derive(Default)]
pub(crate) struct InTurn {
    pub(crate) publish: Rounds,
    pub(crate) publish_cpu: Rounds,
    pub(crate) consume: Rounds,
    pub(crate) consume_cpu: Rounds,
    pub(crate) peak_mib: Rounds,
    pub(crate) repeated: u64,
}

#[derive(Default)]
pub(crate) struct AtOnce {
    pub(crate) rate: Rounds,
    pub(crate) cpu: Rounds,
}

#[derive(Default)]
pub(crate) struct Paced {
    pub(crate) per_second: f64,
    pub(crate) p50: Rounds,
    pub(crate) p99: Rounds,
    pub(crate) p999: Rounds,
}

#[derive(Default)]
pub(crate) struct Costs {
    pub(crate) instructions: Option<f64>,
    pub(crate) publish_allocations: Option<f64>,
    pub(crate) consume_allocations: Option<f64>,
}

/// The most memory that a process had resident, in MiB, which published a backlog and then worked it off.
pub(crate) struct Memory {
    pub(crate) short: (u64, Rounds),
    pub(crate) long: (u64, Rounds),
}

/// Ours, the raw client, and the peers in this folder.
pub(crate) fn players(plan: &Plan, peers: Option<&Path>) -> Result<Vec<Player>> {
    let mut players = vec![Player::own("ours")?, Player::own("raw")?];
    if plan.has_bare {
        players.push(Player::own("bare")?);
    }
    if let Some(folder) = peers {
        players.extend(Player::peers(folder, &plan.provider)?);
    }
    Ok(players)
}

/// Plays all of it.
pub(crate) async fn play(plan: &Plan, players: Vec<Player>) -> Result<Played> {
    let out = vec![false; players.len()];
    let mut field = Field { plan, server: Server::start(&plan.provider).await?, out, runs: 0 };
    let mut played = Played {
        players,
        in_turn: HashMap::new(),
        at_once: HashMap::new(),
        paced: HashMap::new(),
        costs: HashMap::new(),
        memory: None,
        server: field.server.program(),
        failed: Vec::new(),
    };
    for corpus in 0..CORPORA.len() {
        field.refresh().await?;
        field.in_turn(&mut played, corpus).await?;
        if corpus < WITH_TARGET {
            field.at_once(&mut played, corpus).await?;
        }
    }
    field.refresh().await?;
    field.paced(&mut played)?;
    field.costs(&mut played)?;
    field.memory(&mut played).await?;
    Ok(played)
}

/// Where they play.
struct Field<'p> {
    plan: &'p Plan,
    server: Server,
    /// Who plays no more.
    out: Vec<bool>,
    runs: u32,
}

impl Field<'_> {
    /// A server without the messages of the rounds before. The first runs on it are thrown away: a server on the JVM is
    /// slow at first.
    async fn refresh(&mut self) -> Result<()> {
        // The old one ends before the new one begins, so that both never share the processors.
        if self.server.program().is_none() {
            return Ok(());
        }
        self.server = Server::start(&self.plan.provider).await?;
        let warm = Player::own("raw")?;
        for _ in 0..if self.plan.provider == "redis" { 0 } else { 2 } {
            let (setup, _folder) =
                self.setup(CORPORA[0], Task::InTurn, self.plan.messages(CORPORA[0]) / 2, false)?;
            warm.run(&setup).map_err(|error| format!("raw, to warm up the server: {error}"))?;
        }
        Ok(())
    }

    fn setup(
        &mut self,
        corpus: Corpus,
        task: Task,
        messages: u64,
        one_thread: bool,
    ) -> Result<(Setup, TempDir)> {
        self.runs += 1;
        let folder = TempDir::with_prefix("ductape-bench-")?;
        let setup = Setup {
            provider: self.plan.provider.clone(),
            endpoint: self.server.endpoint(),
            folder: folder.path().to_owned(),
            name: format!("bench-{}-{}", std::process::id(), self.runs),
            task,
            corpus,
            messages,
            one_thread,
        };
        Ok((setup, folder))
    }

    /// Who is in, in the order of this round: there and back, so that nobody always follows the same.
    fn turn(&self, round: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.out.len()).filter(|player| !self.out[*player]).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        order
    }

    /// Lets one play; none where it failed.
    fn one(&mut self, played: &mut Played, player: usize, what: &str, setup: &Setup) -> Option<Measured> {
        match played.players[player].run(setup) {
            Ok(measured) => Some(measured),
            Err(error) => {
                self.fail(played, player, what, &*error);
                None
            }
        }
    }

    fn fail(&mut self, played: &mut Played, player: usize, what: &str, error: &dyn std::error::Error) {
        self.out[player] = true;
        let failed = format!("{}: {what}: {error}", played.players[player].shown());
        println!("  FAILED {failed}");
        played.failed.push(failed);
    }

    async fn in_turn(&mut self, played: &mut Played, corpus: usize) -> Result<()> {
        let (payload, messages) = (CORPORA[corpus], self.plan.messages(CORPORA[corpus]));
        println!("\n{} {payload}: {messages} messages published, then consumed", self.plan.kind);
        for round in 0..self.plan.rounds(corpus) {
            // Redis keeps everything in memory, and starts at once.
            if self.plan.provider == "redis" {
                self.refresh().await?;
            }
            for player in self.turn(round) {
                let (setup, _folder) = self.setup(payload, Task::InTurn, messages, false)?;
                let Some(measured) = self.one(played, player, &payload.to_string(), &setup) else { continue };
                note_in_turn(played.in_turn.entry((corpus, player)).or_default(), &measured, messages);
            }
        }
        for player in self.turn(0) {
            if let Some(InTurn { publish, consume, .. }) = played.in_turn.get(&(corpus, player)) {
                println!("  {:<28} publish {publish}/s, consume {consume}/s", played.players[player].shown());
            }
        }
        Ok(())
    }

    async fn at_once(&mut self, played: &mut Played, corpus: usize) -> Result<()> {
        let (payload, messages) = (CORPORA[corpus], self.plan.messages(CORPORA[corpus]));
        println!("\n{} {payload}: {messages} messages published and consumed at once", self.plan.kind);
        for round in 0..self.plan.rounds(corpus) {
            if self.plan.provider == "redis" {
                self.refresh().await?;
            }
            for player in self.turn(round) {
                let (setup, _folder) = self.setup(payload, Task::AtOnce, messages, false)?;
                let what = format!("{payload}, both at once");
                let Some(measured) = self.one(played, player, &what, &setup) else { continue };
                if let Some(phase) = measured.at_once {
                    let noted = played.at_once.entry((corpus, player)).or_default();
                    noted.rate.push(messages as f64 / phase.seconds);
                    noted.cpu.push(cpu_per_million(&phase, messages));
                }
            }
        }
        for player in self.turn(0) {
            if let Some(AtOnce { rate, .. }) = played.at_once.get(&(corpus, player)) {
                println!("  {:<28} {rate}/s", played.players[player].shown());
            }
        }
        Ok(())
    }

    /// All at half of what the slower of ours and raw can do, or half of what they can do themselves where that is
    /// less; never more than [`PACED_MOST`].
    fn paced(&mut self, played: &mut Played) -> Result<()> {
        let rates: Vec<f64> = (0..played.players.len()).map(|player| rate_at_once(played, player)).collect();
        let common = rates.iter().take(2).copied().filter(|rate| *rate > 0.0).fold(f64::MAX, f64::min);
        println!("\n{} {}: at half load", self.plan.kind, CORPORA[0]);
        for round in 0..PACED_ROUNDS {
            for player in self.turn(round) {
                let per_second = (rates[player].min(common) / 2.0).min(PACED_MOST);
                if per_second <= 0.0 {
                    continue;
                }
                let messages = (per_second * PACED_SECONDS) as u64;
                let (setup, _folder) = self.setup(CORPORA[0], Task::Paced { per_second }, messages, false)?;
                let Some(measured) = self.one(played, player, "half load", &setup) else { continue };
                if let Some(latency) = measured.latency {
                    let noted = played.paced.entry(player).or_default();
                    noted.per_second = per_second;
                    noted.p50.push(latency.p50);
                    noted.p99.push(latency.p99);
                    noted.p999.push(latency.p999);
                }
            }
        }
        for player in self.turn(0) {
            if let Some(Paced { per_second, p50, p99, p999 }) = played.paced.get(&player) {
                let (name, rate) = (played.players[player].shown(), short(*per_second));
                println!("  {name:<28} at {rate}/s: p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms");
            }
        }
        Ok(())
    }

    fn costs(&mut self, played: &mut Played) -> Result<()> {
        println!("\n{} {}: what a message costs", self.plan.kind, CORPORA[0]);
        let has_valgrind = child::has("valgrind");
        for player in self.turn(0) {
            let mut costs = Costs::default();
            let (setup, _folder) = self.setup(CORPORA[0], Task::InTurn, 10 * COUNTED, false)?;
            match played.players[player].run_counted(&setup) {
                Ok(Some(measured)) => {
                    let each = |phase: Option<Phase>| Some(phase?.allocations as f64 / setup.messages as f64);
                    costs.publish_allocations = each(measured.publish);
                    costs.consume_allocations = each(measured.consume);
                }
                Ok(None) => {}
                Err(error) => self.fail(played, player, "allocations", &*error),
            }
            if has_valgrind {
                match self.instructions(&played.players[player]) {
                    Ok(each) => costs.instructions = Some(each),
                    Err(error) => self.fail(played, player, "instructions", &*error),
                }
            }
            let shown = |value: Option<f64>| value.map_or_else(|| "?".into(), short);
            println!(
                "  {:<28} {} instructions, {} allocations to publish, {} to consume",
                played.players[player].shown(),
                shown(costs.instructions),
                shown(costs.publish_allocations),
                shown(costs.consume_allocations)
            );
            played.costs.insert(player, costs);
        }
        Ok(())
    }

    /// What ours needs where a backlog lies there, beside a tenth of it.
    async fn memory(&mut self, played: &mut Played) -> Result<()> {
        let Some(long) = self.plan.backlog else { return Ok(()) };
        println!("\n{} {}: memory against a backlog", self.plan.kind, CORPORA[0]);
        let mut memory = Memory { short: (long / 10, Rounds::default()), long: (long, Rounds::default()) };
        for _ in 0..self.plan.memory_rounds {
            for (messages, peaks) in [&mut memory.short, &mut memory.long] {
                self.refresh().await?;
                let (setup, _folder) = self.setup(CORPORA[0], Task::InTurn, *messages, false)?;
                let what = format!("a backlog of {messages}");
                let Some(measured) = self.one(played, OURS, &what, &setup) else { return Ok(()) };
                peaks.push(measured.peak_resident_kib as f64 / 1024.0);
            }
        }
        for (messages, peaks) in [&memory.short, &memory.long] {
            println!("  {:<28} {peaks} MiB", short(*messages as f64));
        }
        played.memory = Some(memory);
        Ok(())
    }

    /// Of each further message: of a longer run less those of a shorter one.
    fn instructions(&mut self, player: &Player) -> Result<f64> {
        let mut count = |messages: u64| {
            let (setup, _folder) = self.setup(CORPORA[0], Task::InTurn, messages, true)?;
            player.instructions(&setup)
        };
        let (some, more) = (count(COUNTED)?, count(3 * COUNTED)?);
        Ok(more.saturating_sub(some) as f64 / (2 * COUNTED) as f64)
    }
}

fn note_in_turn(noted: &mut InTurn, measured: &Measured, messages: u64) {
    if let (Some(publish), Some(consume)) = (&measured.publish, &measured.consume) {
        noted.publish.push(messages as f64 / publish.seconds);
        noted.publish_cpu.push(cpu_per_million(publish, messages));
        noted.consume.push(messages as f64 / consume.seconds);
        noted.consume_cpu.push(cpu_per_million(consume, messages));
    }
    noted.peak_mib.push(measured.peak_resident_kib as f64 / 1024.0);
    noted.repeated += measured.repeated;
}

fn cpu_per_million(phase: &Phase, messages: u64) -> f64 {
    phase.cpu_seconds / messages as f64 * 1e6
}

fn rate_at_once(played: &Played, player: usize) -> f64 {
    played.at_once.get(&(0, player)).map_or(0.0, |noted| noted.rate.median())
}

/// A bar of a chart.
pub(crate) fn bar(name: String, rounds: &Rounds) -> results::Bar {
    let (low, high) = rounds.range();
    results::Bar { name, value: rounds.median(), low, high }
}
