//! Owns the context of reading a store's files: their directory, whether a writer is active, and the report of
//! progress. Knows nothing of lines.

use std::cell::{Cell, RefCell};

use crate::backend::file::layout::{Layout, Listing};
use crate::backend::file::report::Progress;

/// Number of bytes between two reports of progress.
const REPORT_INTERVAL: u64 = 1 << 20;

pub(crate) struct ReadContext<'i> {
    pub(crate) layout: &'i Layout,
    /// Whether another process may have the store open and write to it.
    pub(crate) writer_is_live: bool,
    report: RefCell<&'i mut dyn FnMut(Progress)>,
    progress: Cell<Progress>,
    reported: Cell<u64>,
}

impl<'i> ReadContext<'i> {
    pub(crate) fn new(layout: &'i Layout, writer_is_live: bool, report: &'i mut dyn FnMut(Progress)) -> Self {
        let progress = Cell::new(Progress { read: 0, total: 0 });
        Self { layout, writer_is_live, report: RefCell::new(report), progress, reported: Cell::new(0) }
    }

    /// Starts the progress of reading the snapshot of number `first`, and the journals from that number on.
    pub(crate) fn begin(&self, listing: &Listing, first: u64) {
        let snapshot =
            listing.snapshots.iter().filter(|n| **n == first).map(|n| self.layout.snapshot_path(*n));
        let journals = listing.journals.iter().filter(|n| **n >= first).map(|n| self.layout.journal_path(*n));
        let files = snapshot.chain(journals).chain([self.layout.lock_path()]);
        let sizes = files.map(|path| self.layout.fs.len(&path).unwrap_or_default());
        self.progress.set(Progress { read: 0, total: sizes.sum() });
        self.reported.set(0);
    }

    /// Adds to the number of bytes read.
    pub(crate) fn advance(&self, bytes: u64) {
        let Progress { read, total } = self.progress.get();
        let read = (read + bytes).min(total);
        self.progress.set(Progress { read, total });
        if read >= self.reported.get() + REPORT_INTERVAL {
            self.report_progress();
        }
    }

    /// Reports that everything is read.
    pub(crate) fn end(&self) {
        let Progress { total, .. } = self.progress.get();
        self.progress.set(Progress { read: total, total });
        self.report_progress();
    }

    fn report_progress(&self) {
        let progress = self.progress.get();
        self.reported.set(progress.read);
        (self.report.borrow_mut())(progress);
    }
}
