//! One program, written once against `Ductape`, gives the same results on every provider.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "`cargo xtask test` lists what was skipped")]

mod order;
mod shop;

use ductape_tests::on_each;

/// Whose order is not looked at, and why.
const UNORDERED: (&str, &str) = (
    "GOOGLE_PUBSUB",
    "what a member gives back as it leaves comes behind newer messages of its key on Google's emulator",
);

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_the_shop_ends_the_same_on_every_provider() {
    on_each("a_day_of_the_shop", |service| async move {
        let (is_audited, kind) = (shop::has_audit(&service).await, service.kind);
        let (mut day, mut expected) = (shop::day(service, is_audited).await, shop::expected(is_audited));
        if kind == UNORDERED.0 {
            // On a line of its own past the harness, which keeps what a test prints that passes.
            let line = format!("\nskip order of the shop on {kind} ({})\n", UNORDERED.1);
            std::io::Write::write_all(&mut std::io::stdout().lock(), line.as_bytes()).unwrap();
            day.forget_order();
            expected.forget_order();
        }
        assert_eq!(day, expected);
    })
    .await;
}
