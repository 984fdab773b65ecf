//! The documentation of the public methods: each has an example and names its errors, and the groups of a store are
//! shown in the order in which a reader needs them.

use super::source::{files, is_test};

/// The groups of the operations of a store, in order.
const GROUPS: [&str; 22] = [
    "Opening",
    "Values",
    "Expiry",
    "Atomic steps",
    "Counters",
    "Windows",
    "Transactions",
    "Events",
    "Maps",
    "Queues",
    "Leases",
    "Locks",
    "Listing",
    "Batches",
    "Handles",
    "Revisions",
    "Namespaces",
    "Export and import",
    "Gate",
    "Outages",
    "Looking inside",
    "Ending",
];

/// A public method, as its source shows it.
struct Method<'s> {
    type_name: &'s str,
    name: &'s str,
    docs: String,
    returns_result: bool,
}

impl Method<'_> {
    /// Returns what its documentation lacks.
    fn missing(&self) -> Vec<&'static str> {
        let has_example =
            self.docs.contains("```") && !self.docs.contains("```text") && !self.docs.contains("```ignore");
        let names_errors = self.docs.contains("/// # Errors\n");
        let mut missing = Vec::new();
        if !has_example {
            missing.push("an example");
        }
        if self.returns_result && !names_errors {
            missing.push("`# Errors`");
        }
        missing
    }
}

/// Returns the documentation and the attributes above a line.
fn docs_above(lines: &[&str], number: usize) -> String {
    let above = lines[..number].iter().rev().map(|line| line.trim());
    let mut docs: Vec<&str> = above
        .take_while(|line| line.starts_with("///") || (!line.is_empty() && !line.ends_with(['{', '}', ';'])))
        .collect();
    docs.reverse();
    docs.join("\n") + "\n"
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$')).unwrap_or(text.len());
    &text[..end]
}

/// Returns the type that an `impl` or a `pub trait` is about; `None` for any other line.
fn subject(line: &str) -> Option<&str> {
    if let Some(name) = line.strip_prefix("pub trait ") {
        return Some(word(name));
    }
    let rest = line.strip_prefix("impl")?;
    if !rest.starts_with(['<', ' ']) {
        return None;
    }
    let rest = rest.split_once(" for ").map_or(rest, |(_, subject)| subject);
    // Generic parameters come before the type, and arguments behind it.
    let mut depth = 0;
    let start = rest.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '<') - i32::from(*c == '>');
        depth == 0 && (c.is_alphabetic() || *c == '$')
    })?;
    Some(word(&rest[start.0..]))
}

/// Returns whether the signature that begins at a line returns a `Result`.
fn returns_result(lines: &[&str], number: usize) -> bool {
    let mut signature = String::new();
    for line in &lines[number..] {
        signature += line;
        if line.ends_with(['{', ';']) {
            break;
        }
    }
    signature.rsplit_once("-> ").is_some_and(|(_, output)| output.starts_with("Result<"))
}

/// Returns the public methods of a file: those that are written there, and those that a row of `delegate!` declares.
fn methods(source: &str) -> Vec<Method<'_>> {
    let lines: Vec<&str> = source.lines().collect();
    let (mut type_name, mut in_trait, mut in_rows) = ("", false, false);
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let text = line.trim();
        if let Some(subject) = subject(text) {
            (type_name, in_trait) = (subject, text.starts_with("pub trait "));
            continue;
        }
        in_rows = text == "delegate! {" || (in_rows && text != "}");
        let declared = match (in_rows, in_trait) {
            // A row: `name(arguments) -> Output = method;`
            (true, _) => Some(text).filter(|text| text.contains(") -> ") && !text.starts_with("//")),
            (false, true) => text.strip_prefix("fn "),
            (false, false) => text.strip_prefix("pub fn ").or_else(|| text.strip_prefix("pub const fn ")),
        };
        let Some(declared) = declared else { continue };
        let docs = docs_above(&lines, number);
        // The documentation of what `delegate!` declares is in its rows.
        if docs.contains("#[$meta]") {
            continue;
        }
        let returns_result = in_rows || returns_result(&lines, number);
        found.push(Method { type_name, name: word(declared), docs, returns_result });
    }
    found
}

#[test]
fn every_public_method_has_an_example_and_names_its_errors() {
    let sources = files("src");
    let mut count = 0;
    let mut incomplete = Vec::new();
    for (path, source) in sources.iter().filter(|(path, _)| !is_test(path)) {
        for method in methods(source) {
            count += 1;
            let missing = method.missing();
            if !missing.is_empty() {
                let Method { type_name, name, .. } = method;
                incomplete.push(format!("src/{path}: {type_name}::{name} lacks {}", missing.join(" and ")));
            }
        }
    }
    assert!(count > 250, "only {count} public methods were found");
    assert!(incomplete.is_empty(), "{} methods:\n{}", incomplete.len(), incomplete.join("\n"));
}

#[test]
fn what_a_method_lacks_is_found_in_every_spelling() {
    let source = "\
impl<T: Into<String>> Store<T> {
    /// Puts.
    ///
    /// ```
    /// put();
    /// ```
    #[must_use]
    pub fn put(
        &self,
        f: impl Fn() -> u8,
    ) -> Result<()> {
    }

    /// Gets.
    pub const fn get(&self, f: impl Fn() -> Result<u8>) -> u8 {
    }

    fn private(&self) {}
}
pub trait Clock: Send {
    /// Reads.
    ///
    /// # Errors
    /// Never.
    fn now(&self) -> Result<u8>;
}
impl Counter {
    delegate! {
        /// Adds.
        add(by: i64) -> i64 = incr;
    }
}
";
    let found: Vec<_> =
        methods(source).into_iter().map(|method| (method.type_name, method.name, method.missing())).collect();
    let expected = [
        ("Store", "put", vec!["`# Errors`"]),
        ("Store", "get", vec!["an example"]),
        ("Clock", "now", vec!["an example"]),
        ("Counter", "add", vec!["an example", "`# Errors`"]),
    ];
    assert_eq!(found, expected);
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
