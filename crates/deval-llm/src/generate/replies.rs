//! Which replies are fit for a task.

use serde_json::Value;

/// Whether a text can be a claim or a summary: one of dots alone would make the validator raise, an empty one cannot be found.
pub(super) fn is_sound(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// The reply if all these fields are sound texts, else an empty one, which counts as unusable.
pub(super) fn checked(reply: String, fields: &[&str]) -> String {
    let parsed: Value = serde_json::from_str(&reply).unwrap_or_default();
    let is_fit = fields.iter().all(|field| parsed.get(field).and_then(Value::as_str).is_some_and(is_sound));
    if is_fit { reply } else { String::new() }
}

/// The topics that a reply lists; none where it is no such list.
pub(super) fn topics(reply: &str) -> Vec<String> {
    let parsed: Value = serde_json::from_str(reply).unwrap_or_default();
    let topics = parsed.get("key_topics").and_then(Value::as_array);
    let texts = topics.into_iter().flatten().filter_map(Value::as_str);
    texts.filter(|topic| is_sound(topic)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_claim_is_unusable() {
        let fit = |reply: &str| !checked(reply.to_owned(), &["context", "claim"]).is_empty();
        assert!(fit(r#"{"context": "c", "claim": "é", "more": 1}"#));
        for bad in
            [r#"{"context": "c", "claim": "..."}"#, r#"{"context": "c"}"#, r#"{"context": 1, "claim": "c"}"#, "c", "[]"]
        {
            assert!(!fit(bad), "{bad}");
        }
    }

    #[test]
    fn topics_are_texts() {
        assert_eq!(topics(r#"{"key_topics": ["a", 1, "", "b"]}"#), ["a", "b"]);
        assert_eq!([topics("{}"), topics(r#"{"key_topics": "a"}"#), topics("no")], [[""; 0]; 3]);
    }
}
