//! Owns the events that a program listens to, and the order in which they are delivered. Knows nothing of what causes
//! an event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::outage::Event;
use crate::util::foreign;
use crate::util::log_later::{self, log_later};

type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// At most this many events wait for a listener that is slower than the link to the server changes. Then the oldest
/// one is dropped.
const MAX_WAITING: usize = 1000;

#[derive(Default)]
pub(crate) struct EventBus {
    listeners: Mutex<Vec<Listener>>,
    queue: Mutex<VecDeque<Event>>,
    dropped: AtomicU64,
    dispatching: Mutex<()>,
}

impl EventBus {
    pub(crate) fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        self.listeners.lock().push(Arc::new(listener));
    }

    /// Adds an event, which [`dispatch`](Self::dispatch) delivers later.
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.queue.lock();
        if queue.len() >= MAX_WAITING {
            queue.pop_front();
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                log_later!(
                    Warn,
                    "a listener is too slow: the oldest of {MAX_WAITING} waiting events is dropped"
                );
            }
        }
        queue.push_back(event);
    }

    /// Returns how many events were dropped because the listeners were too slow.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Delivers the events in the order in which they were pushed, and writes the log lines of this thread. Listeners
    /// and loggers may use the store, so the caller must hold no lock that the store needs. If a thread delivers events
    /// already, it delivers these too.
    pub(crate) fn dispatch(&self) {
        log_later::flush();
        while !self.queue.lock().is_empty() {
            let Some(one_thread) = self.dispatching.try_lock() else { return };
            while let Some(event) = self.pop() {
                let listeners = self.listeners.lock().clone();
                for listener in listeners {
                    // A panic of the listener is not one of the operation that happened to deliver the event.
                    if foreign::run(|| listener(&event)).is_none() {
                        log_later!(Error, "a listener panicked on {event:?}");
                    }
                }
            }
            drop(one_thread);
            log_later::flush();
        }
    }

    fn pop(&self) -> Option<Event> {
        self.queue.lock().pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_are_dropped_if_a_listener_is_too_slow() {
        let bus = EventBus::default();
        for number in 0..MAX_WAITING + 2 {
            bus.push(Event::Disconnected { cause: number.to_string() });
        }
        assert_eq!((bus.queue.lock().len(), bus.dropped()), (MAX_WAITING, 2));
        assert_eq!(bus.pop(), Some(Event::Disconnected { cause: "2".to_owned() }));
    }
}
