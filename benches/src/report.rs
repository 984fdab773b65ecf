//! The markdown table.

use crate::measure::{self, Cell};

/// What the ratio to the best of a group of peers should be.
pub struct Bar {
    pub group: &'static str,
    pub at_least: f64,
}

/// What the rounds of one cell showed: operations in a second, by round and contender.
pub(crate) struct Outcome<'a> {
    /// Name and group.
    pub(crate) contenders: &'a [(&'static str, &'static str)],
    pub(crate) ours: Option<usize>,
    pub(crate) rounds: &'a [Vec<f64>],
}

/// What a quantity should stay under.
#[derive(Clone, Copy)]
pub enum Limit {
    /// It is shown beside those that have one.
    None,
    /// In the median of the rounds.
    Median(f64),
    /// In each of them.
    Each(f64),
}

pub fn header(title: &str) {
    let rounds = format!("{} rounds, slices of {} ms.", measure::rounds(), measure::slice().as_millis());
    header_of(title, &rounds);
}

/// As [`header`], with other rounds.
pub fn header_of(title: &str, rounds: &str) {
    println!("## {title}\n");
    println!(
        "{rounds} Ratio: millpond / peer, the median over the rounds, with the least and the greatest.\n"
    );
    println!("| cell | threads | millpond ops/s | peer (ops/s) | ratio (median, min–max) | bar | verdict |");
    println!("| --- | ---: | ---: | --- | ---: | ---: | --- |");
}

pub(crate) fn rows(cell: &Cell, outcome: &Outcome<'_>) {
    let Outcome { contenders, ours, rounds } = outcome;
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
            "| {} | {} | {own} | {peer} ({}) | {ratio} | {bar} | {} |",
            cell.name,
            cell.threads,
            rate(theirs),
            verdict(met)
        );
    };
    for (at, (name, _)) in contenders.iter().enumerate().filter(|(at, _)| Some(*at) != *ours) {
        row(name, &column(rounds, at), None);
    }
    for bar in cell.bars {
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

/// Prints what each round showed of something that is no ratio.
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
