use deval_report::Severity;

use super::*;
use crate::generate_set;

/// Over four seeds: the AUC of one set of 200 examples has a standard error of 0.03 to 0.06, and some seeds go beyond the bounds by chance.
#[test]
fn surface_cues_do_not_give_generated_examples_away() {
    let audits = [1, 2, 3, 4].map(|seed| audit(&generate_set(seed, 200, &Task::ALL), AuditOptions::default()));
    for (place, task) in Task::ALL.into_iter().enumerate() {
        let of_task = || audits.iter().map(|audit| &audit.tasks[place]);
        let mean = |value: &dyn Fn(&TaskAudit) -> f64| of_task().map(value).sum::<f64>() / audits.len() as f64;
        let best = |task: &TaskAudit| task.best_constant().unwrap().reward;
        let overlap =
            |task: &TaskAudit| task.baselines.iter().find(|row| row.baseline == Baseline::WordOverlap).unwrap().reward;
        let auc = mean(&|task| task.learned.unwrap().auc.unwrap());
        let learned = mean(&|task| task.learned.unwrap().reward - best(task));
        let words = mean(&|task| overlap(task) - best(task));
        println!("{task}: AUC {auc:.3}, learner {learned:+.3} and word overlap {words:+.3} over the best constant");
        assert!((0.44..0.56).contains(&auc), "{task}: AUC {auc}");
        assert!(learned < 0.05 && words < 0.05, "{task}: {learned:+} {words:+}");
        assert!(of_task().all(|task| task.duplicates + task.unlabelled == 0 && task.verbatim.0 == task.verbatim.1));
    }
}

#[test]
fn a_cue_is_found_where_there_is_one() {
    let mut set = generate_set(22, 60, &[Task::Hallucination]);
    for claim in set.examples.iter_mut().flat_map(|example| &mut example.reference_mistakes) {
        claim.insert_str(0, "Allegedly, ");
    }
    let audit = audit(&set, AuditOptions::default());
    let (learned, best) = (audit.tasks[0].learned.unwrap(), audit.tasks[0].best_constant().unwrap());
    assert!(learned.auc.unwrap() > 0.95 && learned.reward > best.reward + 0.2, "{learned:?} {best:?}");
    assert!(learned.chance_reward < best.reward + 0.1, "{learned:?}");
}

#[test]
fn an_audit_counts_and_repeats() {
    let mut set = generate_set(23, 12, &[Task::Attribution, Task::Relevancy]);
    set.examples.push(Example { id: "again".into(), ..set.examples[0].clone() });
    set.examples[1].mistakes_unknown = true;
    let options = AuditOptions { folds: 2, seed: 1 };
    let audit = super::audit(&set, options);
    assert_eq!(audit, super::audit(&set, options));
    let [relevancy, attribution] = &audit.tasks[..] else { panic!("two tasks") };
    assert_eq!((attribution.examples, attribution.duplicates, attribution.unlabelled), (13, 1, 1));
    assert_eq!((relevancy.examples, relevancy.queries, relevancy.learned), (12, 12, None));
    assert_eq!(attribution.references.iter().sum::<usize>(), 13);
    let claims: usize = attribution.joiners.iter().sum();
    assert_eq!((attribution.joiners[JOINERS.len()], claims), (0, attribution.verbatim.1));
    assert_eq!(serde_json::from_value::<Audit>(serde_json::to_value(&audit).unwrap()).unwrap(), audit);
    let sections = audit.sections();
    assert_eq!(
        sections.iter().filter_map(|section| section.table.as_ref()).map(|table| table.rows.len()).max(),
        Some(2)
    );
}

fn line(id: &str, fields: &str) -> String {
    format!(r#"{{"id":"{id}","rag_context":"Ana sang. Ben slept.",{fields}}}"#)
}

#[test]
fn a_check_finds_everything_with_its_line() {
    let lines = [
        line(
            "a",
            r#""task":"hallucination","llm_response":"Ana sang.","reference":1.0,"reference_true_values":["Ana sang."]"#,
        ),
        line(
            "b",
            r#""task":"hallucination","llm_response":"Ana sang.","reference":1.0,"reference_true_values":["Ana sang."]"#,
        ),
        line(
            "c",
            r#""task":"hallucination","llm_response":"Ana sang.","reference":0.5,"reference_mistakes":["Ana sang.","..."]"#,
        ),
        line("d", r#""task":"attribution","query":"Who?","llm_response":" ","reference":0.5,"mistakes_unknown":true"#),
        line("e", r#""task":"relevancy","llm_response":"Yes.","reference":1.0"#),
        line(
            "f",
            r#""task":"summary_completeness","llm_response":"Ana sang.","reference":1.0,"reference_true_values":["Ana sang."],"reference_mistakes":["Ben slept."]"#,
        ),
    ];
    let (set, found) = check("set.jsonl", &lines.join("\n"));
    assert_eq!(set.examples.len(), 6);
    let mut codes: Vec<_> = found
        .iter()
        .map(|finding| {
            (
                finding.place.as_ref().unwrap().line.unwrap(),
                finding.code.trim_start_matches("examples."),
                finding.severity,
            )
        })
        .collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [
            (2, "duplicate", Severity::Warning),
            (3, "contradiction", Severity::Warning),
            (3, "dots", Severity::Error),
            (3, "not-verbatim", Severity::Warning),
            (3, "reference-labels", Severity::Warning),
            (4, "empty", Severity::Error),
            (4, "query", Severity::Note),
            (4, "unlabelled", Severity::Note),
            (5, "query", Severity::Error),
        ]
    );
}

#[test]
fn generated_examples_are_without_findings() {
    let set = generate_set(24, 60, &Task::ALL);
    assert_eq!(findings(&set.examples), []);
    let (read, found) = check("offline-24.jsonl", &set.write());
    assert_eq!((read, found), (set, vec![]));
}

#[test]
fn training_texts_that_hold_parts_of_an_example_are_named() {
    let set = generate_set(25, 2, &[Task::Hallucination]);
    let words: Vec<_> = set.examples[1].rag_context.split_whitespace().take(30).collect();
    let (copy, other) =
        (format!("So: {} and so on", words.join(" — ").to_uppercase()), generate_set(26, 2, &Task::ALL).write());
    let texts = [("other.txt", other.as_str()), ("copy.txt", copy.as_str())];
    let found = overlap(&set, texts.into_iter(), SHINGLE_WORDS);
    let [overlap_of_one] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (overlap_of_one.id.as_str(), &overlap_of_one.texts[..]),
        (set.examples[1].id.as_str(), &["copy.txt".to_owned()][..])
    );
    assert!(overlap_of_one.shared >= 18 && overlap_of_one.share() < 0.5, "{overlap_of_one:?}");
    assert_eq!(overlap_findings(&found)[0].0, set.examples[1].id);
    assert_eq!(overlap(&set, [("same", set.examples[0].rag_context.as_str())].into_iter(), 0), []);
    let contexts: String = set.examples.iter().map(|example| format!("{}\n", example.rag_context)).collect();
    let all = overlap(&set, [("whole", contexts.as_str())].into_iter(), 5);
    assert!(all.len() == 2 && all.iter().all(|overlap| (0.5..1.0).contains(&overlap.share())), "{all:?}");
}
