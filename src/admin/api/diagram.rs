//! The picture of the architecture: SVG 1.1 without scripts, styles or links, so that any policy lets it through.

use std::fmt::Write;

use crate::deferred::{Depth, Priority, WorkerState, WorkerStatus};

/// What is drawn.
pub(super) struct Picture {
    /// Name and address.
    pub(super) doors: Vec<(String, String)>,
    pub(super) database: String,
    pub(super) bodies: String,
    pub(super) queue: String,
    /// None: it does not answer.
    pub(super) depth: Option<Depth>,
    /// None: this process does not work.
    pub(super) workers: Option<Vec<WorkerStatus>>,
    pub(super) per_second: f64,
}

const WIDTH: u32 = 1_000;
const BOX: u32 = 220;
const LINE: u32 = 18;
/// Longest text in a box, in characters.
const TEXT: usize = 32;

const GOOD: &str = "#2e7d32";
const WARNING: &str = "#b26a00";
const BAD: &str = "#b3261e";
const QUIET: &str = "#5f6368";

/// Text that cannot be anything but text.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(TEXT) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    if text.chars().nth(TEXT).is_some() {
        out.push('…');
    }
    out
}

struct Sheet(String);

impl Sheet {
    /// A box with a title and lines of text. Writing to a string does not fail.
    fn part(&mut self, (x, y): (u32, u32), title: &str, colour: &str, lines: &[String]) {
        let height = 40 + LINE * u32::try_from(lines.len()).unwrap_or(0);
        let _ = write!(
            self.0,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\" stroke=\"{colour}\" \
             stroke-width=\"2\"/><text x=\"{}\" y=\"{}\" font-weight=\"bold\" fill=\"{colour}\">{}</text>",
            x + 12,
            y + 24,
            escaped(title)
        );
        for (line, text) in (0..).zip(lines) {
            let at = y + 44 + LINE * line;
            let _ = write!(self.0, "<text x=\"{}\" y=\"{at}\" fill=\"#202124\">{}</text>", x + 12, escaped(text));
        }
    }

    fn arrow(&mut self, from: (u32, u32), to: (u32, u32), label: &str) {
        let _ = write!(
            self.0,
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke=\"{QUIET}\" stroke-width=\"2\" marker-end=\"url(#tip)\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{QUIET}\">{}</text>",
            from.0,
            from.1,
            to.0,
            to.1,
            (from.0 + to.0) / 2,
            (from.1 + to.1) / 2 - 6,
            escaped(label)
        );
    }
}

/// Draws it.
pub(super) fn draw(picture: &Picture) -> String {
    let mut sheet = Sheet(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} 420\" font-family=\"sans-serif\" font-size=\"13\">\
         <title>Mailweir: doors, outbox, queue, workers, stores</title><defs><marker id=\"tip\" markerWidth=\"8\" \
         markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"{QUIET}\"/></marker></defs>\
         <rect width=\"{WIDTH}\" height=\"420\" fill=\"#f8f9fa\"/>"
    ));
    let doors: Vec<String> = picture.doors.iter().map(|(name, address)| format!("{name} {address}")).collect();
    let none = vec!["none in this process".to_owned()];
    sheet.part(
        (20, 40),
        "Doors",
        if doors.is_empty() { QUIET } else { GOOD },
        if doors.is_empty() { &none } else { &doors },
    );
    sheet.part((20, 280), "Stores", GOOD, &[picture.database.clone(), picture.bodies.clone()]);
    let (colour, lines) = queue(picture);
    sheet.part((390, 40), "Queue", colour, &lines);
    let (colour, lines) = workers(picture.workers.as_deref());
    sheet.part((760, 40), "Workers", colour, &lines);
    let dead = picture.depth.map_or(0, |depth| depth.dead);
    let colour = if dead > 0 { WARNING } else { QUIET };
    sheet.part((760, 280), "Dead letters", colour, &[dead.to_string()]);
    sheet.arrow((130, 180), (130, 278), "records, jobs");
    sheet.arrow((242, 300), (420, 190), "outbox");
    sheet.arrow((612, 90), (758, 90), &format!("{:.1} jobs/s", picture.per_second));
    sheet.arrow((870, 180), (870, 278), "given up");
    sheet.arrow((758, 150), (242, 320), "results");
    sheet.0.push_str("</svg>");
    sheet.0
}

fn queue(picture: &Picture) -> (&'static str, Vec<String>) {
    let mut lines = vec![picture.queue.clone()];
    let Some(depth) = picture.depth else {
        lines.push("does not answer".into());
        return (BAD, lines);
    };
    for priority in Priority::ALL {
        let now = &depth.by_priority[priority.place()];
        lines.push(format!("{}: {} wait, {} run, {} later", priority.as_str(), now.waiting, now.running, now.later));
    }
    lines.push(format!("oldest waits {:.1} s", depth.oldest_ms() as f64 / 1_000.0));
    (GOOD, lines)
}

fn workers(workers: Option<&[WorkerStatus]>) -> (&'static str, Vec<String>) {
    let Some(workers) = workers else { return (QUIET, vec!["none in this process".into()]) };
    let of = |state| workers.iter().filter(|worker| worker.state == state).count();
    let busy = workers.iter().map(|worker| worker.utilisation).sum::<f64>() / workers.len().max(1) as f64;
    let lines = vec![
        format!("{} busy, {} idle", of(WorkerState::Busy), of(WorkerState::Idle)),
        format!("{} draining", of(WorkerState::Draining)),
        format!("utilisation {:.0} %", busy * 100.0),
    ];
    (GOOD, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_states_are_seen() {
        let mut picture = Picture {
            doors: vec![("relay".into(), "<script>&\"\0".into())],
            database: "sqlite".into(),
            bodies: "x".repeat(100),
            queue: "redis://127.0.0.1".into(),
            depth: Some(Depth { dead: 7, ..Depth::default() }),
            workers: None,
            per_second: 12.34,
        };
        let svg = draw(&picture);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;&amp;&quot;\u{fffd}"), "{svg}");
        assert!(svg.contains(">7</text>") && svg.contains("12.3 jobs/s") && svg.contains("none in this process"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains(&"x".repeat(TEXT + 1)));
        picture.depth = None;
        assert!(draw(&picture).contains("does not answer"));
    }
}
