use deval_report::{Network, render};
use proptest::prelude::*;

use super::*;
use crate::{
    Axon, Backend, Chain, Container, Evaluate, Fill, Gpu, Hub, NetworkAccess, Package, PromptKey, Prompts, Reading,
    Submission, Until, Wallet,
};

const GOOD: &str = "schema = 1\n[submission]\nmodel_url = \"a/b\"\nmodel_dir = \"m\"\n";

fn findings(text: &str) -> String {
    parse(text, "deval.toml").diagnostics.iter().map(render::diagnostic).collect()
}

#[test]
fn the_smallest_manifest_has_working_defaults() {
    let parsed = parse(GOOD, "deval.toml");
    assert!(parsed.diagnostics.is_empty());
    let manifest = parsed.manifest.expect("valid");
    assert_eq!(manifest.evaluate.examples_per_task, 30);
    assert_eq!(manifest.submission.network, deval_report::Network::Local);
}

#[test]
fn every_finding_at_once_each_with_its_place() {
    let text = "schema = 1\ncolour = 1\n[submission]\nmodel_url = 7\nmodel_dir = \"m\"\nnetwork = \"mars\"\n\
                [evaluate]\nexamples_per_task = \"many\"\nseeed = 1\n[axon]\nport = 99999\n";
    let parsed = parse(text, "deval.toml");
    let places: Vec<_> =
        parsed.diagnostics.iter().map(|d| (d.code.as_str(), d.place.as_ref().and_then(|p| p.line))).collect();
    assert_eq!(
        places,
        [
            ("manifest.unknown-key", Some(2)),
            ("manifest.value", Some(4)),
            ("manifest.value", Some(6)),
            ("manifest.value", Some(8)),
            ("manifest.unknown-key", Some(9)),
            ("manifest.value", Some(11)),
        ],
        "{}",
        findings(text)
    );
}

#[test]
fn a_missing_key_names_its_table() {
    let text = findings("schema = 1\n[submission]\nmodel_dir = \"m\"\n");
    assert!(text.contains("missing field `model_url`"), "{text}");
    assert!(text.contains("deval.toml:2:1"), "{text}");
}

#[test]
fn a_newer_schema_is_one_clear_finding() {
    let text = findings("schema = 9\nfuture_key = 1\n");
    assert_eq!(text.matches("error[").count(), 1, "{text}");
    assert!(text.contains("newer than this program") && text.contains("schema = 9"), "{text}");
}

#[test]
fn values_out_of_range_are_found_with_their_place() {
    let text = findings(&format!("{GOOD}[evaluate]\nexamples_per_task = 0\n[axon]\nport = 80\n"));
    assert!(text.contains("deval.toml:6:21") && text.contains("1 to 1000"), "{text}");
    assert!(text.contains("deval.toml:8:8") && text.contains("1025 to 65534"), "{text}");
    for value in ["-1", "99999999999"] {
        let text = findings(&format!("{GOOD}[container]\nmemory_gib = {value}\n"));
        assert!(text.contains("a whole number from 0 to 4294967295") && text.contains("deval.toml:6:14"), "{text}");
    }
}

#[test]
fn a_wallet_is_named_and_not_its_path() {
    for name in ["../coldkey", "a/b", "/etc/passwd", "..", ""] {
        let text = findings(&format!("{GOOD}[wallet]\nhotkey = \"{name}\"\n"));
        assert!(text.contains("deval.toml:6:10") && text.contains("a name without `/`"), "{text}");
    }
}

#[test]
fn an_external_address_has_one_source_and_the_monitor_follows_the_port() {
    let text = findings(&format!("{GOOD}[axon]\nexternal_ip = \"192.0.2.1\"\nexternal_interface = \"eth0\"\n"));
    assert!(text.contains("deval.toml:7:") && text.contains("one of the two"), "{text}");
    let monitor = |keys: &str| parse(&format!("{GOOD}[axon]\n{keys}"), "deval.toml").manifest.unwrap().axon.monitor();
    assert_eq!(monitor("port = 9000\n").to_string(), "127.0.0.1:9001");
    assert_eq!(monitor("monitor = \"[::1]:7\"\n").to_string(), "[::1]:7");
    assert!(findings(&format!("{GOOD}[axon]\nmonitor = \"9000\"\n")).contains("deval.toml:6:11"));
}

#[test]
fn syntax_errors_have_a_place() {
    let text = findings("schema = \n[submission\n");
    assert!(text.contains("manifest.syntax") && text.contains("deval.toml:1:"), "{text}");
}

#[test]
fn places_of_keys_are_known() {
    let parsed = parse(GOOD, "deval.toml");
    assert_eq!(parsed.place("submission.model_url").map(ToString::to_string).as_deref(), Some("deval.toml:3:13"));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["\\PC{0,30}", "[a-z/~.\"'\\\\\n\t\u{0}-\u{1f}é]{0,20}"]
}

fn submission() -> impl Strategy<Value = (Submission, Wallet, Package)> {
    let network = prop_oneof![Just(Network::Local), Just(Network::Test), Just(Network::Finney)];
    let submission = (text(), text(), text(), network).prop_map(|(model_url, model_dir, pipeline_dir, network)| {
        Submission { model_url, model_dir, pipeline_dir, network }
    });
    let name = || text().prop_map(|text| format!("w{}", text.replace('/', "")));
    let wallet = (text(), name(), name()).prop_map(|(path, name, hotkey)| Wallet { path, name, hotkey });
    let package = (prop::collection::vec(text(), 0..4), any::<bool>())
        .prop_map(|(ignore, obfuscate)| Package { ignore, obfuscate });
    (submission, wallet, package)
}

fn evaluate() -> impl Strategy<Value = Evaluate> {
    let reading = prop_oneof![Just(Reading::Generate), Just(Reading::Constrained), Just(Reading::Likelihood)];
    let until = prop_oneof![Just(Until::All), Just(Until::Settled)];
    // TOML's integers end at 2^63 - 1.
    let numbers = (1..=1000_u32, 0..=i64::MAX as u64, 1..=4096_u32, 1..=100_u32, 0.0..=0.49);
    let embedder = prop_oneof![
        Just((None, None)),
        text().prop_map(|folder| (Some(folder), None)),
        text().prop_map(|repo| (None, Some(repo)))
    ];
    let backend = prop_oneof![Just(Backend::Native), Just(Backend::Container)];
    let device = prop::sample::select(vec!["auto", "cpu", "cuda:1"]);
    ((backend, device), reading, until, numbers, prop::option::of(text()), embedder, prompts()).prop_map(
        |((backend, device), reading, until, numbers, examples, embedder, prompts)| {
            let (examples_per_task, seed, max_new_tokens, samples, label_noise) = numbers;
            let (embedder_dir, embedder_repo) = embedder;
            Evaluate {
                backend,
                reading,
                device: device.to_owned(),
                until,
                examples_per_task,
                seed,
                max_new_tokens,
                samples,
                label_noise,
                examples,
                embedder_dir,
                embedder_repo,
                prompts,
            }
        },
    )
}

fn prompts() -> impl Strategy<Value = Prompts> {
    let fill = prop::option::of(prop_oneof![Just(Fill::Format), Just(Fill::Fields)]);
    let names = prop::collection::btree_map(prop::sample::select(PromptKey::ALL.to_vec()), text(), 0..3);
    let optional = || prop::option::of(text());
    let patterns = (optional(), optional());
    let stops = prop::option::of(prop::collection::vec(text(), 0..3));
    (text(), optional(), names, fill, optional(), stops, patterns, optional()).prop_map(
        |(source, file, names, fill, system, stop_tokens, (score_pattern, mistake_pattern), date)| Prompts {
            source,
            file,
            names,
            fill,
            system,
            stop_tokens,
            score_pattern,
            mistake_pattern,
            date,
        },
    )
}

fn container() -> impl Strategy<Value = Container> {
    let gpu = prop_oneof![Just(Gpu::Auto), Just(Gpu::All), Just(Gpu::None), any::<u32>().prop_map(Gpu::Count)];
    let network = prop_oneof![Just(NetworkAccess::Closed), Just(NetworkAccess::Open)];
    (text(), prop::option::of(text()), gpu, 1..=4096_u32, network)
        .prop_map(|(image_dir, base, gpu, memory_gib, network)| Container { image_dir, base, gpu, memory_gib, network })
}

fn axon() -> impl Strategy<Value = Axon> {
    let external = prop_oneof![
        Just((None, None)),
        any::<std::net::IpAddr>().prop_map(|ip| (Some(ip), None)),
        "[a-z]{1,8}[0-9]".prop_map(|interface| (None, Some(interface)))
    ];
    let monitor = prop::option::of(any::<(std::net::IpAddr, u16)>().prop_map(std::net::SocketAddr::from));
    (any::<std::net::IpAddr>(), 1025..=65534_u16, external, monitor).prop_map(
        |(ip, port, (external_ip, external_interface), monitor)| Axon {
            ip,
            port,
            external_ip,
            external_interface,
            monitor,
        },
    )
}

/// Every manifest that is valid.
fn manifest() -> impl Strategy<Value = Manifest> {
    let ends = (prop::option::of(text()), prop::option::of(text()));
    (submission(), evaluate(), container(), ends, axon()).prop_map(
        |((submission, wallet, package), evaluate, container, ends, axon)| {
            let (hub, chain) = (Hub { endpoint: ends.0 }, Chain { endpoint: ends.1 });
            Manifest { schema: SCHEMA, submission, wallet, package, evaluate, container, hub, chain, axon }
        },
    )
}

proptest! {
    #[test]
    fn a_manifest_that_is_written_is_read_as_the_same(manifest in manifest()) {
        let text = toml::to_string(&manifest).unwrap();
        let parsed = parse(&text, "deval.toml");
        prop_assert!(parsed.diagnostics.is_empty(), "{text}\n{:?}", parsed.diagnostics);
        prop_assert_eq!(parsed.manifest, Some(manifest));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzz::manifest(&bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        crate::fuzz::manifest(text.as_bytes());
    }

    #[test]
    fn no_broken_manifest_makes_it_panic(at in 0..GOOD.len(), junk in "[\\[\\]={}\"'.\\n0-9a-z]{0,12}") {
        crate::fuzz::manifest(format!("{}{junk}{}", &GOOD[..at], &GOOD[at..]).as_bytes());
    }
}
