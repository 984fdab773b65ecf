//! File with large stores and heavy load: the slowest reads during writes and a compaction, opening, memory
//! per entry, the stalls and the disk space of a compaction, and the cost of puts as the store grows.
//!
//! The arguments name the parts to run; without arguments all parts run.

mod compacting;
mod entries;
mod growth;
mod opening;
mod tail;

use std::path::Path;

use millpond_benches::report;

/// The number of rounds of all parts, few because each round is long.
const ROUNDS: usize = 3;

const PARTS: [&str; 6] = ["tail", "opening", "memory", "stalls", "room", "growth"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, directory] = &arguments[..]
        && first == opening::RESIDENT
    {
        return opening::print_resident(Path::new(directory));
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
