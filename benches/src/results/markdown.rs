//! The document, from its sections.

use super::{Made, Section, Table};
use std::fmt::Write;

const OPENING: &str = "\
# Results

Every figure here is written by the command that its section names; none is typed. Figures are the median of the
rounds, with the lowest and the highest in brackets; the sides of a comparison ran in turn, each round in a process
of its own. Where the ranges of two sides overlap, the table says *no difference*, whatever the medians are.

- **ours**: through the client, as a service uses it: `publish_batch`, `subscribe`.
- **raw**: the provider's client library by hand, as fast as it honestly goes, with the same metadata in each message
  (id, time, type, source, content type), the same durability and the same bounds.
- **bare**: raw, with the payload alone: no id, so nobody knows a message that was delivered twice.
- Others are peers: libraries of the same purpose, each by its documented fastest call.

Every message has a number in its payload. A round counts only if each number came back and was acknowledged.
A rate is messages a second. CPU is what the contestant's own process used, and not the server's, which shares the
machine. A consumer's time runs from its first delivery until its last acknowledgement is answered and it is closed.
";

pub(super) fn document(sections: &[Section]) -> String {
    let mut text = OPENING.to_owned();
    for section in sections {
        write_section(&mut text, section);
    }
    text
}

fn write_section(text: &mut String, section: &Section) {
    let _ = writeln!(text, "\n## {}\n", section.title);
    write_made(text, &section.made);
    for paragraph in &section.about {
        let _ = writeln!(text, "\n{paragraph}");
    }
    if section.chart.is_some() {
        let _ = writeln!(text, "\n![{}](charts/{}.svg)", section.title, section.name);
    }
    if !section.targets.is_empty() {
        write_table(text, &targets(section));
    }
    section.tables.iter().for_each(|table| write_table(text, table));
    if !section.missing.is_empty() {
        let _ = writeln!(text, "\nNot measured:\n");
        section.missing.iter().for_each(|missing| _ = writeln!(text, "- {missing}"));
    }
}

fn write_made(text: &mut String, made: &Made) {
    let load = made.load_before.map_or_else(|| "unknown".into(), |load| format!("{load:.2}"));
    let Made { command, date, machine, rustc, commit, .. } = made;
    let _ = writeln!(
        text,
        "`{command}`, {date} UTC, commit {commit}, {rustc}, on {machine}; load before: {load}."
    );
}

fn targets(section: &Section) -> Table {
    let rows = section.targets.iter().map(|line| {
        vec![
            line.name.clone(),
            line.value.clone(),
            line.target.clone(),
            line.verdict.clone(),
            line.detail.clone(),
        ]
    });
    Table {
        title: "Targets".into(),
        header: ["", "value", "target", "verdict", "from"].map(String::from).into(),
        rows: rows.collect(),
    }
}

fn write_table(text: &mut String, table: &Table) {
    let _ = writeln!(text, "\n**{}**\n", table.title);
    write_row(text, &table.header);
    let rule: Vec<_> =
        (0..table.header.len()).map(|column| if column == 0 { ":--" } else { "--:" }.into()).collect();
    write_row(text, &rule);
    table.rows.iter().for_each(|row| write_row(text, row));
}

fn write_row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_its_command_its_tables_and_what_is_missing() {
        let section = Section {
            name: "redis".into(),
            title: "REDIS".into(),
            order: 1,
            made: Made {
                command: "cargo xtask bench redis".into(),
                load_before: Some(0.5),
                ..Made::default()
            },
            about: vec!["About.".into()],
            targets: Vec::new(),
            tables: vec![Table {
                title: "Rates".into(),
                header: vec![String::new(), "publish".into()],
                rows: vec![vec!["ours".into(), "100k".into()]],
            }],
            chart: None,
            missing: vec!["peers".into()],
        };
        let text = document(&[section]);
        assert!(text.contains("## REDIS\n\n`cargo xtask bench redis`"));
        assert!(text.contains("|  | publish |\n| :-- | --: |\n| ours | 100k |\n"));
        assert!(text.ends_with("Not measured:\n\n- peers\n"));
    }
}
