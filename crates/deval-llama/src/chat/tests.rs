use std::fs;
use std::time::Duration;

use serde_json::json;

use super::*;

fn render(source: &str, messages: &[Message<'_>]) -> Result<String, LlamaError> {
    let variables = [("bos_token".to_owned(), Value::from("<s>"))].into();
    ChatTemplate::compile(source.to_owned(), variables)?.render(messages, true)
}

const USER: Message<'static> = Message { role: "user", content: "  <b> & 'é'  " };

#[test]
fn blocks_are_trimmed_as_hugging_face_trims_them() {
    let source = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.role == 'user' %}\n\
        [{{ m['content'].strip() }}]\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(render(source, &[USER]).unwrap(), "<s>\n[<b> & 'é']\n");
}

#[test]
fn llama3_style_templates_render() {
    let source = "{% set loop_messages = messages %}{% for message in loop_messages %}\
        {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'\
        + message['content'] | trim + '<|eot_id|>' %}\
        {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
    let expected = "<s><|start_header_id|>user<|end_header_id|>\n\n<b> & 'é'<|eot_id|>\
        <|start_header_id|>assistant<|end_header_id|>\n\n";
    assert_eq!(render(source, &[USER]).unwrap(), expected);
}

#[test]
fn tojson_is_pythons_json_dumps() {
    let text = render("{{ messages | tojson }}", &[USER]).unwrap();
    assert_eq!(text, r#"[{"role": "user", "content": "  <b> & 'é'  "}]"#);
    let text = render("{{ {'a': [1, 2.5], 'b': none} | tojson(indent=2) }}", &[]).unwrap();
    assert_eq!(text, "{\n  \"a\": [\n    1,\n    2.5\n  ],\n  \"b\": null\n}");
    let options = "{{ {'b': [], 'a': 'é😀<'} | tojson(true, separators=[',', ':'], sort_keys=true) }}";
    assert_eq!(render(options, &[]).unwrap(), r#"{"a":"\u00e9\ud83d\ude00<","b":[]}"#);
    assert_eq!(render("{{ [{}, [[]]] | tojson(indent=1) }}", &[]).unwrap(), "[\n {},\n [\n  []\n ]\n]");
}

#[test]
fn templates_can_refuse_and_break_and_ask_for_absent_things() {
    let refused = render("{{ raise_exception('Conversation roles must alternate') }}", &[]).unwrap_err();
    assert!(refused.to_string().contains("roles must alternate"), "{refused}");
    assert_eq!(
        render("{% for m in [1, 2, 3] %}{% if m == 2 %}{% break %}{% endif %}{{ m }}{% endfor %}", &[]).unwrap(),
        "1"
    );
    assert_eq!(render("{{ tools is none }} {{ pad_token is defined }}", &[]).unwrap(), "True False");
    assert!(matches!(render("{% if %}", &[]), Err(LlamaError::Template { .. })));
}

#[test]
fn dates_follow_the_calendar() {
    let at = |days: u64| strftime("%d %b %Y", UNIX_EPOCH + Duration::from_secs(days * 86_400)).unwrap();
    assert_eq!(at(0), "01 Jan 1970");
    assert_eq!(at(11_016), "29 Feb 2000");
    assert_eq!(at(20_779), "22 Nov 2026");
    let all =
        strftime("%a %A %-d %e %j %I%p %y %h %F %T %%", UNIX_EPOCH + Duration::from_secs(11_016 * 86_400 + 47_105));
    assert_eq!(all.unwrap(), "Tue Tuesday 29 29 060 01PM 00 Feb 2000-02-29 13:05:05 %");
    assert!(strftime("%Q", UNIX_EPOCH).is_err());
}

#[test]
fn the_template_is_found_in_all_three_places() {
    let dir = tempfile::tempdir().unwrap();
    let load = || ChatTemplate::load(dir.path()).unwrap().map(|template| template.render(&[], false).unwrap());
    assert_eq!(load(), None);
    let config = dir.path().join("tokenizer_config.json");
    fs::write(&config, json!({"chat_template": "text {{ eos_token }}", "eos_token": {"content": "</s>"}}).to_string())
        .unwrap();
    assert_eq!(load().unwrap(), "text </s>");
    let list = json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": "list"}]);
    fs::write(&config, json!({"chat_template": list}).to_string()).unwrap();
    assert_eq!(load().unwrap(), "list");
    fs::write(&config, json!({"chat_template": {"rag": "no", "default": "object"}}).to_string()).unwrap();
    assert_eq!(load().unwrap(), "object");
    for wrong in [json!([{"name": "rag", "template": "x"}]), json!({"default": 1}), json!(["x"]), json!(3)] {
        fs::write(&config, json!({"chat_template": wrong}).to_string()).unwrap();
        assert!(matches!(ChatTemplate::load(dir.path()), Err(LlamaError::Template { .. })), "{wrong}");
    }
    fs::write(dir.path().join("chat_template.jinja"), "file").unwrap();
    assert_eq!(load().unwrap(), "file");
}
