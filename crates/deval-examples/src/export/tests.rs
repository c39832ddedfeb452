use std::collections::HashSet;

use deval_eval::{SetInfo, Task};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::import::{Format, read};

fn text() -> impl Strategy<Value = String> {
    "([^\u{0}]|[\"',;\n\r\t \u{feff}]){0,12}"
}

fn source() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON", |x| x.is_finite()).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    let name = prop_oneof![Just("api".to_owned()), Just("source".to_owned()), text()];
    leaf.prop_recursive(2, 8, 3, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(name.clone(), inner, 0..3).prop_map(|map| json!(map))
        ]
    })
}

prop_compose! {
    fn example()(
        id in "[^\u{0}]([^\u{0}]|[\"\n\r]){0,5}", task in proptest::sample::select(Task::ALL.to_vec()),
        texts in [text(), text(), text()], reference in prop_oneof![Just(0.0), Just(-0.0), Just(1.0), 0.0..1.0f64],
        mistakes in vec(text(), 0..3), true_values in vec(text(), 0..3), mistakes_unknown: bool, source in source(),
    ) -> Example {
        let [rag_context, query, llm_response] = texts;
        let (reference_mistakes, reference_true_values) = (mistakes, true_values);
        Example { id, task, rag_context, query, llm_response, reference, reference_mistakes, reference_true_values, mistakes_unknown, source }
    }
}

fn set(mut examples: Vec<Example>) -> ExampleSet {
    let mut seen = HashSet::new();
    examples.retain(|example| seen.insert(example.id.clone()));
    ExampleSet::new(SetInfo { name: "x".to_owned(), ..SetInfo::default() }, examples)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn csv_and_json_lines_give_back_the_same_examples(examples in vec(example(), 0..4)) {
        let set = set(examples);
        let (from_csv, _) = read("x.csv", &csv(&set, false), Format::Csv);
        prop_assert_eq!(&from_csv.examples, &set.examples);
        prop_assert_eq!(&csv(&from_csv, false), &csv(&set, false));
        let (from_lines, _) = read("x.jsonl", &from_csv.write(), Format::Jsonl);
        prop_assert_eq!(&from_lines.info.digest, &set.info.digest);
        let without_header: String = set.write().split_inclusive('\n').skip(1).collect();
        prop_assert_eq!(&read("x.jsonl", &without_header, Format::Jsonl).0.examples, &set.examples);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "([^\u{0}]|[\"',{}\\[\\]:\n\r]){0,60}") {
        read("x.csv", &text, Format::Csv);
        read("x.csv", &format!("task,rag_context,llm_response,reference\n{text}"), Format::Csv);
        read("x.jsonl", &text, Format::Jsonl);
    }
}

#[test]
fn upstreams_style_has_seven_columns_and_says_what_is_lost() {
    let mut examples = crate::generate(1, 1);
    examples[1].source = json!({ "api": "LLMAPIs.OPENAI", "model_id": "gpt-4o-mini" });
    let set = set(examples);
    let text = csv(&set, true);
    assert!(text.starts_with("task,api,model_id,rag_context,query,llm_response,reference\r\nrelevancy,,,"));
    assert!(text.contains("\r\nhallucination,LLMAPIs.OPENAI,gpt-4o-mini,"));
    let (back, _) = read("x.csv", &text, Format::Auto);
    assert_eq!(
        back.examples.iter().map(Example::request).collect::<Vec<_>>(),
        set.examples.iter().map(Example::request).collect::<Vec<_>>()
    );
    assert_eq!((lost(&set, true).len(), lost(&set, false).len()), (2, 1));
    assert!(lost(&set, true)[1].message.contains("claims of 3 examples"), "{:?}", lost(&set, true));
}
