//! Owns how the File variant gives out its entries as a whole and takes some in. Knows nothing of how a line is written.

use crate::backend::file::core::Changes;
use crate::backend::file::store::File;
use crate::backend::local::plan_whole::{merge_keys, plan_merge, plan_replace};
use crate::backend::local::whole::WholeEntries;
use crate::backend::transfer::Transfer;
use crate::error::Result;
use crate::op::{Cut, Isolation, Replaced, WholeEntry};

impl Transfer for File {
    fn cut(&self, prefix: &str) -> Result<Cut<'_>> {
        let cut = self.core.state.table.open_cut();
        // The time after the instant of the cut, so that nothing is given out that has expired by then.
        let at = self.now().millis();
        // Readers may see a change before it is on the disk. An export must not hold what a power failure can undo here.
        self.core.wait_durable(self.core.durability.written())?;
        let entries = Box::new(WholeEntries::new(cut, prefix, at));
        Ok(Cut { at, isolation: Isolation::Exact, entries })
    }

    fn merge(&self, entries: Vec<WholeEntry>, keep_existing: bool) -> Vec<Result<bool>> {
        let keys = merge_keys(&entries);
        let outcome = self.core.commit(|table, now| {
            let locked = table.lock(keys.iter().map(|key| &**key));
            let (changes, written) = plan_merge(&entries, keep_existing, &locked, now);
            Ok((Changes::Many(changes), written))
        });
        match outcome {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }
    }

    fn replace(
        &self,
        prefix: &str,
        entries: &mut dyn Iterator<Item = Result<WholeEntry>>,
    ) -> Result<Replaced> {
        let entries = entries.collect::<Result<Vec<_>>>()?;
        self.core.commit(|table, now| {
            let locked = table.lock_all();
            let (changes, replaced) = plan_replace(prefix, &entries, table, &locked, now);
            Ok((Changes::Many(changes), replaced))
        })
    }
}
