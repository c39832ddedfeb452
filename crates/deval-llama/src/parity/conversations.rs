//! Conversations, and the templates that they are put into.

use serde_json::{Value, json};

/// A template and the settings beside it.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// `tokenizer_config.json` without the class.
    pub(super) settings: Value,
    /// `chat_template.jinja`.
    pub(super) file: Option<&'static str>,
}

const TURNS: &str = "{% for message in messages %}<|{{ message['role'] }}|>{{ message.content }}{% endfor %}";

const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const LLAMA3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}\
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/// The shape of Llama 3.1's: a date, a system turn that is always there, tools.
const LLAMA31: &str = r#"{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message is taken out, so that it stands at the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

const STRICT: &str = "{{ bos_token }}{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant') }}\
{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'].strip() + ' [/INST]' }}\
{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'].rstrip() + eos_token }}\
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}";

const MACROS: &str = r#"{%- macro turn(role, content) -%}
<{{ role | upper }}>{{ content | replace('\n', ' / ') | title }}</{{ role }}>
{%- endmacro %}
{%- set ns = namespace(count=0, seen=[]) %}
{% for message in messages if message.role != 'system' %}
    {%- set ns.count = ns.count + 1 %}
    {{ turn(message.role, message.content) }} {# a comment #}
    {% generation %}{{ loop.index }}/{{ loop.length }} {{ loop.last }}{% endgeneration %}
    {% if ns.count >= 3 %}{% break %}{% endif %}
{% else %}
    nobody
{% endfor %}
{{ ns.count }} {{ messages | length }} {{ messages[-1]['content'][:12] }} {{ messages | map(attribute='role') | join(', ') }}
"#;

const JSON: &str = "{{ messages | tojson }}\n{{ messages | tojson(indent=2) }}\n{{ {'b': 1.5, 'a': [none, true, 'é<&>']} | tojson(sort_keys=true) }}\
{{ messages[0] }} {{ [1, 'a', none, true, 2.0] }} {{ tools }} {{ additional_special_tokens }} {{ pad_token is defined }}";

const PYTHON: &str = "{% for message in messages %}{% set text = message['content'] %}\
{% if text.startswith('  ') %}[{{ text.lstrip().lower() }}]{% elif text.endswith('?') %}({{ text.split(' ')[-1] }})\
{% elif 'Ω' in text %}{{ text.find('Ω') }}{% else %}{{ text.replace('a', 'A').title() }}{% endif %}|\
{{ message.get('name', 'no one') }}{% for key, value in message.items() %} {{ key }}={{ value | length }}{% endfor %}\n{% endfor %}\
{{- strftime_now('%Y-%m') if strftime_now is defined else 'never' }}";

/// Every way in which a model folder can carry a template.
pub(super) fn cases() -> Vec<Case> {
    let roles = json!({"bos_token": "<s>", "pad_token": null,
        "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": false, "rstrip": false, "single_word": false, "normalized": false},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]});
    let with = |template: Value| {
        let mut settings = roles.clone();
        settings["chat_template"] = template;
        settings
    };
    let plain = |name, template: &str| Case { name, settings: with(json!(template)), file: None };
    let named = json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]);
    vec![
        plain("turns", TURNS),
        plain(
            "lines",
            "{{ bos_token }}\r\nA\rB {{ 'x\r\ny' }}\r\n{% for m in messages %}\r\n{{ m.content }}{% endfor %}\r\n",
        ),
        plain("chatml", CHATML),
        plain("llama3", LLAMA3),
        plain("llama31", LLAMA31),
        plain("strict", STRICT),
        plain("macros", MACROS),
        plain("json", JSON),
        plain("python", PYTHON),
        Case { name: "list", settings: with(named), file: None },
        Case { name: "object", settings: with(json!({"rag": "no", "default": LLAMA3})), file: None },
        Case { name: "no-default", settings: with(json!([{"name": "rag", "template": "x"}])), file: None },
        Case {
            name: "own-file",
            settings: with(json!("not this")),
            file: Some("{{ bos_token }}own\n{{ messages[-1].content }}\n\n"),
        },
        Case { name: "broken", settings: with(json!("{% if %}")), file: None },
    ]
}

/// Conversations as lists of role and content; without a role, whether the answer's turn is opened.
pub(super) fn conversations() -> Vec<(Vec<(&'static str, String)>, bool)> {
    let texts = [
        "Hello",
        "  leading and trailing  ",
        "line\nbreak\n\n",
        "What?",
        "{{ braces }} {% raw %} and \"quotes\" 'single'",
        "<|im_end|> <s> </s> [INST]",
        "Ünïcödé Ω 漢字 🙂 e\u{301}",
        "",
        "a\tb\r\nc",
        "<b>&amp;</b>",
    ];
    let mut conversations = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let next = texts[(at + 3) % texts.len()].to_owned();
        let user = ("user", (*text).to_owned());
        conversations.push((vec![user.clone()], true));
        conversations.push((vec![("system", next.clone()), user.clone()], true));
        let answered = vec![user.clone(), ("assistant", next.clone())];
        conversations.push((answered.clone(), false));
        let again = [("system", next), user.clone(), ("assistant", "Yes.".to_owned()), user];
        conversations.push((again.to_vec(), at % 2 == 0));
        conversations.push(([answered.clone(), answered].concat(), true));
    }
    conversations
}
