//! A line chart as SVG, with a legend and a table of its points.
//!
//! A plot is `{"title", "x", "y", "log_x", "log_y", "series": [{"name", "points": [[x, y], ...]}], "marks": [{"x", "name"}]}`: `x` and `y` say
//! what the axes count, in which unit; `log_x`, `log_y` and `marks` (vertical lines) may be left out. A point without a number in both
//! places, or without a positive one where the scale is logarithmic, is left out, and the line is broken there. Series differ in colour
//! (of Okabe and Ito's palette, which the colour-blind tell apart), in the form of their points, and in how their line is dashed.

use maud::{Markup, html};
use serde_json::Value;

use super::page::number;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 326.0;
/// Ticks of an axis, about.
const TICKS: f64 = 6.0;
/// Darkened where the palette's own would be too faint on white.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#007a5a", "#a8558a", "#000000", "#8a6d00"];
const DASHES: [&str; 6] = ["none", "8 4", "2 3", "10 3 2 3", "4 2", "12 4"];

struct Series<'a> {
    name: &'a str,
    /// None where the line is broken.
    points: Vec<Option<(f64, f64)>>,
}

/// What maps numbers to places between two ends.
struct Axis {
    log: bool,
    low: f64,
    high: f64,
    /// Where the lowest and the highest are drawn.
    ends: (f64, f64),
    ticks: Vec<f64>,
}

/// The chart of a plot, with its title and legend above it and its table below. `id` is the document's for no other.
pub fn draw(plot: &Value, id: &str) -> Markup {
    let text = |name: &str| plot[name].as_str().unwrap_or_default();
    let (log_x, log_y) = (plot["log_x"] == true, plot["log_y"] == true);
    let series: Vec<_> =
        plot["series"].as_array().into_iter().flatten().map(|one| Series::read(one, log_x, log_y)).collect();
    let points = || series.iter().flat_map(|one| one.points.iter().flatten());
    let x = Axis::of(points().map(|point| point.0), log_x, (LEFT, RIGHT));
    let y = Axis::of(points().map(|point| point.1), log_y, (BOTTOM, TOP));
    let (Some(x), Some(y)) = (x, y) else {
        return html! { p { (text("title")) ": there is no point to draw." } };
    };
    let (title, about) = (format!("{id}-title"), format!("{id}-about"));
    html! {
        figure {
            figcaption {
                strong { (text("title")) }
                ul.legend {
                    @for (n, one) in series.iter().enumerate() {
                        li {
                            svg width="44" height="14" viewBox="0 0 44 14" aria-hidden="true" {
                                line x1="1" y1="7" x2="43" y2="7" stroke=(COLOURS[n % 6]) stroke-width="2.5"
                                    stroke-dasharray=(DASHES[n % 6]) {}
                                (dot(n, 22.0, 7.0))
                            }
                            " " (one.name)
                        }
                    }
                }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby=(format!("{title} {about}")) {
                title id=(title) { (text("title")) }
                desc id=(about) { (text("y")) " over " (text("x")) "; the points are in the table below." }
                (axes(&x, &y, text("x"), text("y")))
                (marks(plot, &x))
                @for (n, one) in series.iter().enumerate() { (line(one, n, &x, &y)) }
            }
            (table(&series, text("x"), text("y")))
        }
    }
}

impl<'a> Series<'a> {
    fn read(one: &'a Value, log_x: bool, log_y: bool) -> Self {
        let fits = |value: f64, log: bool| value.is_finite() && (!log || value > 0.0);
        let point = |point: &Value| {
            let (x, y) = (point[0].as_f64()?, point[1].as_f64()?);
            (fits(x, log_x) && fits(y, log_y)).then_some((x, y))
        };
        let points = one["points"].as_array().into_iter().flatten().map(point).collect();
        Self { name: one["name"].as_str().unwrap_or_default(), points }
    }
}

impl Axis {
    /// For these numbers; none if there are none. A linear axis begins at 0 unless something is below it.
    fn of(numbers: impl Iterator<Item = f64>, log: bool, ends: (f64, f64)) -> Option<Self> {
        let (least, most) =
            numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), n| (a.min(n), b.max(n)));
        if least > most {
            return None;
        }
        let ticks = if log { log_ticks(least, most) } else { linear_ticks(least.min(0.0), most) };
        Some(Self { log, low: *ticks.first()?, high: *ticks.last()?, ends, ticks })
    }

    fn place(&self, number: f64) -> f64 {
        let scale = |n: f64| if self.log { n.log10() } else { n };
        let share = (scale(number) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.ends.0 + share * (self.ends.1 - self.ends.0)
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, the first at or below `least`, the last at or above `most`.
fn linear_ticks(least: f64, most: f64) -> Vec<f64> {
    let wide = if most > least { most - least } else { 1.0 };
    let power = 10_f64.powf((wide / TICKS).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| wide / step <= TICKS).unwrap_or(steps[3]);
    let (first, last) = ((least / step).floor(), (most / step).ceil().max((least / step).floor() + 1.0));
    (0..=(last - first) as u32).map(|n| (first + f64::from(n)) * step).collect()
}

/// Powers of ten, with 2 and 5 times them while these are few; the same of the ends as for [`linear_ticks`].
fn log_ticks(least: f64, most: f64) -> Vec<f64> {
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    let fine: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let all = (first..=last + 1).flat_map(|power| fine.iter().map(move |n| n * 10_f64.powi(power)));
    let all: Vec<f64> = all.collect();
    // Rounding must leave no number outside.
    let begin = all.iter().rposition(|tick| *tick <= least * 1.000_001).unwrap_or(0);
    let end = all.iter().position(|tick| *tick >= most * 0.999_999).unwrap_or(all.len() - 1);
    all[begin..=end.max(begin + 1)].to_vec()
}

fn axes(x: &Axis, y: &Axis, x_name: &str, y_name: &str) -> Markup {
    html! {
        g.grid {
            @for tick in &y.ticks {
                line x1=(LEFT) x2=(RIGHT) y1=(at(y.place(*tick))) y2=(at(y.place(*tick))) {}
            }
            @for tick in &x.ticks {
                line x1=(at(x.place(*tick))) x2=(at(x.place(*tick))) y1=(BOTTOM) y2=(BOTTOM + 5.0) {}
            }
        }
        g.axis {
            line x1=(LEFT) x2=(RIGHT) y1=(BOTTOM) y2=(BOTTOM) {}
            line x1=(LEFT) x2=(LEFT) y1=(TOP) y2=(BOTTOM) {}
        }
        @for tick in &y.ticks {
            text x=(LEFT - 8.0) y=(at(y.place(*tick) + 4.5)) text-anchor="end" { (number(*tick)) }
        }
        @for tick in &x.ticks {
            text x=(at(x.place(*tick))) y=(BOTTOM + 21.0) text-anchor="middle" { (number(*tick)) }
        }
        text x="4" y="16" { (y_name) @if y.log { " (logarithmic)" } }
        text x=(at(f64::midpoint(LEFT, RIGHT))) y=(HEIGHT - 8.0) text-anchor="middle" {
            (x_name) @if x.log { " (logarithmic)" }
        }
    }
}

fn marks(plot: &Value, x: &Axis) -> Markup {
    let inside = |at: &f64| (x.low..=x.high).contains(at);
    html! {
        @for mark in plot["marks"].as_array().into_iter().flatten() {
            @if let Some(place) = mark["x"].as_f64().filter(inside).map(|at| x.place(at)) {
                line.mark x1=(at(place)) x2=(at(place)) y1=(TOP - 12.0) y2=(BOTTOM) {}
                text x=(at(place + 5.0)) y=(TOP - 4.0) { (mark["name"].as_str().unwrap_or_default()) }
            }
        }
    }
}

fn line(one: &Series<'_>, n: usize, x: &Axis, y: &Axis) -> Markup {
    let place = |(from, to): &(f64, f64)| (x.place(*from), y.place(*to));
    let parts = one.points.split(Option::is_none).map(|part| part.iter().flatten().map(place));
    html! {
        @for part in parts {
            polyline fill="none" stroke=(COLOURS[n % 6]) stroke-width="2.5" stroke-dasharray=(DASHES[n % 6])
                points=(part.clone().map(|(x, y)| format!("{},{}", at(x), at(y))).collect::<Vec<_>>().join(" ")) {}
            @for (x, y) in part { (dot(n, x, y)) }
        }
    }
}

/// A point of the `n`th series.
fn dot(n: usize, x: f64, y: f64) -> Markup {
    let corners = |corners: &[(f64, f64)]| {
        let corners = corners.iter().map(|(dx, dy)| format!("{},{}", at(x + dx), at(y + dy)));
        corners.collect::<Vec<_>>().join(" ")
    };
    let colour = COLOURS[n % 6];
    html! {
        @match n % 6 {
            0 => { circle cx=(at(x)) cy=(at(y)) r="4" fill=(colour) {} }
            1 => { rect x=(at(x - 3.7)) y=(at(y - 3.7)) width="7.4" height="7.4" fill=(colour) {} }
            2 => { polygon points=(corners(&[(0.0, -5.0), (4.8, 3.6), (-4.8, 3.6)])) fill=(colour) {} }
            3 => { polygon points=(corners(&[(0.0, -5.4), (5.4, 0.0), (0.0, 5.4), (-5.4, 0.0)])) fill=(colour) {} }
            4 => { circle cx=(at(x)) cy=(at(y)) r="4" fill="#fff" stroke=(colour) stroke-width="2" {} }
            _ => { polygon points=(corners(&[(0.0, 5.0), (4.8, -3.6), (-4.8, -3.6)])) fill=(colour) {} }
        }
    }
}

/// All points by their x, a column for each series.
fn table(series: &[Series<'_>], x: &str, y: &str) -> Markup {
    let mut places: Vec<f64> =
        series.iter().flat_map(|one| one.points.iter().flatten()).map(|point| point.0).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let value = |one: &Series<'_>, at: f64| {
        one.points.iter().flatten().find(|point| point.0 == at).map(|point| point.1)
    };
    html! {
        details {
            summary { "The points as a table" }
            table {
                thead { tr { th scope="col" { (x) } @for one in series { th scope="col" { (one.name) ", " (y) } } } }
                tbody {
                    @for place in places {
                        tr {
                            th scope="row" { (number(place)) }
                            @for one in series { td.number { @if let Some(value) = value(one, place) { (number(value)) } } }
                        }
                    }
                }
            }
        }
    }
}

/// A place in the drawing, to a tenth.
fn at(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ticks_enclose_all_numbers_and_are_round() {
        assert_eq!(linear_ticks(0.0, 1180.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0]);
        assert_eq!(linear_ticks(0.0, 0.0), [0.0, 0.2]);
        assert_eq!(log_ticks(3.0, 41.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(log_ticks(1.0, 100_000.0), [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]);
        assert_eq!(log_ticks(7.0, 7.0), [5.0, 10.0]);
        for (least, most) in [(0.013, 0.9), (1.0, 1.0), (999.0, 1001.0)] {
            let ticks = log_ticks(least, most);
            assert!(ticks[0] <= least && ticks[ticks.len() - 1] >= most && ticks.len() > 1, "{ticks:?}");
        }
    }

    #[test]
    fn lines_are_drawn_within_the_axes_and_broken_where_a_point_is_missing() {
        let points = json!([[1, 2], [2, null], [3, 400.5], [4, 0], [5, 6]]);
        let plot = json!({ "title": "t", "x": "x", "y": "y", "log_y": true, "series": [{ "name": "p50", "points": points }] });
        let drawn = draw(&plot, "plot1").into_string();
        assert_eq!(drawn.matches("<polyline").count(), 3);
        assert_eq!(drawn.matches("<tr>").count(), 1 + 3);
        assert!(drawn.contains("400.5") && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }

    #[test]
    fn a_plot_without_points_says_so() {
        let drawn = draw(&json!({ "title": "empty", "series": [{ "name": "a", "points": [] }] }), "plot1");
        assert!(drawn.into_string().contains("no point to draw"));
    }
}
