//! Which files may import which.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{files, imports, is_test, module};

/// A room, and its parts in layers from the lowest up. A file imports only from lower layers, and from its own part.
struct Room {
    name: &'static str,
    layers: &'static [&'static [&'static str]],
}

const ROOMS: &[Room] = &[
    Room {
        name: "",
        layers: &[
            &["bytes", "text"],
            &["error"],
            &["clock", "inspection", "key", "stats", "util", "value"],
            &["json", "op", "store_clock", "value_text"],
            &["config", "export", "exports", "outage"],
            &["event_bus"],
            &["backend"],
            &["store"],
        ],
    },
    Room {
        name: "backend",
        layers: &[&["local"], &[""], &["inspect", "transfer"], &["file", "memory", "redis"], &["fallback"]],
    },
    Room {
        name: "backend/local",
        layers: &[
            &["queue", "read_set"],
            &["entry"],
            &["change", "leases", "view"],
            &["plan_window"],
            &["plan", "wait_list"],
            &["overlay", "table"],
            &["plan_multi", "state", "table_source"],
            &["plan_whole", "whole"],
        ],
    },
    Room {
        name: "backend/file",
        layers: &[
            &["contents"],
            &["clock", "format", "fs", "pacer", "report"],
            &["layout"],
            &["closing_note", "journal", "read"],
            &["copying", "lock"],
            &["backup_target", "core", "snapshot"],
            &["compaction", "recovery", "syncer", "table_files"],
            &["store"],
            &["backup", "examination", "open", "repair", "transfer"],
        ],
    },
    Room {
        name: "backend/redis",
        layers: &[
            &["failure_kind"],
            &["error_replies"],
            &["failure", "keys", "place", "time_budget"],
            &["operation_error", "retry", "slots", "wire"],
            &["connect"],
            &["client"],
            &[
                "batch",
                "blocking",
                "comparison",
                "cut",
                "exactly_once",
                "examination",
                "exchange",
                "health",
                "listing",
                "replay",
                "restore",
                "transaction",
            ],
        ],
    },
    Room {
        name: "backend/fallback",
        layers: &[
            &["granted_leases", "marker", "queue", "reconnector", "report", "shadow"],
            &["outage"],
            &["policy"],
            &["shared"],
            &["link", "open"],
            &["questions", "route", "shutdown"],
            &["batches", "entry_write", "transaction", "transfer"],
            &["operations"],
            &["examination"],
        ],
    },
    Room {
        name: "store",
        layers: &[
            &["cas_backoff", "failing", "renewals", "single_flight", "slow_log", "wait", "write_batch"],
            &["gate"],
            &["context"],
            &["state_store"],
            &["counting"],
            &["lock_guard"],
            &["permits"],
            &[
                "batches",
                "closing",
                "execute",
                "exports",
                "inspection",
                "leases",
                "listing",
                "locks",
                "namespaces",
                "open",
                "outages",
            ],
            &[
                "cas_loop",
                "counters",
                "expiry",
                "file_store",
                "gates",
                "handle",
                "maps",
                "open_options",
                "queues",
                "revisions",
                "values",
                "windows",
            ],
            &["atomic", "transaction"],
            &["events", "transaction_operations", "unwind"],
        ],
    },
];

/// Returns the modules of the library without its unit tests, each with what it imports.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let sources: BTreeMap<String, String> = files("src")
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, source)| (module(&path).to_owned(), source))
        .collect();
    let modules: BTreeSet<String> = sources.keys().cloned().collect();
    sources.iter().map(|(name, source)| (name.clone(), imports(name, source, &modules))).collect()
}

/// Returns the path of a module inside a room; the room's own `mod.rs` is the empty path.
fn inside<'m>(module: &'m str, room: &str) -> Option<&'m str> {
    if room.is_empty() {
        return Some(module);
    }
    let rest = module.strip_prefix(room)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
}

impl Room {
    /// Returns the part of this room that a path inside it belongs to, and how high that is.
    fn part(&self, path: &str) -> Option<(usize, &'static str)> {
        let first = path.split('/').next().unwrap_or_default();
        let layers = self.layers.iter().enumerate();
        let mut parts = layers.flat_map(|(height, names)| names.iter().map(move |name| (height, *name)));
        parts.find(|(_, name)| *name == first)
    }
}

#[test]
fn every_file_imports_from_lower_layers_only() {
    let graph = graph();
    for room in ROOMS {
        for (module, imports) in &graph {
            let Some(path) = inside(module, room.name) else { continue };
            if module.is_empty() || (path.is_empty() && room.part("").is_none()) {
                continue;
            }
            let (height, part) = room.part(path).unwrap_or_else(|| panic!("{module} belongs to no layer"));
            for import in imports {
                let Some(imported) = inside(import, room.name) else { continue };
                let (below, other) =
                    room.part(imported).unwrap_or_else(|| panic!("{module} imports {import}"));
                assert!(below < height || part == other, "{module} imports {import}, which is not below it");
            }
        }
    }
}

#[test]
fn no_imports_form_a_circle() {
    let mut graph = graph();
    loop {
        // A module that imports nothing that is left, or that nothing left imports, is part of no circle.
        let left: BTreeSet<String> = graph.keys().cloned().collect();
        let imported: BTreeSet<String> = graph.values().flatten().cloned().collect();
        graph.retain(|module, imports| {
            imports.retain(|import| left.contains(import));
            !imports.is_empty() && imported.contains(module)
        });
        if graph.len() == left.len() {
            break;
        }
    }
    assert!(graph.is_empty(), "these modules import each other: {graph:#?}");
}

#[test]
fn every_part_of_a_room_exists() {
    let modules: BTreeSet<String> = graph().into_keys().collect();
    for room in ROOMS {
        for part in room.layers.iter().copied().flatten() {
            let name = [room.name, part].into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>();
            let name = name.join("/");
            assert!(modules.contains(&name), "the layers name {name}, which does not exist");
        }
    }
}
