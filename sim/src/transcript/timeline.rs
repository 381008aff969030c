//! A transcript as a picture: load, errors and latencies over time, and a lane for everything whose
//! state changed.
//!
//! One SVG without scripts or anything from outside. Its colours follow what the reader prefers,
//! light or dark; nothing is told by colour alone: every line has its name at its end, every stretch
//! of a lane its word and a title. Numbers are whole, so that equal runs draw equal bytes.

use std::fmt::Write as _;

use super::{Interval, Transcript};
use crate::change::{Lane, StateChange};

const WIDTH: u64 = 1_000;
const LEFT: u64 = 240;
const RIGHT: u64 = 90;
const PLOT: u64 = WIDTH - LEFT - RIGHT;
const PANEL: u64 = 110;
const GAP: u64 = 44;
const TOP: u64 = 64;
const LANE: u64 = 22;
/// The height of a name at the end of a line.
const LABEL: u64 = 13;
/// More lanes than these nobody looks at.
const LANES_MAX: usize = 60;
/// There are no more kinds of lines.
const LINES_MAX: usize = 4;
/// More points than these no screen shows.
const POINTS_MAX: usize = 500;

// Written out for light and dark: not every viewer knows variables.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1b1f24}.p{fill:#fff}.t{font-size:16px;font-weight:600}.h{font-weight:600}.s{fill:#57606a}\
.g{stroke:#d8dee4;stroke-width:1}.l{fill:none;stroke-width:1.6;stroke-linejoin:round}\
.a{stroke:#0550ae}.b{stroke:#bc4c00;stroke-dasharray:6 3}.c{stroke:#1a7f37;stroke-dasharray:2 3}.d{stroke:#8250df;stroke-dasharray:9 3 2 3}\
.fa{fill:#0550ae}.fb{fill:#bc4c00}.fc{fill:#1a7f37}.fd{fill:#8250df}.bad{fill:#cf222e}.warn{fill:#9a6700}.on{fill:#fff;font-size:11px}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.p{fill:#0d1117}.s{fill:#9198a1}.g{stroke:#30363d}\
.a{stroke:#79c0ff}.b{stroke:#ffa657}.c{stroke:#56d364}.d{stroke:#d2a8ff}.fa{fill:#79c0ff}.fb{fill:#ffa657}.fc{fill:#56d364}.fd{fill:#d2a8ff}\
.bad{fill:#ff7b72}.warn{fill:#e3b341}.on{fill:#0d1117}}";

/// A line of a panel: its name and a value for each point.
struct Line {
    name: String,
    values: Vec<u64>,
}

struct Panel {
    title: &'static str,
    lines: Vec<Line>,
    /// How a value is written.
    words: fn(u64) -> String,
}

/// What something's state was: from when on, in microseconds, and how.
struct Track<'a> {
    lane: Lane,
    subject: &'a str,
    changes: Vec<(u64, StateChange)>,
}

impl Transcript {
    /// The whole picture.
    pub fn to_svg(&self) -> String {
        let points = self.points();
        let lanes = self.lanes();
        let panels = self.panels(&points);
        let lanes_top = TOP + panels.len() as u64 * (PANEL + GAP);
        let height = lanes_top + (lanes.len() as u64 + 1) * LANE + 40;
        let mut svg = String::new();
        let _ = write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title\">\n\
             <title id=\"title\">A simulation: seed {}, {} requests</title>\n<style>{STYLE}</style>\n\
             <rect class=\"p\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"t\" x=\"16\" y=\"28\">{} requests in {} of virtual time</text>\n\
             <text class=\"s\" x=\"16\" y=\"46\">seed {}, {} requests through all proxies{}</text>\n",
            self.seed,
            self.summary.requests,
            self.summary.requests,
            seconds(self.ended_us),
            self.seed,
            self.summary.hops,
            self.verdict(),
        );
        for (at, panel) in panels.iter().enumerate() {
            self.draw_panel(&mut svg, TOP + at as u64 * (PANEL + GAP), panel);
        }
        self.draw_lanes(&mut svg, lanes_top, &lanes);
        svg.push_str("</svg>\n");
        svg
    }

    fn verdict(&self) -> String {
        let failed = self.expectations.iter().filter(|judged| !judged.holds).count();
        match (self.expectations.len(), failed) {
            (0, _) => String::new(),
            (all, 0) => format!(", all {all} expectations hold"),
            (all, failed) => format!(", {failed} of {all} expectations failed"),
        }
    }

    /// How long the picture is, in microseconds.
    fn length_us(&self) -> u64 {
        let of_intervals = self.intervals.len() as u64 * self.interval_us;
        let last_change = self.changes.last().map_or(0, |change| change.at_us);
        of_intervals.max(last_change).max(1)
    }

    fn x_of(&self, at_us: u64) -> u64 {
        let ahead = u128::from(at_us) * u128::from(PLOT) / u128::from(self.length_us());
        LEFT + u64::try_from(ahead).unwrap_or(PLOT).min(PLOT)
    }

    /// Intervals, put together where there are more than can be seen.
    fn points(&self) -> Vec<Interval> {
        let together = self.intervals.len().div_ceil(POINTS_MAX).max(1);
        let merge = |some: &[Interval]| {
            let mut sum = some.first().cloned().unwrap_or_default();
            for more in some.iter().skip(1) {
                sum.begun += more.begun;
                sum.ended += more.ended;
                for (sum, more) in sum.by_class.iter_mut().zip(more.by_class) {
                    *sum += more;
                }
                for (sum, more) in sum.by_service.iter_mut().zip(&more.by_service) {
                    *sum += more;
                }
                sum.active = sum.active.max(more.active);
                sum.p50_us = sum.p50_us.max(more.p50_us);
                sum.p99_us = sum.p99_us.max(more.p99_us);
                sum.max_us = sum.max_us.max(more.max_us);
            }
            // By the second.
            let width = u128::from(self.interval_us) * some.len() as u128;
            let rate = |count: u64| u64::try_from(u128::from(count) * 1_000_000 / width.max(1)).unwrap_or(0);
            (sum.begun, sum.ended) = (rate(sum.begun), rate(sum.ended));
            sum.by_service.iter_mut().for_each(|count| *count = rate(*count));
            sum
        };
        self.intervals.chunks(together).map(merge).collect()
    }

    fn draw_panel(&self, svg: &mut String, top: u64, panel: &Panel) {
        let bottom = top + PANEL;
        let highest = panel.lines.iter().flat_map(|line| &line.values).copied().max().unwrap_or(0);
        let highest = round_up(highest);
        let _ = writeln!(svg, "<text class=\"h\" x=\"16\" y=\"{}\">{}</text>", top + 10, panel.title);
        for part in 0..=2 {
            let y = bottom - PANEL * part / 2;
            let _ = writeln!(
                svg,
                "<line class=\"g\" x1=\"{LEFT}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>\
                 <text class=\"s\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                LEFT + PLOT,
                LEFT - 8,
                y + 4,
                (panel.words)(highest * part / 2),
            );
        }
        self.draw_times(svg, bottom + 16);
        let mut taken: Vec<u64> = Vec::new();
        for (line, class) in panel.lines.iter().zip(["a", "b", "c", "d"]) {
            let y_of =
                |value: u64| bottom - (u128::from(value) * u128::from(PANEL) / u128::from(highest)) as u64;
            let points = line.values.iter().enumerate().map(|(at, value)| {
                let at_us = self.length_of_points(line.values.len()) * at as u64;
                format!("{},{}", self.x_of(at_us), y_of(*value))
            });
            let points: Vec<String> = points.collect();
            let _ = writeln!(svg, "<polyline class=\"l {class}\" points=\"{}\"/>", points.join(" "));
            let mut y = line.values.last().map_or(bottom, |value| y_of(*value)) + 4;
            // Upwards from the bottom, downwards from elsewhere.
            let is_low = y > bottom - PANEL / 2;
            while taken.iter().any(|other| other.abs_diff(y) < LABEL) {
                y = if is_low { y - LABEL } else { y + LABEL };
            }
            taken.push(y);
            let _ = writeln!(
                svg,
                "<text class=\"f{class}\" x=\"{}\" y=\"{y}\">{}</text>",
                LEFT + PLOT + 6,
                escaped(&line.name)
            );
        }
    }

    fn length_of_points(&self, points: usize) -> u64 {
        let together = self.intervals.len().div_ceil(points.max(1)) as u64;
        self.interval_us * together
    }

    fn draw_times(&self, svg: &mut String, y: u64) {
        let length = self.length_us();
        for part in 0..=4 {
            let at_us = length * part / 4;
            let _ = writeln!(
                svg,
                "<text class=\"s\" x=\"{}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                self.x_of(at_us),
                seconds(at_us)
            );
        }
    }

    /// What changed its state, in the order of kinds and of names, with its changes.
    fn lanes(&self) -> Vec<Track<'_>> {
        let mut lanes: Vec<Track<'_>> = Vec::new();
        for change in &self.changes {
            let Some(state) = change.state else { continue };
            let (lane, subject) = (state.lane(), change.subject.as_str());
            match lanes.iter_mut().find(|track| track.lane == lane && track.subject == subject) {
                Some(track) => track.changes.push((change.at_us, state)),
                None => lanes.push(Track { lane, subject, changes: vec![(change.at_us, state)] }),
            }
        }
        lanes.sort_by(|a, b| (a.lane, a.subject).cmp(&(b.lane, b.subject)));
        lanes
    }

    fn draw_lanes(&self, svg: &mut String, top: u64, lanes: &[Track<'_>]) {
        let _ = writeln!(svg, "<text class=\"h\" x=\"16\" y=\"{top}\">changes of state</text>");
        if lanes.is_empty() {
            let _ = writeln!(svg, "<text class=\"s\" x=\"{LEFT}\" y=\"{top}\">none</text>");
        }
        for (at, Track { lane, subject, changes }) in lanes.iter().take(LANES_MAX).enumerate() {
            let y = top + 10 + at as u64 * LANE;
            let middle = y + LANE / 2 + 2;
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\">{}</text>\
                 <line class=\"g\" x1=\"{LEFT}\" y1=\"{middle}\" x2=\"{}\" y2=\"{middle}\"/>",
                LEFT - 8,
                middle + 4,
                (subject.chars().count() as u64 * 7).min(LEFT - 24),
                escaped(subject),
                LEFT + PLOT,
            );
            let ends = changes.iter().skip(1).map(|(at_us, _)| *at_us).chain([self.length_us()]);
            for ((at_us, state), end_us) in changes.iter().zip(ends) {
                if state.is_ordinary() {
                    continue;
                }
                // A blow is a moment, not a time.
                let end_us = if *state == StateChange::Reset { *at_us } else { end_us };
                let (x, end) = (self.x_of(*at_us), self.x_of(end_us));
                let width = (end - x).max(3);
                let class = if *state == StateChange::Different { "warn" } else { "bad" };
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{}\" width=\"{width}\" height=\"{}\" rx=\"2\"><title>{} {}: {} from {} to {}</title></rect>",
                    y + 4,
                    LANE - 4,
                    lane.kind(),
                    escaped(subject),
                    state.name(),
                    seconds(*at_us),
                    seconds(end_us),
                );
                if width > state.name().len() as u64 * 7 {
                    let _ = write!(
                        svg,
                        "<text class=\"on\" x=\"{}\" y=\"{}\">{}</text>",
                        x + 4,
                        middle + 4,
                        state.name()
                    );
                }
                svg.push('\n');
            }
        }
        if let Some(more) = lanes.len().checked_sub(LANES_MAX).filter(|more| *more > 0) {
            let y = top + 10 + (LANES_MAX as u64 + 1) * LANE;
            let _ = writeln!(svg, "<text class=\"s\" x=\"{LEFT}\" y=\"{y}\">and {more} more</text>");
        }
    }
}

impl Transcript {
    fn panels(&self, points: &[Interval]) -> Vec<Panel> {
        let line = |name, value: fn(&Interval) -> u64| Line {
            name: str::to_owned(name),
            values: points.iter().map(value).collect(),
        };
        // Hundredths of a percent.
        let failed: fn(&Interval) -> u64 = |interval| {
            let [ok, redirected, wrong, failed, none] = interval.by_class;
            (failed + none) * 10_000 / (ok + redirected + wrong + failed + none).max(1)
        };
        let mut panels = vec![
            Panel {
                title: "load",
                lines: vec![
                    line("begun", |interval| interval.begun),
                    line("ended", |interval| interval.ended),
                ],
                words: |value| format!("{value}/s"),
            },
            Panel {
                title: "under way",
                lines: vec![line("active", |interval| interval.active)],
                words: |value| value.to_string(),
            },
            Panel {
                title: "errors",
                lines: vec![line("5xx, none", failed)],
                words: |value| format!("{}.{:02}%", value / 100, value % 100),
            },
            Panel {
                title: "latency",
                lines: vec![
                    line("p50", |interval| interval.p50_us),
                    line("p99", |interval| interval.p99_us),
                    line("max", |interval| interval.max_us),
                ],
                words: |value| format!("{}.{}ms", value / 1_000, value % 1_000 / 100),
            },
        ];
        // Where only one service is there, the load says it already.
        let mut services: Vec<(u64, usize)> = (0..self.services.len())
            .map(|at| (points.iter().map(|point| point.by_service.get(at).copied().unwrap_or(0)).sum(), at))
            .collect();
        services.sort_by_key(|(sum, at)| (std::cmp::Reverse(*sum), *at));
        if services.len() > 1 {
            let line = |(_, at): &(u64, usize)| Line {
                name: self.services[*at].clone(),
                values: points.iter().map(|point| point.by_service.get(*at).copied().unwrap_or(0)).collect(),
            };
            let lines = services.iter().take(LINES_MAX).map(line).collect();
            panels.insert(1, Panel { title: "reached", lines, words: |value| format!("{value}/s") });
        }
        panels
    }
}

/// The next of 10, 20, 50, 100 and so on.
fn round_up(value: u64) -> u64 {
    let mut step = 10_u64;
    loop {
        for times in [1, 2, 5] {
            if step.saturating_mul(times) >= value {
                return step.saturating_mul(times);
            }
        }
        step = step.saturating_mul(10);
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:01}s", us / 1_000_000, us % 1_000_000 / 100_000)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // No document of XML may hold them.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
