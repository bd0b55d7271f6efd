//! The picture: every frame's time over the run, and every publication, as SVG.

use std::fmt::Write;

use crate::live::Run;
use crate::report::Results;
use crate::timeline::{Phase, TURN};

// The whole picture, and the plot inside it. A page shows it some 800 wide: what is to be read has
// SIZE.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 500.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 976.0;
const TOP: f64 = 104.0;
const BOTTOM: f64 = 380.0;
/// The strip under the plot where publications are marked.
const MARKS: f64 = 388.0;
const MARKS_END: f64 = 418.0;
const SIZE: u32 = 17;
/// Where the title is, and the lines of the legend.
const TITLE: f64 = 26.0;
const LEGEND: [f64; 2] = [56.0, 82.0];
/// How long the marks at the axes are.
const TICK: f64 = 6.0;

const INK: &str = "#333333";
const FAINT: &str = "#dddddd";
const SHADE: &str = "#eef3fb";
const IDLE: &str = "#7f8790";
const LIVE: &str = "#1f5fbf";
const SINGLE: &str = "#e08a1e";
const SEVERAL: &str = "#b3202c";

/// Maps seconds and milliseconds to the page.
struct Axes {
    seconds: f64,
    ms: f64,
}

impl Axes {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * seconds / self.seconds
    }

    fn y(&self, ms: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (ms / self.ms).min(1.0)
    }
}

/// Draws the run.
pub(crate) fn svg(run: &Run, results: &Results) -> String {
    let seconds = f64::from(2 * results.seconds);
    // A few frames far out must not flatten all the others: they are drawn as triangles at the top
    // edge.
    let usual = results.frame_ms.p99.max(results.frame_ms_idle.p99);
    let step = nice(usual * 1.6 / 5.0);
    let axes = Axes { seconds, ms: step * (usual * 1.6 / step).ceil() };

    let mut svg = String::new();
    open(&mut svg, results);
    background(&mut svg, &axes, step);
    frames(&mut svg, &axes, run);
    percentiles(&mut svg, &axes, results);
    publications(&mut svg, &axes, run);
    legend(&mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// Adds one element and a line break. Writing to a string cannot fail.
macro_rules! draw {
    ($svg:expr, $($arg:tt)*) => { writeln!($svg, $($arg)*).expect("a string takes everything") };
}

fn open(svg: &mut String, results: &Results) {
    draw!(svg, r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}""#);
    draw!(svg, r#"  width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif">"#);
    draw!(svg, r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#);
    let arch = std::env::consts::ARCH;
    let title = format!(
        "A city of {} agents on {} threads ({arch}), whose modules are replaced {} times",
        grouped(results.agents),
        results.threads,
        results.reloads
    );
    text(svg, (LEFT, TITLE), SIZE, "start", &title);
}

fn background(svg: &mut String, axes: &Axes, step: f64) {
    let turn = TURN.as_secs_f64();
    for index in (1..(axes.seconds / turn) as u32).step_by(2) {
        let x = axes.x(turn * f64::from(index));
        let (width, height) = (axes.x(turn) - LEFT, MARKS_END - TOP);
        draw!(svg, r#"<rect x="{x:.1}" y="{TOP}" width="{width:.1}" height="{height}" fill="{SHADE}"/>"#);
    }
    for line in 0..=(axes.ms / step).round() as u32 {
        let ms = step * f64::from(line);
        let y = axes.y(ms);
        draw!(svg, r#"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="{FAINT}"/>"#);
        draw!(svg, r#"<path d="M{LEFT} {y:.1}h-{TICK}" stroke="{INK}"/>"#);
        let digits = usize::from(step < 1.0);
        text(svg, (LEFT - TICK - 4.0, y + 6.0), SIZE, "end", &format!("{ms:.digits$}"));
    }
    let every = nice(axes.seconds / 10.0).max(1.0);
    for tick in 0..=(axes.seconds / every) as u32 {
        let second = f64::from(tick) * every;
        let x = axes.x(second);
        draw!(svg, r#"<path d="M{x:.1} {MARKS_END}v{TICK}" stroke="{INK}"/>"#);
        text(svg, (x, MARKS_END + TICK + 18.0), SIZE, "middle", &second.to_string());
    }
    let (middle, height) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    text(svg, (middle, MARKS_END + TICK + 44.0), SIZE, "middle", "time since the start, in seconds");
    draw!(svg, r#"<g transform="translate(26 {height}) rotate(-90)">"#);
    text(svg, (0.0, 0.0), SIZE, "middle", "time of a frame, in milliseconds");
    draw!(svg, "</g>");
    draw!(
        svg,
        r#"<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}M{LEFT} {MARKS_END}H{RIGHT}" fill="none" stroke="{INK}"/>"#
    );
}

fn frames(svg: &mut String, axes: &Axes, run: &Run) {
    for (phase, colour) in [(Phase::Idle, IDLE), (Phase::Live, LIVE)] {
        let mut dots = String::new();
        let mut beyond = String::new();
        for frame in run.frames.iter().filter(|frame| frame.phase == phase) {
            let ms = frame.work.as_secs_f64() * 1e3;
            let (x, y) = (axes.x(frame.at.as_secs_f64()), axes.y(ms));
            if ms <= axes.ms {
                // A line of no length with a round cap: a dot.
                write!(dots, "M{x:.1} {y:.1}h0").expect("a string takes everything");
            } else {
                write!(beyond, "M{x:.1} {TOP}l3.5 7h-7z").expect("a string takes everything");
            }
        }
        let style = r#"stroke-width="3" stroke-linecap="round" stroke-opacity="0.7""#;
        draw!(svg, r#"<path d="{dots}" stroke="{colour}" {style}/>"#);
        draw!(svg, r#"<path d="{beyond}" fill="{colour}"/>"#);
    }
}

fn percentiles(svg: &mut String, axes: &Axes, results: &Results) {
    for (ms, colour, dashes) in
        [(results.frame_ms_idle.p99, IDLE, "6 4"), (results.frame_ms.p99, LIVE, "2 3")]
    {
        let y = axes.y(ms);
        draw!(
            svg,
            r#"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>"#
        );
    }
}

fn publications(svg: &mut String, axes: &Axes, run: &Run) {
    let middle = (MARKS + MARKS_END) / 2.0;
    for (several, colour, top, width) in [(false, SINGLE, middle, 1.2), (true, SEVERAL, MARKS, 2.0)] {
        let mut path = String::new();
        for reload in run.log.reloads.iter().filter(|reload| (reload.modules > 1) == several) {
            let x = axes.x(reload.at.as_secs_f64());
            write!(path, "M{x:.1} {top}V{MARKS_END}").expect("a string takes everything");
        }
        draw!(svg, r#"<path d="{path}" stroke="{colour}" stroke-width="{width}"/>"#);
    }
}

fn legend(svg: &mut String) {
    let mut x = LEFT;
    let mut line = 0;
    let mut entry = |symbol: &str, label: &str| {
        // No font's measures are at hand; this is about what Helvetica takes.
        let width = 30.0 + 0.5 * f64::from(SIZE) * label.len() as f64;
        if x + width > RIGHT {
            (x, line) = (LEFT, line + 1);
        }
        let y = LEGEND[line];
        draw!(svg, r#"<g transform="translate({x:.1} {})">{symbol}</g>"#, y - 6.0);
        text(svg, (x + 26.0, y), SIZE, "start", label);
        x += width + 22.0;
    };
    let dot = |colour| format!(r#"<circle cx="9" r="4" fill="{colour}"/>"#);
    let dashed = |colour, dashes| {
        format!(r#"<path d="M0 0h18" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>"#)
    };
    let bar =
        |colour, top, width| format!(r#"<path d="M9 {top}V7" stroke="{colour}" stroke-width="{width}"/>"#);

    entry(&dot(IDLE), "frame, no reloads");
    entry(&dashed(IDLE, "6 4"), "99 % are faster");
    entry(&dot(LIVE), "frame, reloads beside it");
    entry(&dashed(LIVE, "2 3"), "99 % are faster");
    entry(&bar(SINGLE, -5, 1.5), "one module replaced");
    entry(&bar(SEVERAL, -9, 2.5), "several replaced at once");
    entry(
        &format!(r#"<rect y="-8" width="18" height="15" fill="{SHADE}" stroke="{FAINT}"/>"#),
        "reloads go on",
    );
    entry(&format!(r#"<path d="M9 -4l4 8h-8z" fill="{LIVE}"/>"#), "above the scale");
}

fn text(svg: &mut String, (x, y): (f64, f64), size: u32, anchor: &str, text: &str) {
    let place = format!(r#"x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}""#);
    draw!(svg, r#"<text {place} fill="{INK}">{text}</text>"#);
}

/// A number with a comma before every third digit.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// The next round number, of 1, 2 or 5 times a power of ten, that is not below `value`.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|&n| n >= value).unwrap_or(power)
}
