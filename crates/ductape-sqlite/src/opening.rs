//! Making a connection the writer's, sure of whose file it is.

use crate::beside::Identity;
use crate::checkpoint::Checkpointer;
use crate::error::{self, Stage};
use crate::schema;
use crate::turn::Turn;
use ductape_core::Result;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::path::Path;
use std::time::Instant;

/// Makes an open connection the writer's. Waiting for the turn may take long, and another file may have the name by then:
/// that one is not touched.
pub(crate) fn prepared(
    mut connection: Connection,
    identity: Identity,
    turn: &Turn,
    path: &Path,
    deadline: Instant,
) -> Result<(Connection, Checkpointer)> {
    let guard = turn.wait(deadline)?;
    identity.check(path)?;
    schema::prepare(&mut connection, &guard, path, deadline)?;
    drop(guard);
    let storage = |error| error::storage(error, Stage::Before, path);
    let checkpointer = Checkpointer::start(path, &mut connection).map_err(storage)?;
    identity.check(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(storage)?;
    Ok((connection, checkpointer))
}
