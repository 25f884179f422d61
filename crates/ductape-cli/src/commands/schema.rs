//! `ductape schema`: the catalogue's JSON Schema, for editors.

use crate::failure::{Failure, Outcome};
use crate::run::Context;
use clap::Args;

/// Print the JSON Schema of a catalogue, for editors
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ductape schema > ductape.schema.json
  # and as the first line of ductape.yaml, for editors with the YAML language server:
  # yaml-language-server: $schema=ductape.schema.json")]
pub(crate) struct Arguments {}

pub(crate) fn run(context: &Context, _: &Arguments) -> Outcome {
    let schema = ductape::catalogue::schema();
    if context.output.is_json() {
        return context.output.json(&schema);
    }
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| Failure::io("the schema cannot be written", error.into(), "report this as a bug"))?;
    context.output.line(&text)
}
