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

/// The listeners of a store, each with its number.
#[derive(Default)]
struct Listeners {
    registered: Vec<(u64, Listener)>,
    next: u64,
}

/// At most this many events wait for a listener that is slower than what it listens to. Then the oldest one
/// is dropped.
const MAX_WAITING: usize = 1000;

pub(crate) struct EventBus {
    /// How log lines name the store, as `Redis localhost:6379/0`.
    store: String,
    listeners: Mutex<Listeners>,
    queue: Mutex<VecDeque<Event>>,
    dropped: AtomicU64,
    dispatching: Mutex<()>,
}

impl EventBus {
    pub(crate) fn new(store: String) -> Self {
        Self {
            store,
            listeners: Mutex::default(),
            queue: Mutex::default(),
            dropped: AtomicU64::new(0),
            dispatching: Mutex::default(),
        }
    }

    /// Registers a listener, and returns its number.
    pub(crate) fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) -> u64 {
        let listener: Listener = Arc::new(listener);
        let mut listeners = self.listeners.lock();
        let number = listeners.next;
        listeners.next += 1;
        listeners.registered.push((number, listener));
        number
    }

    /// Removes the listener with a number. It is dropped without a lock, since that is code of the program.
    pub(crate) fn remove(&self, number: u64) {
        let removed = {
            let mut listeners = self.listeners.lock();
            let at = listeners.registered.iter().position(|(registered, _)| *registered == number);
            at.map(|at| listeners.registered.remove(at))
        };
        drop(removed);
    }

    fn is_registered(&self, number: u64) -> bool {
        self.listeners.lock().registered.iter().any(|(registered, _)| *registered == number)
    }

    /// Adds an event, which [`dispatch`](Self::dispatch) delivers later.
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.queue.lock();
        if queue.len() >= MAX_WAITING {
            queue.pop_front();
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                log_later!(
                    Warn,
                    "{}: a listener is too slow: the oldest of {MAX_WAITING} waiting events is dropped",
                    self.store
                );
            }
        }
        queue.push_back(event);
    }

    /// Returns how many events were dropped because the listeners were too slow.
    #[cfg(any(feature = "redis", test))]
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
                let listeners = self.listeners.lock().registered.clone();
                for (number, listener) in listeners {
                    // A listener may end another one, or itself.
                    if !self.is_registered(number) {
                        continue;
                    }
                    // A panic of the listener is not one of the operation that happened to deliver the event.
                    if foreign::run(|| listener(&event)).is_none() {
                        let store = &self.store;
                        log_later!(Error, "{store}: a listener panicked on the event: {event}");
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
    fn a_listener_that_is_removed_is_called_no_more() {
        let bus = Arc::new(EventBus::new("Redis localhost:6379/0".to_owned()));
        let called = Arc::new(AtomicU64::new(0));
        let count = |by: u64| {
            let called = Arc::clone(&called);
            move |_: &Event| _ = called.fetch_add(by, Ordering::Relaxed)
        };
        let event = || Event::DataLost { cause: String::new() };
        let numbers = [1, 100].map(|by| bus.listen(count(by)));
        bus.push(event());
        bus.dispatch();
        bus.remove(numbers[0]);
        bus.push(event());
        bus.dispatch();
        assert_eq!(called.load(Ordering::Relaxed), 201);
    }

    #[test]
    fn the_oldest_events_are_dropped_if_a_listener_is_too_slow() {
        let bus = EventBus::new("Redis localhost:6379/0".to_owned());
        for number in 0..MAX_WAITING + 2 {
            bus.push(Event::Disconnected { cause: number.to_string() });
        }
        assert_eq!((bus.queue.lock().len(), bus.dropped()), (MAX_WAITING, 2));
        assert_eq!(bus.pop(), Some(Event::Disconnected { cause: "2".to_owned() }));
    }
}
