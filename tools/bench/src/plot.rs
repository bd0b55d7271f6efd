//! The picture: how far each comparison is from its goal, the frame times, the memory over the
//! soak.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Result;
use crate::frames::CURVE;
use crate::report::Report;
use crate::results::{Comparison, Goal};
use crate::worker::Samples;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (1100, 900);
const FONT: (&str, u32) = ("sans-serif", 13);
const TITLE: (&str, u32) = ("sans-serif", 16);
const MET: RGBColor = RGBColor(0x1f, 0x5f, 0xbf);
const MISSED: RGBColor = RGBColor(0xb3, 0x20, 0x2c);
const IDLE: RGBColor = RGBColor(0x7f, 0x87, 0x90);

pub(crate) fn draw(file: &Path, report: &Report) -> Result<()> {
    let page = SVGBackend::new(file, SIZE).into_drawing_area();
    page.fill(&WHITE)?;
    let (upper, lower) = page.split_vertically(560);
    let (left, right) = lower.split_horizontally(550);
    goals(&upper, &report.comparisons)?;
    // What could not be measured is not drawn.
    if !report.frames.is_empty() {
        frames(&left, &report.frames)?;
    }
    if !report.soak.is_empty() {
        soak(&right, &report.soak)?;
    }
    page.present()?;
    Ok(())
}

/// Each figure as a part of its goal, on a logarithmic axis: left of the line is met.
fn goals(area: &Area, comparisons: &[Comparison]) -> Result<()> {
    let bars: Vec<_> = comparisons.iter().filter_map(|c| Some((c, part(c)?))).rev().collect();
    let least = bars.iter().map(|(_, part)| *part).fold(0.1, f64::min) * 0.7;
    let most = bars.iter().map(|(_, part)| *part).fold(1.0, f64::max) * 1.6;
    let mut chart = ChartBuilder::on(area)
        .caption("Figures as parts of their goals: up to 1 is met", TITLE)
        .margin(10)
        .margin_right(30)
        .y_label_area_size(480)
        .x_label_area_size(30)
        .build_cartesian_2d(
            (least..most).log_scale(),
            (0..bars.len().saturating_sub(1) as u32).into_segmented(),
        )?;
    let name = |row: &SegmentValue<u32>| match row {
        SegmentValue::CenterOf(row) => bars.get(*row as usize).map_or(String::new(), |(c, _)| label(c)),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|x| format!("{x}"))
        .label_style(FONT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(bars.iter().enumerate().map(|(row, (comparison, part))| {
        let row = row as u32;
        let ends = [(least, SegmentValue::Exact(row)), (*part, SegmentValue::Exact(row + 1))];
        let mut bar = Rectangle::new(ends, if comparison.met { MET } else { MISSED }.filled());
        bar.set_margin(4, 4, 0, 0);
        bar
    }))?;
    let line = [(1.0, SegmentValue::Exact(0)), (1.0, SegmentValue::Exact(bars.len() as u32))];
    chart.draw_series([PathElement::new(line, BLACK.stroke_width(2))])?;
    Ok(())
}

/// None if there is no goal, or no figure.
fn part(comparison: &Comparison) -> Option<f64> {
    let figure = comparison.ratio.or(comparison.ours)?;
    let goal = comparison.goal.value()?;
    Some(if let Goal::AtLeast(_) = comparison.goal { goal / figure } else { figure / goal })
}

fn label(comparison: &Comparison) -> String {
    let peer = &comparison.peer_name;
    let against = if peer.is_empty() { String::new() } else { format!(" / {peer}") };
    format!("{}{against}", comparison.name)
}

fn frames(area: &Area, samples: &Samples) -> Result<()> {
    let curves = ["curve without", "curve with"].map(|name| &samples[name]);
    // The slowest of all may be far out, and is of the system's making: the axis ends at twice the
    // p99.9.
    let p999 = CURVE.iter().position(|&p| p == 0.999).expect("it is among them");
    let most = curves.iter().map(|curve| curve[p999]).fold(0.0, f64::max) * 2.0;
    let mut chart = ChartBuilder::on(area)
        .caption("Frame times of a reader (us)", TITLE)
        .margin(10)
        .margin_right(20)
        .y_label_area_size(50)
        .x_label_area_size(30)
        .build_cartesian_2d((0..CURVE.len() as u32 - 1).into_segmented(), 0.0..most)?;
    let percentile = |at: &SegmentValue<u32>| match at {
        SegmentValue::CenterOf(at) => {
            CURVE.get(*at as usize).map_or(String::new(), |p| format!("p{}", p * 100.0))
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .x_label_formatter(&percentile)
        .label_style(FONT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (curve, (name, colour)) in curves.into_iter().zip([("no reloads", IDLE), ("1,000 reloads/s", MET)]) {
        let points =
            curve.iter().enumerate().map(|(at, &time)| (SegmentValue::CenterOf(at as u32), time.min(most)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    legend(&mut chart)
}

fn soak(area: &Area, samples: &Samples) -> Result<()> {
    let (reloads, resident, mappings) = (&samples["reloads"], &samples["resident"], &samples["mappings"]);
    let end = reloads.iter().copied().fold(0.0, f64::max);
    let parts = |values: &[f64]| values.iter().map(|value| value / values[0]).collect::<Vec<_>>();
    let (resident, mappings) = (parts(resident), parts(mappings));
    let all = || resident.iter().chain(&mappings).copied();
    let range: Range<f64> = all().fold(0.98, f64::min) - 0.01..all().fold(1.03, f64::max) + 0.01;
    let mut chart = ChartBuilder::on(area)
        .caption("Memory over reloads, as a part of that after 1,000", TITLE)
        .margin(10)
        .margin_right(30)
        .y_label_area_size(50)
        .x_label_area_size(30)
        .build_cartesian_2d(0.0..end, range)?;
    chart
        .configure_mesh()
        .x_labels(6)
        .x_label_formatter(&|x| format!("{x}"))
        .label_style(FONT)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (values, name, colour) in [(resident, "RSS", MET), (mappings, "mappings", IDLE)] {
        let points = reloads.iter().copied().zip(values);
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    legend(&mut chart)
}

fn legend<'a, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
) -> Result<()> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(FONT)
        .draw()
        .map_err(|error| error.to_string().into())
}
