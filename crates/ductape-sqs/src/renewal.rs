//! Renewing leases, ten a request.
//!
//! A verdict does not wait for a renewal of the same message that is under way, and SQS may take the renewal last. That
//! would undo the delay of a retry. So the delay is told again when the renewal is over.

use crate::consumer::{Member, seconds};
use crate::error;
use crate::hand::Renewal;
use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry as Change;
use ductape_core::{ErrorKind, Result};
use tokio::time::Instant;

const WHAT: &str = "the renewal of a lease";

/// Renewals that are under way, until it is dropped.
struct UnderWay<'m> {
    member: &'m Member,
    ten: Vec<Renewal>,
}

/// Renews what is still in hand of ten. What SQS knows no more is another's.
pub(crate) async fn renew(member: &Member, ten: Vec<u64>) -> Result<()> {
    let shared = &member.shared;
    let sent = Instant::now();
    let ten = shared.hand().begin_renewal(&ten, shared.lease, sent);
    if ten.is_empty() {
        return Ok(());
    }
    let under_way = UnderWay { member, ten };
    let entry = |(id, renewal): (usize, &Renewal)| {
        let change = Change::builder().id(id.to_string()).receipt_handle(&*renewal.receipt);
        change.visibility_timeout(seconds(renewal.lease)).build().ok()
    };
    let entries = under_way.ten.iter().enumerate().filter_map(entry).collect();
    let request = shared.link.client.change_message_visibility_batch();
    let request = request.queue_url(&*shared.url).set_entries(Some(entries));
    let output = shared.link.within(WHAT, false, request.send()).await?;
    let of = |id: &str| id.parse::<usize>().ok().and_then(|id| under_way.ten.get(id));
    // Gone before `under_way` is dropped, which asks for it.
    let mut hand = shared.hand();
    for renewal in output.successful.iter().filter_map(|done| of(&done.id)) {
        hand.renewed(renewal.number, sent + renewal.lease);
    }
    let mut result = Ok(());
    for failed in &output.failed {
        let error = error::entry(failed, WHAT, false);
        let gone = error.kind() == ErrorKind::LeaseLost || failed.sender_fault && !error.is_retryable();
        match of(&failed.id) {
            // Twelve hours are over, or another has it.
            Some(renewal) if gone => hand.lost(renewal.number),
            _ => result = Err(error),
        }
    }
    result
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let undone = self.member.shared.hand().renewals_over(&self.ten);
        undone.into_iter().for_each(|hidden| self.member.hide_again(hidden));
    }
}
