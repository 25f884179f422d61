//! Publishing on the networks' providers from so many tasks, each one message after the other, beside the client by hand.

use ductape_benches::referee::Player;
use ductape_benches::report::{Report, Target};
use ductape_benches::results::Table;
use ductape_benches::server::Server;
use ductape_benches::spread::{Rounds, short};
use ductape_benches::{Result, contestants};
use ductape_contest::{Corpus, Setup, Task};
use tempfile::TempDir;

const TASKS: [u64; 3] = [1, 64, 1_024];
/// What ours must be of the client by hand, from the most tasks.
const OF_RAW: f64 = 0.95;

/// Ours and raw, by the number of tasks.
type Pairs = [[Rounds; 2]; TASKS.len()];

/// Every provider that is compiled in.
pub(crate) fn measure(report: &mut Report, rounds: usize) -> Result<Vec<Table>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut tables = Vec::new();
    for provider in contestants::networks() {
        println!("\n{}, by publishers, beside raw", provider.to_uppercase());
        let server = runtime.block_on(Server::start(provider))?;
        let pairs = play(provider, &server, rounds)?;
        judge(report, provider, &pairs);
        tables.push(table(provider, &pairs));
    }
    Ok(tables)
}

fn play(provider: &str, server: &Server, rounds: usize) -> Result<Pairs> {
    let players = [Player::own("ours")?, Player::own("raw")?];
    let mut pairs = Pairs::default();
    // A server is slow at first.
    one(provider, server, &players[1], TASKS[1])?;
    for round in 0..rounds {
        for (tasks, pair) in TASKS.into_iter().zip(&mut pairs) {
            // There and back, so that neither always follows the other.
            for place in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                pair[place].push(one(provider, server, &players[place], tasks)?);
            }
        }
    }
    Ok(pairs)
}

/// Messages a second.
fn one(provider: &str, server: &Server, player: &Player, tasks: u64) -> Result<f64> {
    let folder = TempDir::with_prefix("ductape-bench-")?;
    // The emulator of SQS is slower than the others by far.
    let most = if provider == "sqs" { 2_000 } else { 20_000 };
    let messages = (tasks * 200).clamp(400, most);
    let measured = player.run(&Setup {
        provider: provider.to_owned(),
        endpoint: server.endpoint(),
        folder: folder.path().to_owned(),
        name: folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
        task: Task::Tasks(tasks),
        corpus: Corpus::Bytes(64),
        messages,
        one_thread: false,
    })?;
    Ok(messages as f64 / measured.publish.ok_or("nothing was published")?.seconds)
}

fn judge(report: &mut Report, provider: &str, pairs: &Pairs) {
    let Some([ours, raw]) = pairs.last() else { return };
    let tasks = short(TASKS[TASKS.len() - 1] as f64);
    let no_difference = if ours.overlaps(raw) { "; no difference" } else { "" };
    let detail = format!("messages/s: ours {ours}, raw {raw}{no_difference}");
    let name = format!("{provider}: rate of {tasks} publishers, of raw");
    report.line(&name, ours.median() / raw.median(), "x", Target::AtLeast(OF_RAW), &detail);
}

fn table(provider: &str, pairs: &Pairs) -> Table {
    let rows = TASKS.iter().zip(pairs).map(|(tasks, [ours, raw])| {
        let ratio = format!("{:.2}", ours.median() / raw.median());
        println!("  {tasks:>5}  ours {ours}, raw {raw}: {ratio}");
        vec![short(*tasks as f64), ours.to_string(), raw.to_string(), ratio]
    });
    Table {
        title: format!("{}, by publishers, beside raw", provider.to_uppercase()),
        rows: rows.collect(),
        header: ["", "ours, messages/s", "raw, messages/s", "of raw"].map(String::from).into(),
    }
}
