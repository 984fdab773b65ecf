//! File when it is large or busy: the tail of reads beside writers and a compaction, opening, what an entry
//! takes in memory, the stalls and the room of a compaction, and how puts get on as the store grows.

mod compacting;
mod entries;
mod growth;
mod opening;
mod tail;

use std::path::Path;

use millpond_benches::report;

/// What all parts do in so many rounds, as each is long.
const ROUNDS: usize = 3;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(first), Some(directory)) if first == opening::RESIDENT => {
            return opening::resident(Path::new(&directory));
        }
        (None, None) => {}
        _ => panic!("there are no arguments but those that this program gives to itself"),
    }
    report::header_of("File, large and busy", &format!("{ROUNDS} rounds, where a row has any."));
    tail::reads();
    let stores = opening::Stores::fill();
    opening::times(&stores);
    opening::memory(&stores);
    compacting::stalls(stores.snapshot());
    drop(stores);
    compacting::room();
    growth::puts();
}
