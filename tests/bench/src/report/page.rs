//! The report for people: one page, without script and without anything from a network.

use clap::ValueEnum;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value};

use super::{Name, plot};

const STYLE: &str = "html{color-scheme:light}
body{font:16px/1.5 sans-serif;max-width:64em;margin:2em auto;padding:0 1em;color:#212b32;background:#fff}
table{border-collapse:collapse;margin:1em 0}
th,td{border-bottom:1px solid #d8dde0;padding:.3em .8em;text-align:left;vertical-align:top}
td{font-variant-numeric:tabular-nums}.number{text-align:right}
.met{color:#00592f}.missed{color:#b3001b;font-weight:bold}
.wide{overflow-x:auto}
figure{margin:1.5em 0}figure>svg{width:100%;max-width:45em;height:auto;font:13px sans-serif;fill:#212b32}
.grid line{stroke:#d8dde0}.axis line{stroke:#4c6272}.mark{stroke:#4c6272;stroke-dasharray:3 3}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2em 1.5em;margin:.3em 0;padding:0}
.legend svg{vertical-align:middle}
summary{cursor:pointer;color:#005eb8}
@media print{body{font-size:11pt;max-width:none;margin:0}h2,figure,tr{break-inside:avoid}h2{break-after:avoid}}";

/// Cases of a benchmark up to which each has a column.
const SIDE_BY_SIDE_MAX: usize = 4;

/// A figure that has a goal, and where it stands.
struct Goal<'a> {
    benchmark: &'a str,
    /// Which of a benchmark's results; empty if it has one alone.
    case: String,
    name: &'a str,
    figure: &'a Value,
}

pub fn page(report: &Value) -> Markup {
    let benchmarks = list(&report["benchmarks"]);
    html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Lanyard: benchmarks" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { "Lanyard " (plain(&report["version"])) ": benchmarks" }
                    p {
                        "Each figure stands beside a yardstick that was measured in the same run, on the same machine: what the same work \
                        costs at least, or what another program takes for it. Where there is a goal, the figure says whether it is met. "
                        code { "docs/internals/performance.md" } " explains every yardstick."
                    }
                    @if report["quick"] == true {
                        p { strong { "A quick run, of little of everything, to see that it runs: its figures are not to be quoted." } }
                    }
                    (machine(&report["machine"]))
                    (summary(benchmarks))
                    @for benchmark in benchmarks { (section(benchmark)) }
                }
            }
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn machine(machine: &Value) -> Markup {
    let parts = ["processor", "cores", "memory", "file system", "kernel"];
    let said = parts.map(|part| match (part, &machine[part]) {
        ("cores", cores) => format!("{} cores", plain(cores)),
        ("memory", memory) => format!("{} of memory", plain(memory)),
        ("file system", kind) => format!("file system {}", plain(kind)),
        (_, value) => plain(value),
    });
    html! { p { "Machine: " (said.join(", ")) "." } }
}

/// All figures that have a goal, in one table.
fn summary(benchmarks: &[Value]) -> Markup {
    let goals: Vec<_> = benchmarks.iter().flat_map(goals).collect();
    let met = goals.iter().filter(|goal| goal.figure["met"] == true).count();
    let failed: Vec<_> =
        benchmarks.iter().filter(|one| one["failed"].is_string()).map(|one| plain(&one["name"])).collect();
    html! {
        h2 id="summary" { "Summary" }
        @if !failed.is_empty() { p.missed { "Failed, and so without figures: " (failed.join(", ")) "." } }
        @if goals.is_empty() {
            p { "None of these benchmarks has a goal." }
        } @else {
            p { (met) " of " (goals.len()) " goals are met." }
            div.wide {
                table {
                    thead {
                        tr {
                            th scope="col" { "Benchmark" }
                            th scope="col" { "Case" }
                            th scope="col" { "What" }
                            th.number scope="col" { "Figure" }
                            th scope="col" { "Goal" }
                            th scope="col" { "Result" }
                        }
                    }
                    tbody {
                        @for goal in &goals {
                            tr {
                                td { a href=(format!("#{}", goal.benchmark)) { (goal.benchmark) } }
                                td { (goal.case) }
                                td { (goal.name) }
                                td.number { (plain(&goal.figure["figure"])) }
                                td { (plain(&goal.figure["goal"])) }
                                td { (verdict(goal.figure)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn goals(benchmark: &Value) -> Vec<Goal<'_>> {
    let name = benchmark["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for result in list(&benchmark["results"]).iter().filter_map(Value::as_object) {
        for (what, figure) in result {
            if has_goal(figure) {
                found.push(Goal { benchmark: name, case: case(result), name: what, figure });
            }
        }
    }
    found
}

fn has_goal(value: &Value) -> bool {
    value.as_object().is_some_and(|figure| figure.contains_key("goal") && figure.contains_key("figure"))
}

/// Which case of a benchmark a result is of: its scenario, or else what it says in words.
fn case(result: &Map<String, Value>) -> String {
    let scenario = result.get("scenario").and_then(Value::as_str).map(str::to_owned);
    scenario.unwrap_or_else(|| {
        let words: Vec<_> = result.values().filter_map(Value::as_str).collect();
        words.join(", ")
    })
}

fn section(benchmark: &Value) -> Markup {
    let name = benchmark["name"].as_str().unwrap_or_default();
    let variant = Name::from_str(name, false).ok().and_then(|name| name.to_possible_value());
    let about = variant.and_then(|value| value.get_help().map(ToString::to_string));
    let results = list(&benchmark["results"]);
    html! {
        h2 id=(name) { (name) }
        p { @if let Some(about) = about { (about) ". " } "Took " (plain(&benchmark["seconds"])) " seconds." }
        @if let Some(why) = benchmark["failed"].as_str() { p { strong.missed { "It failed: " } (why) } }
        @for alike in alike(results) { (figures(alike)) }
        @for (n, drawn) in results.iter().filter_map(|result| result.get("plot")).flat_map(plots).enumerate() {
            (plot::draw(drawn, &format!("{name}-plot{n}")))
        }
    }
}

/// One plot, or a list of them.
fn plots(field: &Value) -> &[Value] {
    field.as_array().map_or(std::slice::from_ref(field), Vec::as_slice)
}

/// Results one behind the other that name the same figures stand in one table, side by side.
fn alike(results: &[Value]) -> Vec<&[Value]> {
    let names = |result: &Value| result.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>());
    results.chunk_by(|one, next| names(one) == names(next)).collect()
}

fn figures(alike: &[Value]) -> Markup {
    let fields: Vec<_> = alike.iter().filter_map(Value::as_object).collect();
    let names: Vec<_> = fields.first().into_iter().flat_map(|first| first.keys()).collect();
    let names: Vec<_> = names.into_iter().filter(|name| *name != "plot" && *name != "scenario").collect();
    if names.is_empty() {
        return html! {};
    }
    // A few cases stand side by side; many, one below the other.
    let table =
        if fields.len() > SIDE_BY_SIDE_MAX { below(&fields, &names) } else { beside(&fields, &names) };
    html! { div.wide { table { (table) } } }
}

fn beside(fields: &[&Map<String, Value>], names: &[&String]) -> Markup {
    html! {
        @if fields.iter().any(|one| one.contains_key("scenario")) {
            thead { tr { th scope="col" { "scenario" } @for one in fields { th scope="col" { (scenario(one)) } } } }
        }
        tbody {
            @for name in names {
                tr {
                    th scope="row" { (name) }
                    @for one in fields { td { (figure(&one[*name])) } }
                }
            }
        }
    }
}

fn below(fields: &[&Map<String, Value>], names: &[&String]) -> Markup {
    html! {
        thead { tr { th scope="col" { "scenario" } @for name in names { th scope="col" { (name) } } } }
        tbody {
            @for one in fields {
                tr {
                    th scope="row" { (scenario(one)) }
                    @for name in names { td { (figure(&one[*name])) } }
                }
            }
        }
    }
}

fn scenario(result: &Map<String, Value>) -> String {
    result.get("scenario").map(plain).unwrap_or_default()
}

fn figure(value: &Value) -> Markup {
    match value {
        Value::Object(figure) if has_goal(value) => {
            let text = |name: &str| plain(&figure[name]);
            html! { (text("figure")) " (goal: " (text("goal")) ", " (verdict(value)) ")" }
        }
        Value::Object(parts) => html! {
            @for (name, value) in parts { (name) ": " (plain(value)) br; }
        },
        other => html! { (plain(other)) },
    }
}

fn verdict(figure: &Value) -> Markup {
    let word = if figure["met"] == true { "met" } else { "missed" };
    html! { span class=(word) { (word) } }
}

/// As people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => n.as_f64().map_or_else(|| n.to_string(), number),
        Value::Array(parts) => parts.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// A number with what matters of it: four digits at least, and a comma between thousands.
pub fn number(number: f64) -> String {
    if number != 0.0 && number.abs() < 0.001 {
        return format!("{number:.2e}");
    }
    let behind = match number.abs() {
        large if large >= 1000.0 => 0,
        large if large >= 100.0 => 1,
        large if large >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{number:.behind$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    let whole = groups.collect::<Vec<_>>().join(",");
    let part = part.trim_end_matches('0');
    if part.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{at_least, at_most};
    use super::*;

    fn sample() -> Value {
        let series =
            |n: f64| json!({ "name": format!("p{n} <&>"), "points": [[1, n], [10, 2.0 * n], [100, null]] });
        let plot = json!({
            "title": "Latency \"over\" load", "x": "offered, messages a second", "y": "milliseconds", "log_x": true, "log_y": true,
            "series": [series(50.0), series(99.0)], "marks": [{ "x": 12, "name": "saturation" }],
        });
        let results = json!([
            { "scenario": "one core", "<b>": at_most(1.4, 1.3), "records": 100_000, "note": "a < b", "parts": { "a": 1, "b": 2 } },
            { "scenario": "two cores", "<b>": at_most(1.2, 1.3), "records": 100_000, "note": "b", "parts": {} },
            { "cores": at_least(1.8, 1.7), "spread": [18.8, 22.1] },
            { "plot": plot },
        ]);
        let benchmarks = json!([
            { "name": "ingest", "seconds": 3, "results": results },
            { "name": "erase", "seconds": 4, "results": [{ "plot": [plot, plot] }] },
            { "name": "compact", "seconds": 0, "results": [], "failed": "no space < left" },
        ]);
        let machine = super::super::machine::describe(std::path::Path::new("."));
        json!({ "version": "1", "quick": true, "machine": machine, "benchmarks": benchmarks })
    }

    #[test]
    fn a_missed_goal_is_shown_as_missed_and_nothing_is_markup() {
        let page = page(&sample()).into_string();
        assert!(page.contains("2 of 3 goals are met"));
        // Each in the summary and in its section.
        assert_eq!((page.matches(">missed<").count(), page.matches(">met<").count()), (2, 4));
        assert!(
            page.contains("without figures: compact.")
                && page.contains("It failed")
                && page.contains("no space &lt; left")
        );
        assert!(page.contains("&lt;b&gt;") && page.contains("a &lt; b") && !page.contains("<b>"));
    }

    #[test]
    fn numbers_are_written_for_people() {
        let written = [0.0, 1.0, 1.25, 45_195.4, 1_000_000.0, 12.345, -1234.0, 0.000_012].map(number);
        assert_eq!(written, ["0", "1", "1.25", "45,195", "1,000,000", "12.35", "-1,234", "1.20e-5"]);
    }

    /// Parses strictly, and checks what a tokenizer does not: nesting, ids, references, and that nothing is fetched or run.
    #[test]
    fn the_page_is_valid_and_needs_nothing_else() {
        use html5gum::Token;
        const VOID: [&str; 3] = ["meta", "br", "link"];
        let page = page(&sample()).into_string();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (mut open, mut ids, mut references) = (Vec::new(), Vec::new(), Vec::new());
        for Ok(token) in html5gum::Tokenizer::new(&page) {
            match token {
                Token::StartTag(tag) => {
                    let name = text(&tag.name);
                    assert!(!["script", "img", "link", "iframe"].contains(&name.as_str()), "<{name}>");
                    for (attribute, value) in &tag.attributes {
                        let (attribute, value) = (text(attribute), text(value));
                        assert!(
                            !attribute.starts_with("on") && !["src", "style"].contains(&attribute.as_str())
                        );
                        match attribute.as_str() {
                            "id" => ids.push(value),
                            "href" => references.push(value.strip_prefix('#').unwrap().to_owned()),
                            "aria-labelledby" => references.extend(value.split(' ').map(str::to_owned)),
                            _ => {}
                        }
                    }
                    if !VOID.contains(&name.as_str()) {
                        open.push(name);
                    }
                }
                Token::EndTag(tag) => assert_eq!(open.pop(), Some(text(&tag.name))),
                Token::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        assert_eq!(open, [""; 0]);
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id is used twice");
        for reference in &references {
            assert!(ids.contains(reference), "nothing has the id {reference}");
        }
        assert!(references.len() > 6 && !page.contains("http"));
    }
}
