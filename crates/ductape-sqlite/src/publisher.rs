//! Publishing.

use crate::broker::Link;
use crate::ids::DestinationId;
use crate::log::Append;
use crate::message::NewRow;
use async_trait::async_trait;
use ductape_core::{Message, Position, Publisher, Result};
use std::sync::Arc;

/// Puts messages into one destination.
pub(crate) struct SqlitePublisher {
    link: Arc<Link>,
    destination: DestinationId,
    name: Arc<str>,
}

impl SqlitePublisher {
    pub(crate) fn new(link: Arc<Link>, destination: DestinationId, name: Arc<str>) -> Self {
        SqlitePublisher { link, destination, name }
    }

    async fn append(&self, batch: Vec<Message>) -> Result<Vec<Result<i64>>> {
        let settings = &self.link.settings;
        let batch: Vec<_> = batch.into_iter().map(NewRow::with_message).collect();
        let request = Append {
            destination: self.destination,
            name: Arc::clone(&self.name),
            weight: batch.iter().map(|(_, row)| row.weight()).sum(),
            batch,
            full: settings.full,
            max_bytes: settings.max_bytes,
            now: settings.clock.now(),
        };
        self.link.file("the publisher")?.ask(request, settings.limit).await
    }
}

#[async_trait]
impl Publisher for SqlitePublisher {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Position>> {
        let count = batch.len();
        match self.append(batch).await {
            Ok(results) => results.into_iter().map(|result| result.map(position)).collect(),
            Err(error) => {
                let error = error.with_context("destination", &self.name);
                (0..count).map(|_| Err(error.replicate())).collect()
            }
        }
    }
}

fn position(seq: i64) -> Position {
    // A sequence is never negative.
    Position::Sequence(seq.unsigned_abs())
}
