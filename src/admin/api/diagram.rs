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
    /// What is asked outside: name, whether it is asked at present, a few words.
    pub(super) dependencies: Vec<(String, bool, String)>,
}

const WIDTH: u32 = 1_060;
/// Left edges of the three columns, and the width of a box.
const COLUMNS: [u32; 3] = [20, 390, 760];
const BOX: u32 = 250;
/// Upper edge of the first row; between the rows.
const TOP: u32 = 30;
const GAP: u32 = 90;
const LINE: u32 = 18;
/// Longest text in a box, in characters.
const TEXT: usize = 32;
/// Lines in a box; beyond that their number is told.
const LINES: usize = 10;

const GOOD: &str = "#2e7d32";
const WARNING: &str = "#b26a00";
const BAD: &str = "#b3261e";
const QUIET: &str = "#5f6368";

/// Text that cannot be anything but text. What is too long loses its middle: the ends of addresses and paths tell most.
fn escaped(text: &str) -> String {
    let all: Vec<char> = text.chars().collect();
    let kept = all.len().saturating_sub(TEXT);
    let (begin, end) =
        if kept == 0 { (&all[..], &all[..0]) } else { (&all[..TEXT / 3], &all[all.len() - (TEXT - TEXT / 3 - 1)..]) };
    let gap = (kept > 0).then_some('…');
    let mut out = String::new();
    for c in begin.iter().copied().chain(gap).chain(end.iter().copied()) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A box: title, colour, lines.
struct Part(&'static str, &'static str, Vec<String>);

impl Part {
    fn height(&self) -> u32 {
        40 + LINE * u32::try_from(self.2.len()).unwrap_or(0)
    }
}

struct Sheet(String);

impl Sheet {
    /// A box with a title and lines of text. Writing to a string does not fail.
    fn part(&mut self, (x, y): (u32, u32), part: &Part) {
        let (Part(title, colour, lines), height) = (part, part.height());
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

    /// A line through these points with a tip at its end, and what it carries.
    fn arrow(&mut self, points: &[(u32, u32)], (x, y): (u32, u32), anchor: &str, label: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        let _ = write!(
            self.0,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{QUIET}\" stroke-width=\"1.5\" marker-end=\"url(#tip)\"/>\
             <text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"{QUIET}\">{}</text>",
            points.join(" "),
            escaped(label)
        );
    }
}

/// Draws it: doors, queue and workers above; stores, dead letters and what is asked outside below.
pub(super) fn draw(picture: &Picture) -> String {
    let above = [doors(&picture.doors), queue(picture), workers(picture.workers.as_deref())];
    let below = [
        Part("Stores", GOOD, vec![picture.database.clone(), picture.bodies.clone()]),
        dead(picture.depth.as_ref()),
        dependencies(&picture.dependencies),
    ];
    let highest = |row: &[Part; 3]| row.iter().map(Part::height).max().unwrap_or(0);
    let second = TOP + highest(&above) + GAP;
    let height = second + highest(&below) + 60;
    let mut sheet = Sheet(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\
         <title>Mailweir: doors, outbox, queue, workers, stores, services</title><defs><marker id=\"tip\" markerWidth=\"9\" \
         markerHeight=\"8\" refX=\"8\" refY=\"4\" orient=\"auto\" markerUnits=\"userSpaceOnUse\"><path d=\"M0,0 L9,4 L0,8 z\" \
         fill=\"{QUIET}\"/></marker></defs><rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#f8f9fa\"/>"
    ));
    for ((x, upper), lower) in COLUMNS.into_iter().zip(&above).zip(&below) {
        sheet.part((x, TOP), upper);
        sheet.part((x, second), lower);
    }
    let [left, middle, right] = COLUMNS;
    let down = |part: &Part, x: u32| [(x + BOX / 2, TOP + part.height() + 2), (x + BOX / 2, second - 2)];
    let beside = |x: u32| (x + BOX / 2 + 10, second - GAP / 2);
    sheet.arrow(&down(&above[0], left), beside(left), "start", "records, jobs");
    sheet.arrow(&down(&above[1], middle), beside(middle), "start", "given up");
    let (lane, at) = (u32::midpoint(left + BOX, middle), TOP + 48);
    let outbox = [(left + BOX + 2, second + 30), (lane, second + 30), (lane, at), (middle - 2, at)];
    sheet.arrow(&outbox, (lane + 8, second - GAP / 2), "start", "outbox");
    let rate = picture.depth.map_or("stopped".to_owned(), |_| format!("{:.1} jobs/s", picture.per_second));
    sheet.arrow(
        &[(middle + BOX + 2, at), (right - 2, at)],
        (u32::midpoint(middle + BOX, right), at - 8),
        "middle",
        &rate,
    );
    if picture.workers.is_some() {
        // Around everything, so that it crosses nothing.
        let (edge, floor) = (right + BOX + 25, height - 25);
        let bottom = second + below[0].height() + 2;
        let results =
            [(right + BOX + 2, at), (edge, at), (edge, floor), (left + BOX / 2, floor), (left + BOX / 2, bottom)];
        sheet.arrow(&results, (middle + BOX / 2, floor - 8), "middle", "results");
    }
    sheet.0.push_str("</svg>");
    sheet.0
}

fn doors(doors: &[(String, String)]) -> Part {
    if doors.is_empty() {
        return Part("Doors", QUIET, vec!["none in this process".into()]);
    }
    Part("Doors", GOOD, shortened(doors.iter().map(|(name, address)| format!("{name} {address}")).collect()))
}

fn dead(depth: Option<&Depth>) -> Part {
    match depth {
        None => Part("Dead letters", QUIET, vec!["not known".into()]),
        Some(depth) => Part("Dead letters", if depth.dead > 0 { WARNING } else { QUIET }, vec![depth.dead.to_string()]),
    }
}

fn dependencies(all: &[(String, bool, String)]) -> Part {
    if all.is_empty() {
        return Part("Services asked", QUIET, vec!["none".into()]);
    }
    let colour = if all.iter().all(|(_, asked, _)| *asked) { GOOD } else { WARNING };
    Part("Services asked", colour, shortened(all.iter().map(|(name, _, words)| format!("{name}: {words}")).collect()))
}

/// As many lines as a box takes.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > LINES {
        let more = lines.len() - LINES + 1;
        lines.truncate(LINES - 1);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn queue(picture: &Picture) -> Part {
    let mut lines = vec![picture.queue.clone()];
    let Some(depth) = picture.depth else {
        lines.extend(["does not answer".into(), "jobs wait in the outbox".into()]);
        return Part("Queue", BAD, lines);
    };
    for priority in Priority::ALL {
        let now = &depth.by_priority[priority.place()];
        lines.push(format!("{}: {} wait, {} run, {} later", priority.as_str(), now.waiting, now.running, now.later));
    }
    lines.push(format!("oldest waits {:.1} s", depth.oldest_ms() as f64 / 1_000.0));
    Part("Queue", GOOD, lines)
}

fn workers(workers: Option<&[WorkerStatus]>) -> Part {
    let Some(workers) = workers else { return Part("Workers", QUIET, vec!["none in this process".into()]) };
    let of = |state| workers.iter().filter(|worker| worker.state == state).count();
    let busy = workers.iter().map(|worker| worker.utilisation).sum::<f64>() / workers.len().max(1) as f64;
    let lines = vec![
        format!("{} busy, {} idle", of(WorkerState::Busy), of(WorkerState::Idle)),
        format!("{} draining", of(WorkerState::Draining)),
        format!("utilisation {:.0} %", busy * 100.0),
    ];
    Part("Workers", GOOD, lines)
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
            dependencies: (0..12).map(|n| (format!("s{n}"), n != 3, "closed".into())).collect(),
        };
        let svg = draw(&picture);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
        assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;&amp;&quot;\u{fffd}"), "{svg}");
        assert!(svg.contains(">7</text>") && svg.contains("12.3 jobs/s") && svg.contains("none in this process"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains(&"x".repeat(TEXT + 1)));
        assert!(svg.contains("s8: closed") && svg.contains("and 3 more") && !svg.contains("s9:"));
        picture.depth = None;
        let svg = draw(&picture);
        assert!(svg.contains("does not answer") && svg.contains("not known") && svg.contains("stopped"));
        assert_eq!(escaped("sqlite:///var/lib/mailweir/data/mailweir.sqlite"), "sqlite:///…/data/mailweir.sqlite");
    }
}
