//! Owns the exchange that finds out whether the server has lost data, and makes an epoch and a count of writes if
//! there are none. Knows nothing of what follows from a data loss.

use redis::Value;

use crate::backend::redis::connect::connection::{Connection, Request};
use crate::backend::redis::connect::epoch::{Epoch, EpochProbe, GetOutcome};
use crate::backend::redis::failure::Failure;
use crate::backend::redis::time_budget::TimeBudget;
use crate::backend::redis::wire::resp::CommandWriter;

/// Reads the epoch and the count of writes on an open connection.
pub(crate) fn ask_for_epoch(
    connection: &mut Connection,
    epoch: &Epoch,
    budget: &TimeBudget,
) -> Result<(), Failure> {
    let probe = epoch.begin_probe();
    send(connection, 2, budget, |writer| epoch.write_get(writer))?;
    read_epoch(connection, epoch, probe, budget)
}

/// Receives the epoch and the count of writes, and creates or replaces them if needed. A user who may do none of that is
/// served all the same.
pub(crate) fn read_epoch(
    connection: &mut Connection,
    epoch: &Epoch,
    probe: EpochProbe,
    budget: &TimeBudget,
) -> Result<(), Failure> {
    let found = connection.receive(budget)?;
    let count = connection.receive(budget)?;
    epoch.allow_counting();
    match epoch.on_get(probe, found, &count) {
        GetOutcome::Done => {}
        GetOutcome::Unready => {
            connection.discard();
            return Ok(());
        }
        GetOutcome::Missing => {
            send(connection, 2, budget, |writer| epoch.write_create(writer))?;
            let created = connection.receive_tolerantly(budget)?;
            epoch.on_create(probe, &created, connection.receive_tolerantly(budget)?);
        }
        GetOutcome::Lower => {
            send(connection, 1, budget, |writer| epoch.write_confirm(writer))?;
            epoch.on_confirm(probe, &connection.receive_tolerantly(budget)?);
        }
    }
    if let Some(old) = epoch.take_rollback() {
        send(connection, 1, budget, |writer| epoch.write_replace(&old, writer))?;
        epoch.on_replace(connection.receive_tolerantly(budget)?);
    }
    begin_count(connection, epoch, &count, budget)
}

/// Begins a count of writes if none was found that can be compared. A user who may not do that does not count.
fn begin_count(
    connection: &mut Connection,
    epoch: &Epoch,
    found: &Value,
    budget: &TimeBudget,
) -> Result<(), Failure> {
    connection.buffer.clear();
    if epoch.write_begin_count(found, &mut CommandWriter::new(&mut connection.buffer, b"")) {
        connection.send(Request { replies: 1, mutation: false, atomic: true }, budget)?;
        connection.receive_tolerantly(budget)?;
    }
    Ok(())
}

/// Sends commands. If one of them arrives late, it does no harm: each either changes nothing then, or what it makes is
/// seen by the next probe. So they count as reads, and a lost reply quarantines nothing.
fn send(
    connection: &mut Connection,
    replies: usize,
    budget: &TimeBudget,
    write: impl FnOnce(&mut CommandWriter<'_>),
) -> Result<(), Failure> {
    connection.buffer.clear();
    write(&mut CommandWriter::new(&mut connection.buffer, b""));
    connection.send(Request { replies, mutation: false, atomic: replies == 1 }, budget)
}
