//! One chart as HTML: lines in an SVG that stretches with the page, words beside it that do not.
//!
//! The SVG has no text: it is drawn in a square of 1,000 units and stretched to whatever room there is, while its lines
//! keep their width (`vector-effect`). Ticks and marks are placed by percent, so that they are as large on a telephone
//! as on a desk. The data stand in a table below, and the page's script reads what it shows on hover from there.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::axis::Axis;
use super::escape::escape;

/// A chart.
pub struct Chart {
    /// Its heading.
    pub title: String,
    /// One or two sentences on what it shows.
    pub note: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// What is marked on the x axis.
    pub marks: Vec<Mark>,
}

/// One line.
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Points from left to right; a point without a value breaks the line.
    pub points: Vec<(f64, Option<f64>)>,
    /// Number of its colour.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub enum Stroke {
    /// As lines are.
    Solid,
    /// Dashed: second to another line, of its colour or below it.
    Dashed,
    /// Broad and pale, so that another line can lie on it and both are seen.
    Broad,
}

/// A place on the x axis with a name.
pub struct Mark {
    /// Where.
    pub x: f64,
    /// Its name.
    pub label: String,
}

/// Colours in the page's style sheet.
pub const COLOURS: usize = 6;
/// A longer table is thinned out: the points stay on the chart.
const MAX_ROWS: usize = 600;

impl Chart {
    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.iter().all(|(_, value)| value.is_none()))
    }

    /// The chart as a `figure`.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let (title, note) = (escape(&self.title), escape(&self.note));
        let _ = write!(out, "<figure class=\"chart\"><figcaption><h3>{title}</h3><p>{note}</p></figcaption>");
        self.render_legend(&mut out);
        let _ = write!(out, "<div class=\"y-label\">{}</div><div class=\"plot\">", escape(self.y.label));
        self.render_ticks(&mut out);
        let _ = write!(
            out,
            "<div class=\"canvas\"><svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            escape(&self.in_words())
        );
        self.render_lines(&mut out);
        out.push_str("</svg>");
        self.render_marks(&mut out);
        let _ = write!(out, "</div></div><div class=\"x-label\">{}</div>", escape(self.x.label));
        self.render_table(&mut out);
        out.push_str("</figure>\n");
        out
    }

    /// What somebody is told who cannot see it.
    fn in_words(&self) -> String {
        let mut words = format!("{}: line chart of {} over {}.", self.title, self.y.label, self.x.label);
        for series in &self.series {
            let values = || series.points.iter().filter_map(|(_, value)| *value);
            let (least, greatest) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
            if least.is_finite() {
                let _ = write!(
                    words,
                    " {}: {} to {}.",
                    series.name,
                    (self.y.value)(least),
                    (self.y.value)(greatest)
                );
            }
        }
        for mark in &self.marks {
            let _ = write!(words, " {} at {}.", mark.label, (self.x.value)(mark.x));
        }
        words.push_str(" The table below has the values.");
        words
    }

    fn render_legend(&self, out: &mut String) {
        out.push_str("<ul class=\"legend\">");
        for series in &self.series {
            let _ = write!(
                out,
                "<li><svg viewBox=\"0 0 28 8\" aria-hidden=\"true\"><path class=\"{}\" d=\"M1 4H27\"/></svg>{}</li>",
                series.class(),
                escape(&series.name)
            );
        }
        out.push_str("</ul>");
    }

    fn render_ticks(&self, out: &mut String) {
        for tick in self.y.scale.ticks() {
            let at = 100.0 * self.y.scale.position(tick);
            let _ = write!(
                out,
                "<span class=\"y-tick\" style=\"bottom:{at:.2}%\">{}</span>",
                (self.y.tick)(tick)
            );
        }
        for tick in self.x.scale.ticks() {
            let at = 100.0 * self.x.scale.position(tick);
            let _ =
                write!(out, "<span class=\"x-tick\" style=\"left:{at:.2}%\">{}</span>", (self.x.tick)(tick));
        }
    }

    fn render_lines(&self, out: &mut String) {
        for tick in self.y.scale.ticks() {
            let _ = write!(out, "<path class=\"grid\" d=\"M0 {:.1}H1000\"/>", self.down(tick));
        }
        for tick in self.x.scale.ticks() {
            let _ = write!(out, "<path class=\"grid\" d=\"M{:.1} 0V1000\"/>", self.right(tick));
        }
        for mark in &self.marks {
            let _ = write!(out, "<path class=\"mark\" d=\"M{:.1} 0V1000\"/>", self.right(mark.x));
        }
        for series in &self.series {
            let _ = write!(out, "<path class=\"{}\" d=\"{}\"/>", series.class(), self.path(series));
        }
    }

    fn right(&self, x: f64) -> f64 {
        1000.0 * self.x.scale.position(x)
    }

    fn down(&self, y: f64) -> f64 {
        1000.0 - 1000.0 * self.y.scale.position(y)
    }

    fn path(&self, series: &Series) -> String {
        let mut path = String::new();
        let mut broken = true;
        for (x, y) in &series.points {
            let Some(y) = y else {
                broken = true;
                continue;
            };
            let (right, down) = (self.right(*x), self.down(*y));
            // A line to where it begins: a point between two gaps is a dot then, not nothing.
            let _ = match std::mem::take(&mut broken) {
                true => write!(path, "M{right:.1} {down:.1}L{right:.1} {down:.1}"),
                false => write!(path, "L{right:.1} {down:.1}"),
            };
        }
        path
    }

    fn render_marks(&self, out: &mut String) {
        for (index, mark) in self.marks.iter().enumerate() {
            let at = 100.0 * self.x.scale.position(mark.x);
            // One below the other: marks may stand close.
            let top = 2 + 16 * (index % 4);
            let side = if at > 60.0 { "before" } else { "after" };
            let _ = write!(
                out,
                "<span class=\"mark-label {side}\" style=\"left:{at:.2}%;top:{top}px\">{}</span>",
                escape(&mark.label)
            );
        }
    }

    fn render_table(&self, out: &mut String) {
        let rows = self.rows();
        let step = rows.len().div_ceil(MAX_ROWS).max(1);
        let thinned = if step > 1 { format!(" (one row in {step})") } else { String::new() };
        let _ = write!(
            out,
            "<details><summary>Values{thinned}</summary><div class=\"scroll\"><table><thead><tr>"
        );
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(self.x.label));
        for series in &self.series {
            let _ = write!(out, "<th scope=\"col\">{}</th>", escape(&series.name));
        }
        out.push_str("</tr></thead><tbody>");
        for x in rows.into_iter().step_by(step) {
            let at = self.x.scale.position(x);
            let _ = write!(out, "<tr data-x=\"{at:.4}\"><th scope=\"row\">{}</th>", (self.x.value)(x));
            for series in &self.series {
                match series.at(x) {
                    Some(y) => {
                        let height = self.y.scale.position(y);
                        let _ = write!(out, "<td data-y=\"{height:.4}\">{}</td>", (self.y.value)(y));
                    }
                    None => out.push_str("<td>-</td>"),
                }
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div></details>");
    }

    /// Every x at which some line has a point, in order.
    fn rows(&self) -> Vec<f64> {
        let all: BTreeSet<Ordered> =
            self.series.iter().flat_map(|series| &series.points).map(|(x, _)| Ordered(*x)).collect();
        all.into_iter().map(|x| x.0).collect()
    }
}

impl Series {
    fn class(&self) -> String {
        let stroke = match self.stroke {
            Stroke::Solid => "",
            Stroke::Dashed => " dashed",
            Stroke::Broad => " broad",
        };
        format!("line c{}{stroke}", self.colour % COLOURS)
    }

    /// Its value at that x, since points are in order.
    fn at(&self, x: f64) -> Option<f64> {
        let index = self.points.binary_search_by(|(at, _)| at.total_cmp(&x)).ok()?;
        self.points[index].1
    }
}

/// A number in a set.
#[derive(PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Ordered) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Ordered) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, Option<f64>)]) -> Chart {
        Chart {
            title: "A <title>".to_owned(),
            note: String::new(),
            x: Axis::seconds(10.0),
            y: Axis::number("records/s", [100.0].into_iter()),
            series: vec![Series {
                name: "<script>".to_owned(),
                points: points.to_vec(),
                colour: 7,
                stroke: Stroke::Solid,
            }],
            marks: vec![Mark { x: 5.0, label: "<mark>".to_owned() }],
        }
    }

    #[test]
    fn a_line_goes_through_its_points() {
        let html = chart(&[(0.0, Some(0.0)), (10.0, Some(100.0))]).render();
        assert!(
            html.contains("<path class=\"line c1\" d=\"M0.0 1000.0L0.0 1000.0L1000.0 47.6\"/>"),
            "{html}"
        );
    }

    #[test]
    fn a_gap_breaks_the_line_and_is_a_dash_in_the_table() {
        let html = chart(&[(0.0, Some(0.0)), (5.0, None), (10.0, Some(100.0))]).render();
        assert!(html.contains("d=\"M0.0 1000.0L0.0 1000.0M1000.0 47.6L1000.0 47.6\""), "{html}");
        assert!(html.contains("<th scope=\"row\">5 s</th><td>-</td>"), "{html}");
    }

    #[test]
    fn names_from_outside_are_text() {
        let html = chart(&[(0.0, Some(1.0))]).render();
        assert!(
            !html.contains("<script>") && !html.contains("<title>") && !html.contains("<mark>"),
            "{html}"
        );
    }

    #[test]
    fn a_long_table_is_thinned_and_says_so() {
        let points: Vec<(f64, Option<f64>)> = (0..1300).map(|at| (f64::from(at), Some(1.0))).collect();
        let html = chart(&points).render();
        assert!(html.contains("(one row in 3)"));
        assert_eq!(html.matches("<tr data-x").count(), 434);
    }

    #[test]
    fn a_chart_without_values_is_empty() {
        assert!(chart(&[(0.0, None)]).is_empty());
        assert!(!chart(&[(0.0, Some(0.0))]).is_empty());
    }
}
