//! What the writer's thread works with: the connection, and what it knows besides the file.

use crate::attributes::AttributeCache;
use crate::ids::{ConsumerId, DestinationId};
use crate::log::Tail;
use crate::peers::Peers;
use crate::recent::Recent;
use crate::wakes::Wakes;
use ductape_core::Timestamp;
use rusqlite::{CachedStatement, Connection, Result};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The connection with what belongs to it. Only the writer's thread has it.
pub(crate) struct Store {
    pub(crate) connection: Connection,
    pub(crate) attributes: AttributeCache,
    /// Messages that need not be read from the file.
    pub(crate) recent: Recent,
    /// The consumers of this process that have not left.
    pub(crate) members: HashSet<ConsumerId>,
    pub(crate) peers: Peers,
    /// What the transaction under way has read and done.
    pub(crate) transaction: Transaction,
}

/// What a transaction has read, so that it reads it once, and what is to follow from it.
#[derive(Default)]
pub(crate) struct Transaction {
    pub(crate) tails: HashMap<DestinationId, Tail>,
    /// Where settled messages may be deleted before the commit, and at what time.
    pub(crate) to_sweep: HashMap<DestinationId, Timestamp>,
    /// Messages that their log has left behind, and that one group less needs.
    pub(crate) stragglers: Vec<(DestinationId, i64)>,
    /// Where something new may be handed out after the commit.
    pub(crate) to_wake: HashSet<DestinationId>,
    /// Members that join or leave with the commit.
    pub(crate) joined: Vec<ConsumerId>,
    pub(crate) left: Vec<ConsumerId>,
}

impl Store {
    /// The store of a file that has just been opened.
    pub(crate) fn new(connection: Connection, path: &Path, wakes: Arc<Wakes>) -> Self {
        Store {
            connection,
            attributes: AttributeCache::default(),
            recent: Recent::default(),
            members: HashSet::new(),
            peers: Peers::new(path, wakes),
            transaction: Transaction::default(),
        }
    }

    /// A statement, compiled once.
    pub(crate) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    /// A transaction has begun: looks whether others have written to the file since the last one.
    pub(crate) fn begun(&mut self) -> Result<()> {
        let version = self.statement("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        self.recent.begun(version);
        Ok(())
    }

    /// Deletes what the transaction's settlements have freed.
    pub(crate) fn sweep_all(&mut self) -> Result<()> {
        for (destination, seq) in std::mem::take(&mut self.transaction.stragglers) {
            self.delete_straggler(destination, seq)?;
        }
        for (destination, now) in std::mem::take(&mut self.transaction.to_sweep) {
            self.sweep(destination, Some(now))?;
        }
        Ok(())
    }

    /// Forgets what a transaction that failed had read and done.
    pub(crate) fn rolled_back(&mut self) {
        self.transaction = Transaction::default();
        self.attributes.clear();
        self.recent.forget();
    }

    /// Takes over what a transaction did, and says what is to follow.
    pub(crate) fn committed(&mut self) -> Transaction {
        let done = std::mem::take(&mut self.transaction);
        self.members.extend(&done.joined);
        for left in &done.left {
            // It may have been the last that read what is kept.
            if self.members.remove(left) {
                self.recent.forget();
            }
        }
        done
    }
}
