//! Plots as SVG, to be put into a page that has the colours.

use std::fmt::Write as _;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
    /// For percentiles: as far from the one before as it is rarer. 90, 99, 99.9 are equally far apart.
    Rarity,
}

/// A line with its name.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Which colour.
    pub(super) colour: usize,
    pub(super) dashed: bool,
}

/// A plot.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: (&'static str, Scale),
    pub(super) y: (&'static str, Scale),
    pub(super) series: Vec<Series>,
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(1e-3).log10(),
            Self::Rarity => -(1.0 - value.min(99.9995) / 100.0).log10(),
        }
    }

    /// Places for lines, with what to write beside them.
    fn ticks(self, low: f64, high: f64) -> Vec<(f64, String)> {
        match self {
            Self::Linear => linear_ticks(low, high),
            Self::Log => (-3..7)
                .map(f64::from)
                .filter(|power| *power >= low - 1e-9 && *power <= high + 1e-9)
                .map(|power| (power, label(10_f64.powf(power))))
                .collect(),
            Self::Rarity => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
                .into_iter()
                .map(|percentile| (self.place(percentile), format!("{percentile}%")))
                .filter(|(place, _)| *place <= high + 1e-9)
                .collect(),
        }
    }
}

fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = ((high - low) / 5.0).max(1e-9);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let first = (low / step).ceil();
    (0..12)
        .map(|n| (first + f64::from(n)) * step)
        .take_while(|at| *at <= high + 1e-9)
        .map(|at| (at, label(at)))
        .collect()
}

/// A number in few characters.
fn label(value: f64) -> String {
    match value.abs() {
        large if large >= 1e6 => format!("{}M", trim(value / 1e6)),
        large if large >= 1e4 => format!("{}k", trim(value / 1e3)),
        _ => trim(value),
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Plot {
    /// Draws it; nothing if there is nothing to draw.
    pub(super) fn svg(&self) -> Option<String> {
        let (x, y) = (self.x.1, self.y.1);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold(None, |range: Option<(f64, f64)>, value| {
                Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
            })
        };
        let (x_low, x_high) = range(&mut points().map(|(at, _)| x.place(*at)))?;
        let (y_low, y_high) = range(&mut points().map(|(_, value)| y.place(*value)))?;
        let (y_low, y_high) = match y {
            Scale::Log => (y_low.floor(), y_high.ceil().max(y_low.floor() + 1.0)),
            _ => (0.0, (y_high * 1.08).max(1e-6)),
        };
        let x_span = (x_high - x_low).max(1e-9);
        let across = |at: f64| LEFT + (at - x_low) / x_span * (WIDTH - LEFT - RIGHT);
        let down = |value: f64| HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}"><title>{0}</title>"#,
            super::text::escape(&self.title)
        );
        for (at, label) in y.ticks(y_low, y_high) {
            let at = down(at);
            // Writing to a string does not fail, here and below.
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}"/><text class="tick end" x="{}" y="{:.1}">{label}</text>"#,
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (at, label) in x.ticks(x_low, x_high) {
            let at = across(at);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{}"/><text class="tick middle" x="{at:.1}" y="{}">{label}</text>"#,
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0
            );
        }
        let _ = write!(
            svg,
            r#"<text class="axis middle" x="{:.1}" y="{}">{}</text><text class="axis middle" transform="translate(13 {:.1}) rotate(-90)">{}</text>"#,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 5.0,
            self.x.0,
            f64::midpoint(TOP, HEIGHT - BOTTOM),
            self.y.0
        );
        for series in &self.series {
            draw(&mut svg, series, |(at, value)| (across(x.place(at)), down(y.place(value))));
        }
        svg.push_str("</svg>");
        Some(svg)
    }
}

fn draw(svg: &mut String, series: &Series, place: impl Fn((f64, f64)) -> (f64, f64)) {
    let path = series.points.iter().map(|point| place(*point)).fold(String::new(), |mut path, (x, y)| {
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        path
    });
    let dashed = if series.dashed { " dashed" } else { "" };
    let _ = write!(svg, r#"<path class="line c{}{dashed}" d="{path}"/>"#, series.colour % 8);
    // Something to point at.
    if series.points.len() <= 400 {
        for point in &series.points {
            let (x, y) = place(*point);
            let _ = write!(
                svg,
                r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="5"><title>{}: {} at {}</title></circle>"#,
                super::text::escape(&series.name),
                label(point.1),
                label(point.0)
            );
        }
    }
}
