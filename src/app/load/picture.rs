//! A load step as a picture: what comes and what waits above, workers below, over the same time. SVG 1.1 without scripts or
//! styles.

use std::fmt::Write;

use super::figures::short;
use super::step::Look;
use crate::deferred::ScalingConfig;

/// What is drawn.
pub(super) struct Picture<'a> {
    pub(super) title: String,
    pub(super) looks: &'a [Look],
    /// Changes of direction of the number of workers.
    pub(super) turns: usize,
    pub(super) scaling: &'a ScalingConfig,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 890.0;
const INK: &str = "#202124";
const GREY: &str = "#5f6368";
const GRID: &str = "#e0e3e7";
const DEPTH: &str = "#b26a00";
const RATE: &str = "#5f6368";
const WORKERS: &str = "#1a5fb4";

/// One of the two charts: its place, and what its top stands for.
struct Chart {
    top: f64,
    bottom: f64,
    most: f64,
    seconds: f64,
}

/// A round number not below this one that four steps divide well.
fn ceiling(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(value)
}

impl Chart {
    fn x(&self, second: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * second / self.seconds.max(1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * (value / self.most).min(1.0)
    }

    /// Lines across with their numbers, and the name of the axis.
    fn axis(&self, out: &mut String, name: &str, colour: &str) {
        for step in 0..=4 {
            let value = self.most * f64::from(step) / 4.0;
            let y = self.y(value);
            let text = if value.fract() == 0.0 && value < 100.0 { format!("{value:.0}") } else { short(value) };
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{GREY}\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        let _ = write!(
            out,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\" fill=\"{colour}\">{name}</text>",
            self.top - 12.0
        );
    }

    /// A line that holds each value until the next one.
    fn steps(&self, looks: &[Look], value: impl Fn(&Look) -> f64) -> String {
        let mut path = String::new();
        let mut last = None;
        for look in looks {
            let (x, now) = (self.x(look.second), value(look));
            match last.replace(now) {
                None => drop(write!(path, "M{x:.1},{:.1}", self.y(now))),
                Some(before) if before != now => drop(write!(path, "H{x:.1}V{:.1}", self.y(now))),
                Some(_) => {}
            }
        }
        if let Some(look) = looks.last() {
            let _ = write!(path, "H{:.1}", self.x(look.second));
        }
        path
    }
}

/// Draws it.
pub(super) fn draw(picture: &Picture<'_>) -> String {
    let looks = picture.looks;
    let seconds = looks.last().map_or(1.0, |look| look.second);
    let most = |value: fn(&Look) -> f64| looks.iter().map(value).fold(1.0, f64::max);
    let depth = Chart { top: 96.0, bottom: 296.0, most: ceiling(most(|look| look.depth as f64)), seconds };
    let rate = Chart { most: ceiling(most(|look| look.rate)), ..depth };
    let workers = Chart { top: 352.0, bottom: 500.0, most: ceiling(most(|look| f64::from(look.workers))), seconds };
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"13\">\
         <title>Workers over a step of load</title><rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\
         <text x=\"{LEFT}\" y=\"30\" font-size=\"17\" font-weight=\"bold\" fill=\"{INK}\">Workers over a step of load</text>\
         <text x=\"{LEFT}\" y=\"52\" fill=\"{GREY}\">{}</text>",
        picture.title.replace('&', "&amp;").replace('<', "&lt;")
    );
    depth.axis(&mut out, "jobs that wait", DEPTH);
    workers.axis(&mut out, "workers", WORKERS);
    times(&mut out, &[&depth, &workers], seconds);

    let line = depth.steps(looks, |look| look.depth as f64);
    let base = depth.y(0.0);
    let _ = write!(
        out,
        "<path d=\"{line}V{base:.1}H{LEFT}Z\" fill=\"{DEPTH}\" fill-opacity=\"0.18\"/>\
         <path d=\"{line}\" fill=\"none\" stroke=\"{DEPTH}\" stroke-width=\"2\"/>\
         <path d=\"{}\" fill=\"none\" stroke=\"{RATE}\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"/>\
         <path d=\"{}\" fill=\"none\" stroke=\"{WORKERS}\" stroke-width=\"2.5\"/>",
        rate.steps(looks, |look| look.rate),
        workers.steps(looks, |look| f64::from(look.workers)),
    );
    for step in 0..=4 {
        let value = rate.most * f64::from(step) / 4.0;
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" fill=\"{RATE}\">{}</text>",
            RIGHT + 8.0,
            rate.y(value) + 4.0,
            if value.fract() == 0.0 { format!("{value:.0}") } else { short(value) }
        );
    }
    let _ = write!(
        out,
        "<path d=\"M{:.1},{y}h26\" fill=\"none\" stroke=\"{RATE}\" stroke-width=\"1.5\" stroke-dasharray=\"6 4\"/>\
         <text x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\" font-weight=\"bold\" fill=\"{RATE}\">jobs that come, a second</text>",
        RIGHT - 226.0,
        depth.top - 12.0,
        y = depth.top - 16.0,
    );
    let scaling = picture.scaling;
    let _ = write!(
        out,
        "<text x=\"{RIGHT}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{GREY}\">{} to {} workers, more from {} waiting, fewer below {}; \
         changes of direction: {}</text>",
        workers.top - 12.0,
        scaling.min,
        scaling.max,
        scaling.up_depth,
        scaling.down_depth,
        picture.turns
    );
    out.push_str("</svg>\n");
    out
}

/// Seconds below the last chart, lines up and down through all.
fn times(out: &mut String, charts: &[&Chart], seconds: f64) {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];
    let step = step.into_iter().find(|step| seconds / step <= 12.0).unwrap_or(7_200.0);
    let Some(last) = charts.last() else { return };
    let mut second = 0.0;
    while second <= seconds {
        let x = last.x(second);
        for chart in charts {
            let _ = write!(
                out,
                "<line x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"{GRID}\"/>",
                chart.top, chart.bottom
            );
        }
        let _ = write!(
            out,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"{GREY}\">{second:.0}</text>",
            last.bottom + 20.0
        );
        second += step;
    }
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{GREY}\">seconds</text>",
        f64::midpoint(LEFT, RIGHT),
        last.bottom + 42.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_escaped() {
        let look = |second: f64, depth, workers| Look { second, depth, workers, rate: 5.0 };
        let looks = [look(0.0, 0, 2), look(1.0, 90, 4), look(2.0, 90, 4), look(3.0, 0, 3)];
        let scaling = ScalingConfig::default();
        let svg = draw(&Picture { title: "<a> & b".into(), looks: &looks, turns: 1, scaling: &scaling });
        assert!(svg.contains("&lt;a> &amp; b") && svg.contains("changes of direction: 1"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        let empty = draw(&Picture { title: String::new(), looks: &[], turns: 0, scaling: &scaling });
        assert!(!empty.contains("NaN") && !empty.contains("inf"));
    }

    #[test]
    fn round_tops() {
        for (value, top) in
            [(0.0, 1.0), (1.0, 1.0), (13.0, 20.0), (20.0, 20.0), (130.0, 200.0), (3_700.0, 4_000.0), (99.0, 100.0)]
        {
            assert_eq!(ceiling(value), top, "{value}");
        }
    }
}
