//! One page that shows one result, or lays several over each other. It needs no other file and no network, and says the
//! same without its script, which only shows values where the pointer is.

mod axis;
mod chart;
mod charts;
mod escape;
mod run;
mod sections;

pub use run::Run;

use super::error::ReportError;
use crate::result::Command;
use escape::escape;

/// Style sheet, script, and the places of the title and of what the result says.
const TEMPLATE: &str = include_str!("../page.html");
const TITLE_PLACE: &str = "{{title}}";
const BODY_PLACE: &str = "{{body}}";

/// The page. Results of sweeps cannot stand on it with others, which have time where sweeps have load.
pub fn page(runs: &[Run<'_>]) -> Result<String, ReportError> {
    let sweeps = runs.iter().filter(|run| run.result.command == Command::Sweep).count();
    if sweeps > 0 && sweeps < runs.len() {
        return Err(ReportError::MixedPage);
    }
    let title = escape(&sections::title(runs));
    let body = sections::body(runs)?;
    // Cut, not replaced: what stands in one place must not be searched for the other.
    let (head, rest) = TEMPLATE.split_once(TITLE_PLACE).expect("the template has a place for the title");
    let (middle, tail) = rest.split_once(BODY_PLACE).expect("the template has a place for the body");
    Ok([head, &title, middle, &body, tail].concat())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::result::RunResult;

    fn one(result: &RunResult) -> String {
        page(&[Run { name: String::new(), result }]).unwrap()
    }

    fn headings(page: &str) -> Vec<&str> {
        page.split("<h3>").skip(1).filter_map(|rest| rest.split("</h3>").next()).collect()
    }

    #[test]
    fn each_command_has_its_charts() {
        let page = one(&sample::end_to_end(1));
        let expected = [
            "Latency by percentile",
            "Ack latency over time",
            "End-to-end latency over time",
            "Throughput over time",
            "CPU over time",
        ];
        assert_eq!(headings(&page), expected);
        assert!(headings(&one(&sample::catch_up(1))).contains(&"Backlog over time"));
        let page = one(&sample::sweep(1));
        assert_eq!(headings(&page)[0], "Ack latency against offered load");
        assert!(page.contains("class=\"mark-label") && page.contains(">saturation</span>"));
    }

    #[test]
    fn the_backlog_begins_with_what_the_first_second_took_off() {
        let mut result = sample::catch_up(1);
        result.phases[0].intervals.iter_mut().for_each(|interval| interval.backlog = None);
        let page = one(&result);
        let backlog = page.split_once("<h3>Backlog over time").unwrap().1;
        let at_begin = backlog.split("<tbody>").nth(1).unwrap();
        assert!(
            at_begin.contains("<th scope=\"row\">3 s</th><td data-y=\"0.9524\">15,000</td>"),
            "{}",
            &at_begin[..200]
        );
    }

    #[test]
    fn a_rate_is_not_drawn_of_the_last_milliseconds() {
        let mut result = sample::end_to_end(1);
        let last = result.phases[0].intervals.last_mut().unwrap();
        last.seconds = 0.01;
        last.cpu_machine = 77.0;
        assert!(!one(&result).contains("77.0"));
    }

    #[test]
    fn several_runs_share_their_charts() {
        let (a, b) = (sample::end_to_end(1), sample::end_to_end(2));
        let runs = [Run { name: "before".into(), result: &a }, Run { name: "after".into(), result: &b }];
        let page = page(&runs).unwrap();
        assert!(page.contains("before: p99") && page.contains("after: p99"));
    }

    #[test]
    fn a_sweep_and_another_command_are_refused_on_one_page() {
        let (a, b) = (sample::end_to_end(1), sample::sweep(1));
        let runs = [Run { name: "a".into(), result: &a }, Run { name: "b".into(), result: &b }];
        assert!(matches!(page(&runs), Err(ReportError::MixedPage)));
    }

    #[test]
    fn nothing_from_the_result_is_read_as_html() {
        const EVIL: &str = "\"'><script>alert(1)</script>{{body}}";
        let mut result = sample::catch_up(1);
        result.started = EVIL.to_owned();
        result.reason = Some(EVIL.to_owned());
        result.complete = false;
        result.void = Some(EVIL.to_owned());
        result.verification.as_mut().unwrap().first_problems = vec![EVIL.to_owned()];
        result.settings.insert(EVIL.to_owned(), EVIL.into());
        let environment = &mut result.environment;
        for text in [
            &mut environment.kernel,
            &mut environment.cpu,
            &mut environment.loadgen_version,
            &mut environment.client_driver,
            &mut environment.target.name,
            &mut environment.target.version,
            &mut environment.target.address,
        ] {
            *text = EVIL.to_owned();
        }
        environment.filesystem = Some(EVIL.to_owned());
        environment.disk = Some(EVIL.to_owned());
        environment.target.settings.insert(EVIL.to_owned(), EVIL.into());
        for phase in &mut result.phases {
            phase.label = EVIL.to_owned();
            phase.errors.insert(EVIL.to_owned(), 1);
        }
        for runs in [1, 2] {
            let runs: Vec<Run<'_>> =
                (0..runs).map(|_| Run { name: EVIL.to_owned(), result: &result }).collect();
            let page = page(&runs).unwrap();
            assert!(!page.contains("<script>alert"), "the page has it as it is");
            assert!(!page.contains(EVIL));
            assert!(page.contains("&lt;script&gt;alert(1)"));
        }
    }

    #[test]
    fn the_page_asks_for_nothing_from_outside() {
        let page = one(&sample::sweep(1));
        for reference in ["src=", "href=", "@import", "url(", "http:", "https:", "fetch("] {
            assert!(!page.contains(reference), "{reference}");
        }
    }

    #[test]
    fn a_result_without_figures_still_has_a_page() {
        let mut result = sample::end_to_end(1);
        result.phases.clear();
        result.complete = false;
        result.reason = Some("nothing listens there".to_owned());
        assert!(one(&result).contains("nothing listens there"));
        result.command = Command::Sweep;
        one(&result);
    }
}
