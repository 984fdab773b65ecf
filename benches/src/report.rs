//! The table of results, in Markdown.

use crate::settings;

/// The required ratio to the best of a group of peers.
pub struct Bar {
    pub group: &'static str,
    pub at_least: f64,
}

/// The results of one cell: operations per second, by round and contender.
pub(crate) struct Outcome<'a> {
    pub(crate) name: &'static str,
    pub(crate) threads: usize,
    pub(crate) bars: &'static [Bar],
    /// Name and group.
    pub(crate) contenders: &'a [(&'static str, &'static str)],
    pub(crate) ours: Option<usize>,
    pub(crate) rounds: &'a [Vec<f64>],
}

/// The upper limit of a quantity.
#[derive(Clone, Copy)]
pub enum Limit {
    /// None: the quantity is only shown for comparison.
    None,
    /// For the median of the rounds.
    Median(f64),
    /// For every round.
    Each(f64),
}

pub fn header(title: &str) {
    let rounds = format!("{} rounds, slices of {} ms.", settings::rounds(), settings::slice().as_millis());
    header_of(title, &rounds);
}

/// Like [`header`], for other rounds.
pub fn header_of(title: &str, rounds: &str) {
    println!("## {title}\n");
    println!(
        "{rounds} Ratio: millpond / peer, the median over the rounds, with the least and the greatest.\n"
    );
    println!("| cell | threads | millpond ops/s | peer (ops/s) | ratio (median, min–max) | bar | verdict |");
    println!("| --- | ---: | ---: | --- | ---: | ---: | --- |");
}

pub(crate) fn rows(outcome: &Outcome<'_>) {
    let Outcome { name, threads, bars, contenders, ours, rounds } = outcome;
    let own = match ours {
        Some(ours) => rate(&column(rounds, *ours)),
        None => "–".to_owned(),
    };
    let row = |peer: &str, theirs: &[f64], bar: Option<f64>| {
        let ratios: Option<Vec<f64>> =
            ours.map(|ours| rounds.iter().zip(theirs).map(|(rates, peer)| rates[ours] / peer).collect());
        let (ratio, met) = match &ratios {
            Some(ratios) => (spread(ratios, 2), bar.map(|bar| median(ratios) >= bar)),
            None => ("–".to_owned(), None),
        };
        let bar = bar.map(|bar| format!("≥ {bar}")).unwrap_or_default();
        println!(
            "| {name} | {threads} | {own} | {peer} ({}) | {ratio} | {bar} | {} |",
            rate(theirs),
            verdict(met)
        );
    };
    for (at, (name, _)) in contenders.iter().enumerate().filter(|(at, _)| Some(*at) != *ours) {
        row(name, &column(rounds, at), None);
    }
    for bar in *bars {
        let group: Vec<usize> = (0..contenders.len()).filter(|at| contenders[*at].1 == bar.group).collect();
        let best: Vec<f64> =
            rounds.iter().map(|rates| group.iter().map(|at| rates[*at]).fold(f64::MIN, f64::max)).collect();
        row(&format!("**best {}**", bar.group), &best, Some(bar.at_least));
    }
}

pub(crate) fn latency_row(name: &str, micros: &[f64], bar: f64) {
    let met = Some(median(micros) < bar);
    let rate = rate(&micros.iter().map(|micros| 1e6 / micros).collect::<Vec<_>>());
    println!("| {name} | 1 | {rate} | – | {} µs | < {bar} µs | {} |", spread(micros, 1), verdict(met));
}

/// Prints the results of a quantity that is not a ratio, for each round.
pub fn quantity(name: &str, threads: usize, numbers: &[f64], unit: &str, limit: Limit) {
    let greatest = numbers.iter().copied().fold(f64::MIN, f64::max);
    let (limit, met) = match limit {
        Limit::None => (String::new(), None),
        Limit::Median(limit) => (format!("≤ {limit} {unit}"), Some(median(numbers) <= limit)),
        Limit::Each(limit) => (format!("each ≤ {limit} {unit}"), Some(greatest <= limit)),
    };
    println!("| {name} | {threads} | – | – | {} {unit} | {limit} | {} |", spread(numbers, 2), verdict(met));
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "**below**",
        None => "",
    }
}

fn column(rounds: &[Vec<f64>], at: usize) -> Vec<f64> {
    rounds.iter().map(|rates| rates[at]).collect()
}

fn rate(rates: &[f64]) -> String {
    match median(rates) {
        rate if rate >= 1e6 => format!("{:.2} M", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

fn spread(numbers: &[f64], digits: usize) -> String {
    let least = numbers.iter().copied().fold(f64::MAX, f64::min);
    let greatest = numbers.iter().copied().fold(f64::MIN, f64::max);
    format!("{:.digits$}, {least:.digits$}–{greatest:.digits$}", median(numbers))
}

pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}
