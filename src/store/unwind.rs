//! Owns the promise that a panic of the program leaves the handles usable. Knows nothing of panics: every operation
//! runs the code of the program without a lock, and before or after its own changes.

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::store::gate::Gate;
use crate::store::listing::{Entries, Keys};
use crate::store::lock_guard::LockGuard;
use crate::store::state_store::Handle;

impl<B> UnwindSafe for Handle<B> {}
impl<B> RefUnwindSafe for Handle<B> {}

impl UnwindSafe for Gate {}
impl RefUnwindSafe for Gate {}

impl UnwindSafe for LockGuard {}
impl RefUnwindSafe for LockGuard {}

impl UnwindSafe for Keys {}
impl RefUnwindSafe for Keys {}

impl<T> UnwindSafe for Entries<T> {}
impl<T> RefUnwindSafe for Entries<T> {}
