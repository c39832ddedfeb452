use std::io::Cursor;

use deval_eval::set::digest;
use deval_eval::{Example, Task, claims};
use deval_report::Diagnostic;

use super::*;

/// A section of `sentences` sentences of ten words.
fn text(name: &str, sentences: usize) -> String {
    let sentence =
        |n: usize| format!("{name} was opened by Mary Olsen in {} near Old Harbor.", 1900 + n * 7 + name.len());
    (0..sentences).map(sentence).collect::<Vec<_>>().join(" ")
}

fn page(title: &str) -> String {
    let parts = ["School", "Bridge", "Library", "Town hall"].map(|name| format!("== {name} ==\n{}\n", text(name, 6)));
    format!("{title} is a town.\n{}== Notes ==\nToo short.\n", parts.concat())
}

fn articles() -> Vec<Article> {
    ["Northfield", "Easton"].map(|title| Article::new(title, &page(title)).unwrap()).to_vec()
}

#[test]
fn sections_are_upstreams() {
    let long = text("Hall", 6);
    let page = format!(
        "Lead.\n== Early ==\n\n=== First ===\n{long}\n\nMore.\n== References ==\n{long}\n== See also ==\n=== Kept out ===\n{long}\n\
         == Late ==\n=== Second ===\n{long}\n=== Second ===\n{long}\n=== Short ===\nFew words."
    );
    let article = Article::new("T", &page).unwrap();
    let keys: Vec<_> =
        article.sections.iter().map(|section| (section.parent.as_str(), section.heading.as_str())).collect();
    assert_eq!(keys, [("Early", "First"), ("Early", "References"), ("Late", "Second")]);
    assert_eq!(article.sections[0].text, format!("{long}\n\nMore."));
    assert!(article.content.starts_with(&long) && !article.content.contains("Lead"));
    let whole = Article::new("T", "Lead.\n== A ==\nFew words.").unwrap();
    assert_eq!(
        (whole.sections[0].heading.as_str(), whole.content.as_str()),
        (FULL_CONTENT, "Lead.\n== A ==\nFew words.")
    );
    assert_eq!(Article::new("T", " \n"), None);
}

fn split<T>(items: impl Iterator<Item = Result<T, Diagnostic>>) -> (Vec<T>, Vec<Diagnostic>) {
    let (good, bad): (Vec<_>, Vec<_>) = items.partition(Result::is_ok);
    (good.into_iter().filter_map(Result::ok).collect(), bad.into_iter().filter_map(Result::err).collect())
}

fn xml_page(title: &str, ns: u32, text: &str) -> String {
    format!(
        "<page><title>{title}</title><ns>{ns}</ns><revision><text xml:space=\"preserve\">{text}</text></revision></page>\n"
    )
}

#[test]
fn a_dump_gives_its_articles_and_tells_what_is_broken() {
    let dump = [
        "<mediawiki><siteinfo><sitename>W</sitename></siteinfo>\n".to_owned(),
        xml_page("A &amp; B", 0, "'''A''' &lt;ref&gt;x&lt;/ref&gt;is &amp;ndash; {{t}}here."),
        xml_page("Talk:A", 1, "no"),
        "<page><title>R</title><ns>0</ns><redirect title=\"A\" /><revision><text>#REDIRECT [[A]]</text></revision></page>".to_owned(),
        xml_page("S", 0, "#redirect [[A]]"),
        "<page><title>Open</title><ns>0</ns>".to_owned(),
        xml_page("Broken", 0, "a <b> c"),
        xml_page("C", 0, "Fine."),
        "<page><title>Cut".to_owned(),
    ]
    .concat();
    let (articles, findings) = split(MediaWiki::new("d.xml", Cursor::new(&dump)));
    let told: Vec<_> = articles.iter().map(|article| (article.title.as_str(), article.content.as_str())).collect();
    assert_eq!(told, [("A & B", "A is – here."), ("C", "Fine.")]);
    let at = |needle: &str| format!("at byte {}", dump.find(needle).unwrap());
    let found: Vec<_> = findings.iter().map(|finding| finding.found.clone().unwrap()).collect();
    assert_eq!((found.len(), &found[0], &found[2]), (3, &at("<page><title>Open"), &at("<page><title>Cut")));
    assert!(findings[1].message.starts_with("this page is no XML: "), "{findings:?}");
}

#[test]
fn extracted_lines_and_api_answers_are_read() {
    let lines =
        "{\"id\":\"1\",\"title\":\"A\",\"text\":\"One.\"}\n\nno\n{\"id\":2}\n{\"title\":\"B\",\"text\":\"Two.\"}";
    let (articles, findings) = split(WikiExtractor::new("wiki_00", Cursor::new(lines)));
    assert_eq!(articles.iter().map(|article| article.content.as_str()).collect::<Vec<_>>(), ["One.", "Two."]);
    assert_eq!(findings.iter().map(|f| f.place.as_ref().unwrap().line).collect::<Vec<_>>(), [Some(3), Some(4)]);
    let answer = format!(
        r#"{{"query":{{"pages":{{"7":{{"title":"N","extract":{:?}}},"8":{{"title":"M","missing":""}}}}}}}}"#,
        page("N")
    );
    let (articles, findings) = from_api(&answer);
    assert_eq!((articles.len(), articles[0].sections.len(), findings.len()), (1, 4, 1));
    for bad in ["", "{}", r#"{"error":{"code":"ratelimited","info":"too fast"}}"#] {
        assert_eq!((from_api(bad).0.len(), from_api(bad).1.len()), (0, 1), "{bad}");
    }
}

#[test]
fn single_files_know_both_kinds_of_headings() {
    let long = text("Hall", 6);
    let article =
        from_file("dir/Some town.md", &format!("\u{feff}# Some town\n\n## History ##\n{long}\n#no heading\n")).unwrap();
    assert_eq!((article.title.as_str(), article.sections[0].parent.as_str()), ("Some town", "Some town"));
    assert_eq!((article.sections[0].heading.as_str(), article.content.ends_with("#no heading")), ("History", true));
    assert_eq!(from_file("x.txt", &page("X")).unwrap().sections.len(), 4);
}

fn of(task: Task, made: &[Example]) -> Vec<&Example> {
    made.iter().filter(|example| example.task == task).collect()
}

#[test]
fn articles_become_examples_that_follow_the_seed() {
    let (made, findings) = examples(&articles(), 3, 40);
    assert_eq!((made.len(), findings.len(), findings[0].code.as_str()), (120, 1, "articles.attribution"));
    assert_eq!(digest(&made), digest(&examples(&articles(), 3, 40).0));
    assert_ne!(digest(&made), digest(&examples(&articles(), 4, 40).0));
    assert_eq!(of(Task::Relevancy, &made)[..5], of(Task::Relevancy, &examples(&articles(), 3, 5).0)[..]);
    for task in [Task::Relevancy, Task::Hallucination, Task::SummaryCompleteness] {
        let references: Vec<f64> = of(task, &made).iter().map(|example| example.reference).collect();
        assert!(
            references.contains(&1.0) && references.iter().any(|reference| *reference < 1.0),
            "{task}: {references:?}"
        );
    }
}

#[test]
fn true_claims_are_verbatim_and_false_ones_are_not() {
    for example in of(Task::Hallucination, &examples(&articles(), 5, 40).0) {
        assert!(
            example.reference_true_values.iter().all(|claim| example.rag_context.contains(claim)),
            "{}",
            example.id
        );
        assert!(!example.reference_mistakes.iter().any(|claim| example.rag_context.contains(claim)), "{}", example.id);
        let mut labelled: Vec<&str> =
            example.reference_mistakes.iter().chain(&example.reference_true_values).map(String::as_str).collect();
        let mut shown = claims::split(&example.llm_response);
        labelled.sort_unstable();
        shown.sort_unstable();
        assert_eq!(shown, labelled, "{}", example.id);
    }
}

#[test]
fn a_relevant_answer_is_about_what_is_asked() {
    for example in of(Task::Relevancy, &examples(&articles(), 6, 40).0) {
        let subject = example.query.trim_start_matches("What does the article say about ").trim_end_matches('?');
        assert_eq!(example.llm_response.contains(subject), example.reference == 1.0, "{example:?}");
    }
}

#[test]
fn articles_that_do_not_serve_are_told() {
    let short = [Article::new("T", "Lead only.").unwrap()];
    let (made, findings) = examples(&short, 1, 2);
    assert_eq!((made.len(), findings.len()), (0, 4));
    assert_eq!(examples(&[], 1, 1).0, []);
}
