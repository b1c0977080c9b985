//! Two saved runs beside each other: a ratio for each figure, which is better, and whether that is more than noise.

use serde::Serialize;

use super::figures::{Better, Figure, Run, short};
use crate::app::terminal::{Terminal, Tone};

/// Noise below which nobody believes it: machines differ from minute to minute.
const LEAST_NOISE: f64 = 0.03;

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Better,
    Worse,
    WithinNoise,
    /// Not a figure that has a better.
    Fact,
}

/// One figure of both runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    name: String,
    unit: String,
    a: f64,
    b: f64,
    /// B as a multiple of A; none when A is 0.
    ratio: Option<f64>,
    /// Noise of both together, as a share.
    noise: f64,
    change: Change,
}

/// Figures that both runs have.
pub(super) fn rows(a: &Run, b: &Run) -> Vec<Row> {
    let other = |figure: &Figure| b.figures.iter().find(|other| other.name == figure.name && other.unit == figure.unit);
    a.figures.iter().filter_map(|figure| other(figure).map(|other| row(figure, other))).collect()
}

fn row(a: &Figure, b: &Figure) -> Row {
    let ratio = (a.value.abs() > f64::EPSILON).then(|| b.value / a.value);
    let noise = (a.noise + b.noise).max(LEAST_NOISE);
    let more = ratio.map_or(b.value > 0.0, |ratio| ratio > 1.0);
    let within = ratio.map_or(b.value == 0.0, |ratio| (ratio - 1.0).abs() <= noise);
    let change = match a.better {
        Better::Neither => Change::Fact,
        _ if within => Change::WithinNoise,
        Better::More if more => Change::Better,
        Better::Less if !more => Change::Better,
        _ => Change::Worse,
    };
    Row { name: a.name.clone(), unit: a.unit.clone(), a: a.value, b: b.value, ratio, noise, change }
}

/// Shows it; gives whether some figure of B is worse.
pub(super) fn show(terminal: &Terminal, a: &Run, b: &Run, json: bool) -> anyhow::Result<bool> {
    if a.bench != b.bench {
        anyhow::bail!("one run is of `bench {}`, the other of `bench {}`", a.bench, b.bench);
    }
    let rows = rows(a, b);
    let worse = rows.iter().any(|row| row.change == Change::Worse);
    let alike = a.options == b.options;
    if json {
        let value = serde_json::json!({
            "bench": a.bench, "options_alike": alike, "worse": worse, "figures": rows,
            "a": {"version": a.version, "at_ms": a.at_ms}, "b": {"version": b.version, "at_ms": b.at_ms},
        });
        terminal.json(&value)?;
        return Ok(worse);
    }
    let line = |row: &Row| {
        let (word, tone) = match row.change {
            Change::Better => ("better", Tone::Good),
            Change::Worse => ("worse", Tone::Bad),
            Change::WithinNoise => ("within noise", Tone::Quiet),
            Change::Fact => ("", Tone::Quiet),
        };
        vec![
            format!("{}, {}", row.name, row.unit),
            short(row.a),
            short(row.b),
            row.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
            format!("{:.0} %", row.noise * 100.0),
            terminal.toned(tone, word),
        ]
    };
    let lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    terminal.table(&["FIGURE", "A", "B", "B/A", "NOISE", "B IS"], &lines)?;
    let mut warnings = Vec::new();
    if !alike {
        warnings.push("the options differ: what is compared is not the same work");
    }
    if a.processors != b.processors {
        warnings.push("the machines differ in processors");
    }
    if a.debug_build != b.debug_build {
        warnings.push("one of the programs was built without optimisation");
    }
    for warning in warnings {
        terminal.line(&terminal.toned(Tone::Warning, warning))?;
    }
    terminal.line(&terminal.toned(
        Tone::Quiet,
        "Noise: half the range of both runs' rounds together, 3 % at least. Runs taken in turn on a quiet machine say most.",
    ))?;
    Ok(worse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::load::figures::Reading;

    fn run(readings: &[(&str, Better, [f64; 3])]) -> Run {
        let round = |at: usize| {
            let reading =
                |(name, better, values): &(&str, Better, [f64; 3])| Reading::new(*name, "x", *better, values[at]);
            readings.iter().map(reading).collect::<Vec<_>>()
        };
        Run::new("queue", serde_json::json!({}), &[round(0), round(1), round(2)])
    }

    #[test]
    fn better_worse_or_noise() {
        use Better::{Less, More, Neither};
        let a = run(&[
            ("rate", More, [100.0; 3]),
            ("time", Less, [10.0; 3]),
            ("loud", More, [50.0, 100.0, 150.0]),
            ("n", Neither, [1.0; 3]),
            ("gone", More, [1.0; 3]),
        ]);
        let b = run(&[
            ("rate", More, [90.0; 3]),
            ("time", Less, [5.0; 3]),
            ("loud", More, [120.0; 3]),
            ("n", Neither, [9.0; 3]),
        ]);
        let found: Vec<_> = rows(&a, &b).iter().map(|row| (row.name.clone(), row.ratio, row.change)).collect();
        let expected = [
            ("rate", 0.9, Change::Worse),
            ("time", 0.5, Change::Better),
            ("loud", 1.2, Change::WithinNoise),
            ("n", 9.0, Change::Fact),
        ];
        assert_eq!(found, expected.map(|(name, ratio, change)| (name.to_owned(), Some(ratio), change)));
        let zero = run(&[("lost", Less, [0.0; 3])]);
        assert_eq!(rows(&zero, &zero)[0].change, Change::WithinNoise);
        assert_eq!(rows(&zero, &run(&[("lost", Less, [2.0; 3])]))[0].change, Change::Worse);
    }
}
