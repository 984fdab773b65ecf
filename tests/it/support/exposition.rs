//! A strict reader of the text format in which Prometheus reads metrics (version 0.0.4). It refuses whatever the format
//! does not allow.

use std::collections::BTreeMap;

/// What a text says of one metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// With the ending that a line of a histogram has: `_bucket`, `_sum` or `_count`.
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// The metrics of a text, by their names.
pub(crate) struct Exposition(BTreeMap<String, Family>);

impl Exposition {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("the last line does not end".to_owned());
        }
        let mut families = BTreeMap::new();
        let mut current: Option<(String, Family)> = None;
        let mut help = None;
        for line in text.lines() {
            let refuse = |why: &str| Err(format!("{why}: {line:?}"));
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').ok_or_else(|| format!("no text: {line:?}"))?;
                if text.trim() != text || text.is_empty() {
                    return refuse("a help text is empty, or has blanks around it");
                }
                close(current.take(), &mut families)?;
                help = Some(name.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("no type: {line:?}"))?;
                if !is_name(name, true) || !["counter", "gauge", "histogram"].contains(&kind) {
                    return refuse("no type of a metric");
                }
                if help.take().as_deref() != Some(name) {
                    return refuse("a type without its help before it");
                }
                current = Some((name.to_owned(), Family { kind: kind.to_owned(), samples: Vec::new() }));
            } else {
                let sample = sample(line).ok_or_else(|| format!("no sample: {line:?}"))?;
                let Some((name, family)) = current.as_mut().filter(|_| help.is_none()) else {
                    return refuse("a sample without a type");
                };
                let endings: &[&str] =
                    if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                if !endings.iter().any(|ending| sample.name == format!("{name}{ending}")) {
                    return refuse("a sample of another metric");
                }
                let is_same = |other: &Sample| other.name == sample.name && other.labels == sample.labels;
                if family.samples.iter().any(is_same) {
                    return refuse("a sample comes twice");
                }
                family.samples.push(sample);
            }
        }
        close(current, &mut families)?;
        Ok(Self(families))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn family(&self, name: &str) -> &Family {
        self.0.get(name).unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// The value of the one sample that has all of these labels.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = ["", "_bucket", "_sum", "_count"].iter().find_map(|ending| {
            self.0
                .get(name.strip_suffix(ending)?)
                .filter(|family| ending.is_empty() || family.kind == "histogram")
        });
        let family = family.unwrap_or_else(|| panic!("no metric {name}"));
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        let found: Vec<_> = family.samples.iter().filter(has).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?} in {family:?}");
        found[0].value
    }
}

/// Checks what only a whole metric shows.
fn close(current: Option<(String, Family)>, families: &mut BTreeMap<String, Family>) -> Result<(), String> {
    let Some((name, family)) = current else { return Ok(()) };
    if family.kind == "counter" && !name.ends_with("_total") {
        return Err(format!("the counter {name} does not end in _total"));
    }
    if family.samples.iter().any(|sample| family.kind != "gauge" && sample.value < 0.0) {
        return Err(format!("{name} is below zero"));
    }
    if family.kind == "histogram" {
        let mut series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let mut labels = sample.labels.clone();
            let limit = labels.remove("le").and_then(|limit| number(&limit));
            let limit = limit.ok_or_else(|| format!("a bucket of {name} has no limit"))?;
            series.entry(labels).or_default().push((limit, sample.value));
        }
        for (labels, buckets) in series {
            let grows = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let of = |ending: &str| {
                let is_it =
                    |sample: &&Sample| sample.name == format!("{name}{ending}") && sample.labels == labels;
                family.samples.iter().find(is_it).map(|sample| sample.value)
            };
            let last = buckets.last().copied();
            if !grows || last.is_none_or(|(limit, count)| !limit.is_infinite() || of("_count") != Some(count))
            {
                return Err(format!("the buckets of {name} do not add up: {buckets:?}"));
            }
            of("_sum").ok_or_else(|| format!("{name} has no sum"))?;
        }
    }
    match families.insert(name.clone(), family) {
        Some(_) => Err(format!("{name} comes twice")),
        None => Ok(()),
    }
}

fn is_name(name: &str, of_metric: bool) -> bool {
    let is_ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || of_metric && c == ':';
    name.starts_with(|c: char| !c.is_ascii_digit()) && name.chars().all(is_ok)
}

fn number(text: &str) -> Option<f64> {
    if text == "+Inf" {
        Some(f64::INFINITY)
    } else {
        text.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// Reads `name{label="value",…} value`.
fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = line.split_once('{')?;
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    let value = loop {
        let (label, behind) = rest.split_once("=\"")?;
        let (value, behind) = quoted(behind)?;
        if !is_name(label, false) || labels.insert(label.to_owned(), value).is_some() {
            return None;
        }
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => break behind.strip_prefix("} ")?,
        }
    };
    is_name(name, true).then_some(())?;
    Some(Sample { name: name.to_owned(), labels, value: number(value)? })
}

/// Reads up to the closing quote, and returns what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                plain @ ('"' | '\\') => plain,
                _ => return None,
            }),
            plain => value.push(plain),
        }
    }
    None
}

#[test]
fn a_text_that_breaks_the_format_is_refused() {
    let head = "# HELP a_total A.\n# TYPE a_total counter\n";
    assert!(Exposition::parse(&format!("{head}a_total{{x=\"1\"}} 2\n")).is_ok());
    for wrong in [
        "a_total{x=\"1\"} 2",
        "b_total{x=\"1\"} 2\n",
        "a_total{x=\"1\"} 2\na_total{x=\"1\"} 3\n",
        "a_total{x=\"1} 2\n",
        "a_total{x=\"\\q\"} 2\n",
        "a_total{x=\"1\"} two\n",
        "a_total{x=\"1\"} -2\n",
        "a_total{x=\"1\",x=\"2\"} 2\n",
        "# TYPE a_total counter\n",
    ] {
        assert!(Exposition::parse(&format!("{head}{wrong}")).is_err(), "{wrong}");
    }
}
