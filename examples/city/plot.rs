//! The picture: every frame's time over the run, and every publication, as SVG.

use std::fmt::Write;

use crate::live::Run;
use crate::report::Results;
use crate::timeline::{Phase, TURN};

// The whole picture, and the plot inside it.
const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 1180.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 300.0;
/// The strip under the plot where publications are marked.
const MARKS: f64 = 308.0;
const MARKS_END: f64 = 332.0;

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
    // A few frames far out must not flatten all the others: they are drawn as triangles at the top edge.
    let usual = results.frame_ms.p99.max(results.frame_ms_idle.p99);
    let step = nice(usual * 1.6 / 5.0);
    let axes = Axes { seconds, ms: step * (usual * 1.6 / step).ceil() };

    let mut svg = String::new();
    open(&mut svg, results);
    background(&mut svg, &axes, step);
    frames(&mut svg, &axes, run);
    percentiles(&mut svg, &axes, results);
    publications(&mut svg, &axes, run);
    legend(&mut svg, results);
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
        "Frame time of a city of {} agents on {} threads ({arch}), while its modules are replaced {} times",
        grouped(results.agents),
        results.threads,
        results.reloads
    );
    text(svg, (LEFT, 24.0), 16, "start", &title);
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
        let digits = usize::from(step < 1.0);
        text(svg, (LEFT - 8.0, y + 4.0), 12, "end", &format!("{ms:.digits$}"));
    }
    let every = nice(axes.seconds / 20.0).max(1.0);
    for tick in 0..=(axes.seconds / every) as u32 {
        let second = f64::from(tick) * every;
        text(svg, (axes.x(second), MARKS_END + 16.0), 12, "middle", &second.to_string());
    }
    let (middle, height) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
    text(svg, (middle, MARKS_END + 34.0), 12, "middle", "time (s)");
    draw!(svg, r#"<g transform="translate(20 {height}) rotate(-90)">"#);
    text(svg, (0.0, 0.0), 12, "middle", "frame time (ms)");
    draw!(svg, "</g>");
    draw!(svg, r#"<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="{INK}"/>"#);
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
            r#"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"/>"#
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

fn legend(svg: &mut String, results: &Results) {
    let mut x = LEFT;
    let mut entry = |symbol: &str, label: &str| {
        draw!(svg, r#"<g transform="translate({x} 46)">{symbol}</g>"#);
        text(svg, (x + 24.0, 50.0), 12, "start", label);
        // No font's measures are at hand; this is about what Helvetica takes.
        x += 44.0 + 6.1 * label.len() as f64;
    };
    let dot = |colour| format!(r#"<circle cx="9" r="3" fill="{colour}"/>"#);
    let line = |colour, dashes| {
        format!(r#"<path d="M0 0h18" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"/>"#)
    };
    let bar =
        |colour, top, width| format!(r#"<path d="M9 {top}V7" stroke="{colour}" stroke-width="{width}"/>"#);
    let shade = format!(r#"<rect y="-7" width="18" height="14" fill="{SHADE}" stroke="{FAINT}"/>"#);

    entry(&dot(IDLE), "frame, idle");
    entry(&dot(LIVE), "frame, live");
    entry(&line(IDLE, "6 4"), &format!("idle p99 {:.2} ms", results.frame_ms_idle.p99));
    entry(&line(LIVE, "2 3"), &format!("live p99 {:.2} ms", results.frame_ms.p99));
    entry(&shade, "live: with reloads");
    entry(&bar(SINGLE, -5, 1.2), "one module published");
    entry(&bar(SEVERAL, -9, 2.0), "several in one publication");
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
