//! No secret ever reaches an output, whatever the catalogue and the command line look like.

use crate::place::{EVENT, Place};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

/// A catalogue in which a secret stands at a place where secrets stand, or where somebody may put one by mistake.
/// `@` is where; everything else is sound unless that is the mistake.
const CATALOGUES: [&str; 15] = [
    "type: REDIS, config: { host: 127.0.0.1, port: 1, password: '@' }",
    "type: REDIS, config: { url: 'redis://user:@@127.0.0.1:1/0' }",
    "type: RABBITMQ, config: { host: 127.0.0.1, port: 1, username: u, password: '@' }",
    "type: RABBITMQ, config: { url: 'amqp://user:@@127.0.0.1:1' }",
    "type: KAFKA, config: { brokers: ['127.0.0.1:1'], sasl: { mechanism: plain, username: u, password: '@' } }",
    "type: KAFKA, config: { brokers: ['127.0.0.1:1'], properties: { ssl.key.password: '@' } }",
    "type: KAFKA, config: { brokers: ['127.0.0.1:1'], properties: { ssl.key.pem: '@' } }",
    "type: AWS_SQS, config: { region: us-east-1, endpoint: 'http://127.0.0.1:1', accessKeyId: a, secretAccessKey: '@' }",
    "type: AWS_SQS, config: { region: us-east-1, endpoint: 'http://127.0.0.1:1', accessKeyId: a, secretAccessKey: b, sessionToken: '@' }",
    "type: REDIS, config: { host: 127.0.0.1, port: 1, password: '${UNSET:-@}' }",
    "type: REDIS, config: { host: 127.0.0.1, port: 1, password: '${SECRET}' }",
    "type: REDIS, config: { host: 127.0.0.1, port: 1, password: ['@'] }",
    "type: REDIS, config: { host: 127.0.0.1, port: '@' }",
    "type: KAFKA, config: { brokers: ['127.0.0.1:1'], sasl: '@' }",
    "type: REDIS, config: '@'",
];

fn catalogue(env: &str, secret: &str) -> String {
    let env = env.replacen('@', secret, 1);
    format!(
        "product: shop
brokers:
  - name: Order Events
    tag: order-events
    envs:
      - {{ slug: dev, type: SQLITE, config: {{ path: dev.db }} }}
      - {{ slug: prd, {env} }}
    topics:
      - {{ name: New Orders, tag: new-orders }}
sessions:
  - {{ tag: user, algorithm: HS256, secret: '{secret}' }}
"
    )
}

/// What is run over it, with `@` for the secret and `%` for a token.
const COMMANDS: [&[&str]; 22] = [
    &["check"],
    &["check", "--json"],
    &["check", "-vvv", "--env", "prd"],
    &["doctor", "--env", "prd"],
    &["doctor", "--json", "-vvv"],
    &["broker", "list", "--json"],
    &["broker", "show", "order-events"],
    &["broker", "show", "order-events", "--json"],
    &["topic", "show", EVENT, "--env", "prd"],
    &["apply", "ductape.yaml", "--dry-run"],
    &["apply", "empty.yaml"],
    &["publish", EVENT, "--env", "prd", "--message", "1"],
    &["publish", EVENT, "--message", "1", "--session", "user:%"],
    &["publish", EVENT, "--message", "1", "--session", "nobody:%", "--json"],
    &["publish", EVENT, "--message", "1", "--session", "%"],
    &["publish", EVENT, "--message", "1", "--session=user:%", "%"],
    &["publish", EVENT, "--message", "1", "--sesion", "user:%"],
    &["publish", EVENT, "--message", "1", "--key", "/a", "--session", "user:${SECRET}", "-vvv"],
    &["broker", "create", "b", "--provider", "dev=REDIS:{\"host\":\"h\",\"password\":\"@\""],
    &["broker", "create", "b", "--provider", "dev=REDIS:{\"host\":\"h\",\"password\":[\"@\"]}"],
    &["broker", "create", "b", "--provider", "@"],
    &["bridge", EVENT, "--from", "prd", "--to", "dev"],
];

fn secret() -> impl Strategy<Value = String> {
    // Long enough that no other text of an output holds it by chance.
    "[a-zA-Z0-9]{24,40}"
}

fn check(env: &str, secret: &str, command: &[&str]) -> Result<(), TestCaseError> {
    let place = Place::new();
    place.write("ductape.yaml", &catalogue(env, secret));
    place.write("empty.yaml", "product: shop\n");
    let token = format!("eyJhbGciOiJIUzI1NiJ9.{secret}.{secret}");
    let arguments: Vec<String> =
        command.iter().map(|argument| argument.replace('@', secret).replace('%', &token)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ran = place.command(&arguments).env("SECRET", secret).output().unwrap();
    for stream in [&ran.stdout, &ran.stderr] {
        let text = String::from_utf8_lossy(stream);
        prop_assert!(!text.contains(secret), "{arguments:?} over {env}:\n{text}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(Config { cases: 96, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_secret_reaches_an_output(
        secret in secret(),
        env in prop::sample::select(&CATALOGUES[..]),
        command in prop::sample::select(&COMMANDS[..]),
    ) {
        check(env, &secret, command)?;
    }
}

#[test]
fn no_secret_reaches_an_output_of_any_command_over_any_catalogue() {
    let secret = "hunter2hunter2hunter2hunter2hunter2";
    std::thread::scope(|scope| {
        for env in CATALOGUES {
            scope.spawn(move || {
                for command in COMMANDS {
                    if let Err(error) = check(env, secret, command) {
                        panic!("{error}");
                    }
                }
            });
        }
    });
}
