use serde_json::json;

use super::*;

const HEAD: &str = "task,api,model_id,rag_context,query,llm_response,reference\n";

fn codes(findings: &[Diagnostic]) -> Vec<(&str, Option<u32>)> {
    findings.iter().map(|f| (f.code.as_str(), f.place.as_ref().and_then(|place| place.line))).collect()
}

#[test]
fn upstreams_csv_is_read_with_the_labels_that_follow() {
    let text = format!(
        "{HEAD}attribution,LLMAPIs.OPENAI,gpt-4o-mini,\"Ana: I will call.\nBo: Fine.\",,Ana will call.\tBo will sing.,0.5\n\
         hallucination,LLMAPIs.AWS_BEDROCK,m,c,,\"A is 1. B is \"\"2\"\".\",1.0\nhallucination,,,c,,A is 3.,0\n\
         summary_completeness,,,c,,A.,1\nsummary_completeness,,,c,,A.,0.33\nrelevancy,,,c,q?,r,0.0\n"
    );
    let (set, findings) = read("exports/task_attribution.csv", &text, Format::Auto);
    assert_eq!(codes(&findings), [("examples.unlabelled", None)]);
    assert!(findings[0].message.starts_with("2 of 6 "), "{}", findings[0].message);
    let [attribution, right, wrong, full, partial, relevancy] = &set.examples[..] else { panic!() };
    assert_eq!(attribution.source, json!({ "api": "LLMAPIs.OPENAI", "model_id": "gpt-4o-mini" }));
    assert_eq!((attribution.id.as_str(), attribution.mistakes_unknown), ("task_attribution-001", true));
    assert_eq!(attribution.rag_context, "Ana: I will call.\nBo: Fine.");
    assert_eq!(
        (&right.reference_true_values[..], right.reference_mistakes.len()),
        (&["A is 1.", "B is \"2\"."].map(str::to_owned)[..], 0)
    );
    assert_eq!((&wrong.reference_mistakes[..], &wrong.source), (&["A is 3.".to_owned()][..], &Value::Null));
    assert_eq!((full.mistakes_unknown, full.reference_mistakes.len(), partial.mistakes_unknown), (false, 0, true));
    assert_eq!((relevancy.query.as_str(), relevancy.reference, relevancy.mistakes_unknown), ("q?", 0.0, false));
    assert_eq!(set.info.name, "task_attribution");
}

#[test]
fn headers_may_be_in_any_order_and_columns_unknown() {
    let text =
        "\u{feff}Reference,,llm_response,task,rag_context,topic\r\n0.5,0,r,TasksEnum.HALLUCINATION,\"c\r\nd\",Law\r\n";
    let (set, _) = read("x", text, Format::Auto);
    let example = &set.examples[0];
    assert_eq!((example.reference, example.task, example.rag_context.as_str()), (0.5, Task::Hallucination, "c\r\nd"));
    assert_eq!(example.source, json!({ "column_2": "0", "topic": "Law" }));
}

#[test]
fn every_bad_row_is_told_and_hides_no_other() {
    let text = format!(
        "{HEAD}spelling,,,c,,r,high\nrelevancy,,,c,q,r,1\nrelevancy,,,c\nrelevancy,,,c,q,r,0.5\nhallucination,\"a\nrelevancy,,,c,q,r,0\n"
    );
    let (set, findings) = read("x.csv", &text, Format::Auto);
    assert_eq!(set.examples.len(), 3);
    let expected = [
        ("examples.column", Some(2)),
        ("examples.column", Some(2)),
        ("examples.row", Some(4)),
        ("examples.reference", Some(5)),
        ("examples.row", Some(6)),
    ];
    assert_eq!(codes(&findings), expected);
    assert_eq!((findings[1].found.as_deref(), findings[1].message.contains("`reference`")), (Some("high"), true));
    let (set, findings) = read("x.csv", "task,query\nrelevancy,q\n", Format::Auto);
    assert_eq!((set.examples.len(), findings.len()), (0, 3));
    assert_eq!(codes(&read("x.csv", "", Format::Auto).1), [("examples.empty", Some(1))]);
}

#[test]
fn plain_records_are_read_and_the_rest_goes_to_the_source() {
    let text = r#"{"task":"relevancy","rag_context":"c","query":"q","llm_response":"r","reference":"1.0","topic":"Law","source":{"licence":"MIT (x)"}}
[1]
{"task":"relevancy","rag_context":"c","llm_response":7,"reference":2e999,"id":5}"#;
    let (set, findings) = read("d/plain.jsonl", text, Format::Auto);
    assert_eq!(set.examples[0].source, json!({ "licence": "MIT (x)", "topic": "Law" }));
    assert_eq!((set.examples[0].id.as_str(), set.info.licence.as_deref()), ("plain-001", Some("MIT")));
    assert_eq!((findings[0].code.as_str(), findings.len() >= 2), ("examples.unreadable", true));
}

#[test]
fn a_set_with_a_header_keeps_its_header() {
    let set = ExampleSet::new(SetInfo { name: "n".into(), seed: Some(3), ..SetInfo::default() }, crate::generate(1, 2));
    assert_eq!(read("other.jsonl", &set.write(), Format::Auto), (set, vec![]));
}

fn set(name: &str, ids: &[&str], licence: &str, tag: &str) -> ExampleSet {
    let example = |id: &&str| Example {
        id: (*id).to_owned(),
        rag_context: format!("{name}{id}"),
        ..crate::generate(1, 1)[0].clone()
    };
    let info = SetInfo { licence: Some(licence.into()), contamination: vec![tag.into()], ..SetInfo::default() };
    ExampleSet::new(info, ids.iter().map(example).collect())
}

#[test]
fn merging_keeps_every_example_once_under_an_id_of_its_own() {
    let sets = vec![
        set("a", &["x", "y"], "MIT", "public"),
        set("b", &["x", "x~2"], "CC-BY-4.0 AND MIT", "training-overlap"),
        set("a", &["y"], "MIT", "public"),
    ];
    let (merged, findings) = merge(sets, "all");
    assert_eq!(
        merged.examples.iter().map(|example| example.id.as_str()).collect::<Vec<_>>(),
        ["x", "y", "x~2", "x~2~2"]
    );
    assert_eq!(merged.info.licence.as_deref(), Some("CC-BY-4.0 AND MIT"));
    assert_eq!(merged.info.contamination, ["public", "training-overlap"]);
    assert_eq!(codes(&findings), [("examples.renamed", None), ("examples.renamed", None), ("examples.repeated", None)]);
}

#[test]
fn what_is_given_overrides_what_was_read() {
    let overrides =
        Overrides { name: Some("n".into()), licence: None, contamination: vec!["a".into(), "public".into()] };
    let info = overrides.apply(set("a", &["x"], "MIT", "public")).info;
    assert_eq!((info.name.as_str(), info.licence.as_deref()), ("n", Some("MIT")));
    assert_eq!(info.contamination, ["a", "public"]);
}

#[test]
fn a_selection_is_seeded_and_names_its_origin() {
    let all = ExampleSet::new(SetInfo { name: "n".into(), ..SetInfo::default() }, crate::generate(1, 20));
    let (drawn, findings) = select(&all, &[Task::Attribution, Task::Relevancy], 5, 7);
    assert_eq!(
        (drawn.examples.len(), findings.len(), drawn.info.of.as_deref()),
        (10, 0, Some(all.info.digest.as_str()))
    );
    assert_eq!(drawn.examples.iter().filter(|example| example.task == Task::Relevancy).count(), 5);
    assert_eq!(drawn, select(&all, &[Task::Relevancy, Task::Attribution], 5, 7).0);
    assert_ne!(drawn.info.digest, select(&all, &[Task::Relevancy, Task::Attribution], 5, 8).0.info.digest);
    assert_eq!(ExampleSet::read("x", &drawn.write()), (drawn, vec![]));
    assert_eq!(select(&all, &Task::ALL, 21, 7).1.len(), 4);
}

#[test]
fn the_shared_data_comes_in_whole() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !folder.is_dir() {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "shared"), "DEVAL_TEST_REQUIRE asks for the shared examples");
        println!("skipped: the real examples (../shared/data) are not there");
        return;
    }
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut sets = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let (set, findings) = read(&file.to_string_lossy(), &text, Format::Auto);
        assert_eq!(findings, []);
        let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(set.examples.iter().map(|example| json!(example)).collect::<Vec<_>>(), values);
        let (back, findings) = read("x.csv", &crate::export::csv(&set, false), Format::Auto);
        assert_eq!((findings, &back.info.digest), (vec![], &set.info.digest));
        sets.push(set);
    }
    let (merged, findings) = merge(sets, "shared");
    assert_eq!(
        (files.len(), merged.info.licence.as_deref()),
        (8, Some("Apache-2.0 AND CC-BY-4.0 AND CC-BY-SA-4.0 AND MIT"))
    );
    assert!(findings.iter().all(|finding| !finding.is_error()), "{findings:?}");
}
