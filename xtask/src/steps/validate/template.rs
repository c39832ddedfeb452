//! The chat template, rendered as the validator's transformers would for the pipeline's kind of conversation.

use std::path::Path;

use deval_llama::chat::{ChatTemplate, Message};
use deval_report::Diagnostic;

const CODE: &str = "model.chat-template";

/// Texts that no template has by itself.
const SYSTEM: &str = "Judge what follows. 7f3a";
const USER: &str = "# RAG Context\nAda wrote {the} report & \"sent\" it.\n# LLM Response\nAda did. 9c2e";

/// What is wrong with the template of the model in `model_dir`, which the manifest calls `label`; `None` also when there is none, which
/// is found elsewhere.
pub(super) fn check(model_dir: &Path, label: &str) -> Option<Diagnostic> {
    let own = "chat_template.jinja";
    let file = &format!("{label}/{}", if model_dir.join(own).is_file() { own } else { "tokenizer_config.json" });
    let template = match ChatTemplate::load(model_dir) {
        Ok(template) => template?,
        Err(error) => return Some(unusable("cannot be compiled", &error, file)),
    };
    let conversation = [Message { role: "system", content: SYSTEM }, Message { role: "user", content: USER }];
    let rendered =
        template.render(&conversation, true).and_then(|prompt| Ok((prompt, template.render(&conversation, false)?)));
    let (prompt, closed) = match rendered {
        Ok(rendered) => rendered,
        Err(error) => return Some(unusable("cannot be rendered for a system and a user message", &error, file)),
    };
    faults(&prompt, &closed).map(|finding| finding.in_file(file))
}

fn unusable(what: &str, error: &dyn std::error::Error, file: &str) -> Diagnostic {
    let finding = Diagnostic::error(CODE, format!("the chat template {what}")).in_file(file).found(error.to_string());
    finding.expected("a Jinja template as transformers 4.47.1 renders it").help(HELP)
}

const HELP: &str = "take `chat_template` from the instruct model you started from";

fn faults(prompt: &str, closed: &str) -> Option<Diagnostic> {
    if !prompt.contains(USER) {
        let message = "the chat template leaves out the user's text, or changes it";
        return Some(Diagnostic::error(CODE, message).help(HELP));
    }
    if !prompt.contains(SYSTEM) {
        let message = "the chat template leaves out the system prompt, or changes it";
        return Some(Diagnostic::warning(CODE, message).help(HELP));
    }
    let message = "the chat template does not open the assistant's turn (add_generation_prompt), so the model may go on in the user's";
    (prompt == closed).then(|| Diagnostic::warning(CODE, message).help(HELP))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn checked(template: serde_json::Value) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let config = serde_json::json!({ "bos_token": "<s>", "eos_token": "</s>", "chat_template": template });
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        check(dir.path(), "model").map(|finding| format!("{} {}", finding.severity, finding.message))
    }

    const GOOD: &str = "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] | trim }}{{ eos_token }}{% endfor %}\
                        {% if add_generation_prompt %}<|assistant|>{% endif %}";

    #[test]
    fn sound_templates_have_no_finding() {
        assert_eq!(checked(GOOD.into()), None);
        let named =
            serde_json::json!([{"name": "tool_use", "template": "{{ x.y.z }}"}, {"name": "default", "template": GOOD}]);
        assert_eq!(checked(named), None);
        // transformers' own tag, which plain Jinja does not know.
        let marked =
            GOOD.replace("{{ m['content'] | trim }}", "{%- generation -%}{{ m['content'] }}{% endgeneration %}");
        assert_eq!(checked(marked.into()), None);
    }

    #[test]
    fn templates_that_raise_or_leave_text_out_are_found() {
        for (template, words) in [
            ("{% for m in messages %}", "error the chat template cannot be compiled"),
            ("{{ raise_exception('no system role') }}", "error the chat template cannot be rendered"),
            ("{{ messages[0]['content'].nothing() }}", "error the chat template cannot be rendered"),
            ("{{ messages }}", "error the chat template leaves out the user's text"),
            ("{{ messages[1]['content'] | upper }}", "error the chat template leaves out the user's text"),
            ("{{ messages[1]['content'] }}", "warning the chat template leaves out the system prompt"),
            ("{{ messages[0]['content'] }}{{ messages[1]['content'] }}", "warning the chat template does not open"),
        ] {
            let found = checked(template.into()).unwrap_or_default();
            assert!(found.starts_with(words), "{template}: {found}");
        }
    }

    #[test]
    fn a_template_in_its_own_file_wins_over_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer_config.json"), serde_json::json!({"chat_template": GOOD}).to_string())
            .unwrap();
        fs::write(dir.path().join("chat_template.jinja"), "{{ raise_exception('no') }}").unwrap();
        let finding = check(dir.path(), "model").unwrap();
        assert_eq!(finding.place.unwrap().file, "model/chat_template.jinja");
    }

    #[test]
    fn a_missing_template_is_not_told_twice() {
        assert_eq!(checked(serde_json::Value::Null), None);
    }
}
