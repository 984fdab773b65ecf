//! File when it is large or busy: the tail of reads beside writers and a compaction, opening, what an entry
//! takes in memory, the stalls and the room of a compaction, and how puts get on as the store grows.
//!
//! Arguments name the parts to run; without any, all of them do.

mod compacting;
mod entries;
mod growth;
mod opening;
mod tail;

use std::path::Path;

use millpond_benches::report;

/// What all parts do in so many rounds, as each is long.
const ROUNDS: usize = 3;

const PARTS: [&str; 6] = ["tail", "opening", "memory", "stalls", "room", "growth"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, directory] = &arguments[..]
        && first == opening::RESIDENT
    {
        return opening::resident(Path::new(directory));
    }
    if let Some(unknown) = arguments.iter().find(|part| !PARTS.contains(&part.as_str())) {
        panic!("{unknown} is none of {PARTS:?}");
    }
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|wanted| wanted == part);

    report::header_of("File, large and busy", &format!("{ROUNDS} rounds, where a row has any."));
    if wanted("tail") {
        tail::reads();
    }
    if ["opening", "memory", "stalls"].into_iter().any(wanted) {
        let stores = opening::Stores::fill();
        if wanted("opening") {
            opening::times(&stores);
        }
        if wanted("memory") {
            opening::memory(&stores);
        }
        if wanted("stalls") {
            compacting::stalls(&stores.snapshot());
        }
    }
    if wanted("room") {
        compacting::room();
    }
    if wanted("growth") {
        growth::puts();
    }
}
