//! The documentation of the public methods: the groups of a store are shown in the order in which a reader needs them.

use super::source::files;

/// The groups of the operations of a store, in order.
const GROUPS: [&str; 17] = [
    "Opening",
    "Values",
    "Expiry",
    "Atomic steps",
    "Counters",
    "Transactions",
    "Maps",
    "Queues",
    "Leases",
    "Locks",
    "Listing",
    "Batches",
    "Handles",
    "Namespaces",
    "Outages",
    "Looking inside",
    "Ending",
];

/// Returns the documentation and the attributes above a line.
fn docs_above(lines: &[&str], number: usize) -> String {
    let above = lines[..number].iter().rev().map(|line| line.trim());
    let mut docs: Vec<&str> = above
        .take_while(|line| line.starts_with("///") || (!line.is_empty() && !line.ends_with(['{', '}', ';'])))
        .collect();
    docs.reverse();
    docs.join("\n") + "\n"
}

/// Returns the first heading of each documented part of the store in a file.
fn groups(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().collect();
    let parts = lines.iter().enumerate().filter(|(_, line)| **line == "impl StateStore {");
    let documented = parts.filter(|(number, _)| {
        let mut body = lines[number + 1..].iter().take_while(|line| **line != "}");
        body.any(|line| line.starts_with("    pub fn "))
    });
    let heading = |(number, _)| {
        let docs = docs_above(&lines, number);
        let first = docs.lines().next().unwrap_or_default();
        first.strip_prefix("/// # ").unwrap_or("a part without a heading").to_owned()
    };
    documented.map(heading).collect()
}

/// rustdoc shows the parts of an implementation in the order in which their modules are declared.
#[test]
fn the_groups_of_a_store_are_shown_in_the_order_of_need() {
    let sources = files("src");
    let modules = sources["store/mod.rs"]
        .lines()
        .filter_map(|line| line.trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';'));
    let mut shown = Vec::new();
    for module in modules {
        let paths = [format!("store/{module}.rs"), format!("store/{module}/mod.rs")];
        let source = paths.iter().find_map(|path| sources.get(path)).expect("the file of the module");
        shown.extend(groups(source));
    }
    assert_eq!(shown, GROUPS);
    let parts: usize = sources.values().map(|source| groups(source).len()).sum();
    assert_eq!(parts, GROUPS.len(), "a part of the store is declared outside `store`");
}
