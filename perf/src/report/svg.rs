//! Drawing two kinds of plots as SVG: stacked bars, and lines.

use std::fmt::Write;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 70.0;
const ROW: f64 = 24.0;
const COLORS: [&str; 10] = [
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e",
    "#9498a0",
];

/// A row of a bar plot.
pub(super) struct Bar {
    pub(super) label: String,
    /// As many as there are parts.
    pub(super) values: Vec<f64>,
}

/// A line of a line plot.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn color(place: usize) -> &'static str {
    COLORS[place % COLORS.len()]
}

/// Round numbers from 0 up to `max` at least, four to ten of them.
fn ticks(max: f64) -> Vec<f64> {
    let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
    let magnitude = 10f64.powf(max.log10().floor());
    let step = [0.1, 0.2, 0.25, 0.5, 1.0]
        .iter()
        .map(|part| part * magnitude)
        .find(|step| max / step <= 8.0)
        .unwrap_or(magnitude);
    let mut all = vec![0.0];
    let mut next = step;
    while all.last().is_some_and(|last| *last < max) {
        all.push(next);
        next += step;
    }
    all
}

fn number(value: f64) -> String {
    let text = if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

struct Canvas {
    body: String,
    height: f64,
}

impl Canvas {
    fn new(title: &str, unit: &str, height: f64) -> Self {
        let mut canvas = Self {
            body: String::new(),
            height,
        };
        canvas.text(10.0, 22.0, "start", 16.0, title);
        canvas.text(WIDTH - 10.0, 22.0, "end", 12.0, unit);
        canvas
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: f64, text: &str) {
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{}</text>",
            escape(text)
        );
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str, hint: &str) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"><title>{}</title></rect>",
            escape(hint)
        );
    }

    fn rule(&mut self, from: (f64, f64), to: (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn legend<'a>(&mut self, labels: impl Iterator<Item = &'a str>) {
        let mut x = 10.0;
        let mut y = 36.0;
        for (place, label) in labels.enumerate() {
            let width = 24.0 + 6.6 * label.chars().count() as f64;
            if x + width > WIDTH {
                (x, y) = (10.0, y + 16.0);
            }
            self.rect(x, y, 10.0, 10.0, color(place), label);
            self.text(x + 14.0, y + 9.0, "start", 11.0, label);
            x += width;
        }
    }

    fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {h}\" width=\"{WIDTH}\" height=\"{h}\" \
             font-family=\"sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{}</svg>\n",
            self.body,
            h = self.height
        )
    }
}

/// Horizontal bars, each made of `parts`, with its sum at its end.
pub(super) fn bars(title: &str, unit: &str, parts: &[String], bars: &[Bar]) -> String {
    let height = TOP + bars.len() as f64 * ROW + 40.0;
    let mut canvas = Canvas::new(title, unit, height);
    if parts.len() > 1 {
        canvas.legend(parts.iter().map(String::as_str));
    }
    let sum = |bar: &Bar| bar.values.iter().sum::<f64>();
    let marks = ticks(bars.iter().map(sum).fold(0.0, f64::max));
    let top = marks.last().copied().unwrap_or(1.0);
    let x = |value: f64| LEFT + value / top * (WIDTH - LEFT - RIGHT);
    let bottom = TOP + bars.len() as f64 * ROW;
    for mark in &marks {
        canvas.rule((x(*mark), TOP - 4.0), (x(*mark), bottom));
        canvas.text(x(*mark), bottom + 16.0, "middle", 11.0, &number(*mark));
    }
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + row as f64 * ROW;
        canvas.text(LEFT - 6.0, y + 14.0, "end", 12.0, &bar.label);
        let mut from = 0.0;
        for (place, (value, part)) in bar.values.iter().zip(parts).enumerate() {
            let hint = format!("{part}: {}", number(*value));
            canvas.rect(
                x(from),
                y,
                x(from + value) - x(from),
                ROW - 6.0,
                color(place),
                &hint,
            );
            from += value;
        }
        canvas.text(x(from) + 4.0, y + 14.0, "start", 11.0, &number(from));
    }
    canvas.finish()
}

/// Lines over a common scale. `x_marks` are the places to be named on the x axis, between the smallest and the largest x.
pub(super) fn lines(
    title: &str,
    unit: &str,
    x_unit: &str,
    x_marks: &[(f64, String)],
    lines: &[Line],
) -> String {
    let height = 480.0;
    let (left, bottom) = (70.0, height - 46.0);
    let mut canvas = Canvas::new(title, unit, height);
    canvas.legend(lines.iter().map(|l| l.label.as_str()));
    let all = || lines.iter().flat_map(|l| l.points.iter());
    let x_min = all().map(|p| p.0).fold(f64::INFINITY, f64::min).min(1e12);
    let x_max = all().map(|p| p.0).fold(0.0, f64::max).max(x_min + 1e-9);
    let marks = ticks(all().map(|p| p.1).fold(0.0, f64::max));
    let y_max = marks.last().copied().unwrap_or(1.0);
    let rows = 1.0
        + (lines
            .iter()
            .map(|l| 24.0 + 6.6 * l.label.len() as f64)
            .sum::<f64>()
            / WIDTH)
            .floor();
    let top = TOP.max(44.0 + 16.0 * rows);
    let x = |value: f64| left + (value - x_min) / (x_max - x_min) * (WIDTH - left - 20.0);
    let y = |value: f64| bottom - value / y_max * (bottom - top);
    for mark in &marks {
        canvas.rule((left, y(*mark)), (WIDTH - 20.0, y(*mark)));
        canvas.text(left - 6.0, y(*mark) + 4.0, "end", 11.0, &number(*mark));
    }
    for (place, name) in x_marks
        .iter()
        .filter(|(place, _)| (x_min..=x_max).contains(place))
    {
        canvas.text(x(*place), bottom + 16.0, "middle", 11.0, name);
    }
    canvas.text((left + WIDTH) / 2.0, height - 10.0, "middle", 12.0, x_unit);
    for (place, line) in lines.iter().enumerate() {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1)))
            .collect();
        let _ = writeln!(
            canvas.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"><title>{}</title></polyline>",
            points.join(" "),
            color(place),
            escape(&line.label)
        );
    }
    canvas.finish()
}

/// Round places on a linear x axis.
pub(super) fn round_marks(max: f64) -> Vec<(f64, String)> {
    ticks(max).into_iter().map(|mark| (mark, number(mark))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(0.0).first(), Some(&0.0));
        for max in [0.003, 0.97, 1.0, 7.0, 33.0, 1979.0] {
            let all = ticks(max);
            assert!((4..=11).contains(&all.len()), "{max}: {all:?}");
            assert!(
                all.last().unwrap() >= &max && all[all.len() - 2] < max,
                "{max}: {all:?}"
            );
        }
    }
}
