//! Owns the events that a program listens to, and the order in which they are delivered. Knows nothing of what causes
//! an event.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::outage::Event;

type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

#[derive(Default)]
pub(crate) struct EventBus {
    listeners: Mutex<Vec<Listener>>,
    queue: Mutex<VecDeque<Event>>,
    dispatching: Mutex<()>,
}

impl EventBus {
    pub(crate) fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        self.listeners.lock().push(Arc::new(listener));
    }

    /// Adds an event, which [`dispatch`](Self::dispatch) delivers later.
    pub(crate) fn push(&self, event: Event) {
        self.queue.lock().push_back(event);
    }

    /// Delivers the events in the order in which they were pushed. Listeners may use the store, so the caller must hold
    /// no lock that the store needs. If a thread delivers events already, it delivers these too.
    pub(crate) fn dispatch(&self) {
        while !self.queue.lock().is_empty() {
            let Some(_one_thread) = self.dispatching.try_lock() else { return };
            while let Some(event) = self.pop() {
                let listeners = self.listeners.lock().clone();
                for listener in listeners {
                    // A panic of the listener is not one of the operation that happened to deliver the event.
                    if catch_unwind(AssertUnwindSafe(|| listener(&event))).is_err() {
                        log::error!("a listener panicked on {event:?}");
                    }
                }
            }
        }
    }

    fn pop(&self) -> Option<Event> {
        self.queue.lock().pop_front()
    }
}
