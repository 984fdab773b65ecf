//! What happens to the processes, the server and the network while calls are made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::recorder::{Place, now};
use crate::support::proxy::{Mode, Proxy, Way};
use crate::support::raw_client::RawClient;
use crate::support::redis_server::RedisServer;

/// What can be made to fail.
pub(super) struct Targets<'t> {
    pub(super) server: &'t RedisServer,
    pub(super) proxies: &'t [Proxy],
    pub(super) places: &'t [Place],
    /// Set before the first process is killed.
    pub(super) kills: &'t AtomicBool,
}

impl Targets<'_> {
    /// Causes one fault after another until the end, and leaves everything working.
    pub(super) fn cause_faults(&self, random: &mut Rng, until: u64) {
        let raw = RawClient::connect(&self.server.url(0));
        while now() < until {
            self.cause_one(random, &raw);
            thread::sleep(Duration::from_millis(random.u64(5..80)));
        }
        for proxy in self.proxies {
            proxy.cancel_cut();
            proxy.set(Mode::Pass);
        }
    }

    fn cause_one(&self, random: &mut Rng, raw: &RawClient) {
        let place = &self.places[random.usize(..self.places.len())];
        let proxy = &self.proxies[random.usize(..self.proxies.len())];
        match random.u8(..16) {
            0 => {
                self.kills.store(true, Ordering::SeqCst);
                place.signal("-KILL");
            }
            1 => {
                place.signal("-STOP");
                pause(random, 900);
                place.signal("-CONT");
            }
            2 => {
                self.server.pause();
                pause(random, 700);
                self.server.resume();
            }
            3 => {
                let millis = random.u64(1..600).to_string();
                let what = if random.bool() { "WRITE" } else { "ALL" };
                raw.run::<_, ()>("CLIENT", &["PAUSE", &millis, what]);
                pause(random, 600);
            }
            4 => {
                proxy.set(Mode::Down);
                pause(random, 100);
                proxy.set(Mode::Pass);
            }
            5 => {
                // What was sent arrives later, and so do the replies.
                proxy.set(Mode::Hold);
                pause(random, 600);
                proxy.set(Mode::Pass);
            }
            6 => {
                proxy.hold_old();
                pause(random, 600);
                proxy.release_old();
            }
            7 => {
                proxy.set(Mode::Drip(Duration::from_millis(2)));
                pause(random, 200);
                proxy.set(Mode::Pass);
            }
            8 => {
                for _ in 0..20 {
                    proxy.cut(Way::Request, random.usize(..300));
                    pause(random, 10);
                }
            }
            // The server has applied the commands, and their replies are swallowed.
            _ => {
                for _ in 0..40 {
                    proxy.cut(Way::Answer, random.usize(..20));
                    pause(random, 10);
                }
            }
        }
    }
}

fn pause(random: &mut Rng, longest: u64) {
    thread::sleep(Duration::from_millis(random.u64(1..longest)));
}
