//! The client against the local Hub: real contents, through hf-xet's store and back.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::fetch::contents;
use super::*;

pub(super) struct Localnet(Child);

impl Drop for Localnet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The Hub's address; `None`, with a message, when the binary was not built beside this test.
pub(super) fn start(state: &Path) -> Option<(Localnet, String)> {
    start_with(state, &[])
}

fn start_with(state: &Path, flags: &[&str]) -> Option<(Localnet, String)> {
    let own = std::env::current_exe().unwrap();
    let binary = own.parent().unwrap().parent().unwrap().join("deval-localnet");
    if !binary.is_file() {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "localnet"), "deval-localnet is required, and not built");
        eprintln!("skipped: deval-localnet is not built");
        return None;
    }
    let mut command = Command::new(binary);
    command.arg("--state-dir").arg(state).arg("--exit-with-stdin").args(flags);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    Some((Localnet(process), ready["hub"].as_str().unwrap().to_owned()))
}

/// A client that may write.
fn owner(bench: &Bench, url: &str) -> HubClient {
    HubClient::new(url, Some(Token::new("hf_localnet").unwrap()), &bench.hub.dir.path().join("work")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_again() {
    let bench = Bench::new().await;
    let Some((_localnet, url)) = start(&bench.hub.dir.path().join("net")) else { return };
    let owner = owner(&bench, &url);
    let stranger = HubClient::new(&url, None, &bench.hub.dir.path().join("work")).unwrap();

    let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap(), None);
    let outcome = owner.upload(&bench.repo, &plan, &bench.files, &bench.journal, &|_| {}).await.unwrap();
    assert!(outcome.created && outcome.transferred.sent >= 800_000, "{outcome:?}");
    let RemoteState::Present(found) = owner.remote_state(&bench.repo).await.unwrap() else { panic!("not there") };
    assert!(found.private, "created private");
    let hidden = stranger.fetch(&bench.repo, "main", &bench.copy(), &|_| true, &|_, _| {}).await.unwrap_err();
    assert_eq!(hidden.status().unwrap().as_u16(), 401, "{hidden}");

    owner.set_private(&bench.repo, false).await.unwrap();
    let snapshot = stranger.fetch(&bench.repo, "main", &bench.copy(), &|_| true, &|_, _| {}).await.unwrap();
    assert_eq!(snapshot.revision, outcome.revision);
    let mut copy = contents(&bench.copy());
    assert!(copy.remove(".gitattributes").is_some(), "the Hub's own");
    bench.hub.lock().bytes.remove(".gitattributes");
    assert!(copy == bench.hub.lock().bytes, "{:?}", copy.keys());
    let expected = Expected { revision: &outcome.revision, local: &bench.files, kept: &[] };
    assert_eq!(stranger.verify(&bench.repo, expected, true).await.unwrap().findings, []);
    assert_eq!(stranger.three_answers(&bench.repo).await.unwrap(), 3);

    let files = stranger.open(&bench.repo, "main").await.unwrap();
    let weights = files.files().iter().find(|file| file.path == "model.safetensors").unwrap();
    let part = files.read(weights, 1000..600_000).await.unwrap();
    assert!(part == copy["model.safetensors"][1000..600_000] && files.bytes_read() == 599_000);
}

/// Bytes in which no chunk comes twice.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// More than one xorb holds, chunks that can be packed and chunks that cannot, and some that come again: in the same xorb, in a later
/// one, in another file, and so scattered that they are rather sent again.
#[tokio::test(flavor = "multi_thread")]
async fn files_over_many_xorbs_come_back_whole_and_repetitions_are_sent_once() {
    const MB: usize = 1_000_000;
    let mut bench = Bench::new().await;
    let Some((_localnet, url)) = start(&bench.hub.dir.path().join("net")) else { return };
    let owner = owner(&bench, &url);
    let (first, second) = (noise(1, 40 * MB), noise(2, 10 * MB));
    let packable: Vec<u8> = second.iter().flat_map(|byte| [*byte, 0x3c]).collect();
    let scattered: Vec<u8> =
        first.chunks(MB).zip(second.chunks(MB / 4)).flat_map(|(a, b)| [&a[..MB / 2], b].concat()).collect();
    let zeros = vec![0; 3 * MB];
    let large = [&first[..], &zeros, &packable, &first[..10 * MB], &zeros, &second, &second].concat();
    let new = 40 * MB + packable.len() + second.len();
    bench.files.clear();
    bench.put("model-00001-of-00003.safetensors", &large);
    bench.put("model-00002-of-00003.safetensors", &large[5 * MB..60 * MB]);
    bench.put("model-00003-of-00003.safetensors", &scattered);
    let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap(), None);
    let events = Mutex::new(Vec::new());
    let hear = |event| events.lock().unwrap().push(event);
    let outcome = owner.upload(&bench.repo, &plan, &bench.files, &bench.journal, &hear).await.unwrap();
    let most = new + scattered.len() + 2 * MB;
    assert!((30 * MB..most).contains(&(outcome.transferred.sent as usize)), "{:?} of {most}", outcome.transferred);
    let last = events.into_inner().unwrap().into_iter().rfind(|event| event.bytes_done().is_some());
    let Some(UploadEvent::Transfer { done, total, known, .. }) = last else { panic!("nothing was told") };
    assert!(done == total && known > 0.4, "{done} of {total}, {known} known");
    owner.fetch(&bench.repo, "main", &bench.copy(), &|_| true, &|_, _| {}).await.unwrap();
    let mut copy = contents(&bench.copy());
    copy.remove(".gitattributes");
    assert!(bench.files.iter().all(|file| copy[&file.path] == std::fs::read(&file.source).unwrap()));
}

/// The parts of a completed upload are gone: it cannot be completed again.
#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_upload_whose_last_answer_is_lost_is_found_complete() {
    let mut bench = Bench::new().await;
    let state = bench.hub.dir.path().join("net");
    let Some((_localnet, url)) = start_with(&state, &["--hub-transfer", "multipart"]) else { return };
    let owner = owner(&bench, &url);
    for (number, action) in
        [json!("apply_then_drop"), json!({"apply_then_status": 502}), json!({"status": 500})].into_iter().enumerate()
    {
        let faults = json!([{"method": "POST", "path_contains": "/complete", "times": 1, "action": action}]);
        let set = reqwest::Client::new().put(format!("{url}/_localnet/faults")).json(&faults).send().await.unwrap();
        assert!(set.status().is_success());
        bench.put("model.safetensors", &noise(number as u64, 11_000_000));
        let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap(), None);
        let outcome = owner.upload(&bench.repo, &plan, &bench.files, &bench.journal, &|_| {}).await.unwrap();
        let expected = Expected { revision: &outcome.revision, local: &bench.files, kept: &[] };
        assert_eq!(owner.verify(&bench.repo, expected, false).await.unwrap().findings, [], "{action}");
    }
}

/// Three of four shards stay as they are, and a part of the fourth.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_in_one_of_four_shards_is_sent() {
    const SHARD: usize = 6_000_000;
    let mut bench = Bench::new().await;
    let Some((_localnet, url)) = start(&bench.hub.dir.path().join("net")) else { return };
    let owner = owner(&bench, &url);
    let noise = |seed: u64| noise(seed, SHARD);
    bench.files.clear();
    let shard = |number: usize| format!("model-{number:05}-of-00004.safetensors");
    (1..=4).for_each(|number| bench.put(&shard(number), &noise(number as u64)));
    let publish = async |bench: &Bench| {
        let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap(), None);
        let outcome = owner.upload(&bench.repo, &plan, &bench.files, &bench.journal, &|_| {}).await.unwrap();
        (plan, outcome.transferred)
    };
    let (_, first) = publish(&bench).await;
    assert!(first.total == 4 * SHARD as u64 && first.sent >= first.total, "{first:?}");

    bench.put(&shard(3), &noise(33));
    let (plan, second) = publish(&bench).await;
    assert_eq!((plan.unchanged.len(), plan.bytes), (3, SHARD as u64));
    assert!((SHARD as u64..SHARD as u64 * 21 / 20).contains(&second.sent), "{second:?}");

    let mut bytes = noise(33);
    bytes[SHARD / 2..SHARD / 2 + 1000].fill(1);
    bench.put(&shard(3), &bytes);
    let (plan, third) = publish(&bench).await;
    assert_eq!(plan.bytes, SHARD as u64, "the plan tells the most that can be");
    assert!(third.sent < SHARD as u64 / 10, "of a shard with 1000 new bytes only the chunks around them go: {third:?}");

    let (plan, fourth) = publish(&bench).await;
    assert!(plan.is_empty() && fourth == Transferred::default());
    eprintln!(
        "24 MB in four shards: {} bytes sent; one shard new: {}; 1000 bytes new: {}",
        first.sent, second.sent, third.sent
    );
}

/// The token's account is told before anything is sent.
#[tokio::test(flavor = "multi_thread")]
async fn the_account_of_the_token_is_told() {
    let bench = Bench::new().await;
    let Some((_localnet, url)) = start(&bench.hub.dir.path().join("net")) else { return };
    let client = |token: Option<&str>| {
        HubClient::new(&url, token.map(|t| Token::new(t).unwrap()), bench.hub.dir.path()).unwrap()
    };
    let account = client(Some("hf_localnet")).account().await.unwrap().unwrap();
    assert!(account.may_own(&account.name) && !account.may_own("somebody-else"), "{account:?}");
    assert_eq!(client(None).account().await.unwrap(), None);
    let refused = client(Some("no-token-of-this-hub")).account().await;
    assert!(matches!(&refused, Err(error) if error.status() == Some(reqwest::StatusCode::UNAUTHORIZED)), "{refused:?}");
}

/// What the Hub was asked, as `METHOD path`.
fn asked(net: &Path) -> Vec<String> {
    let journal = std::fs::read_to_string(net.join("hub/journal.jsonl")).unwrap();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{} {}", line["method"].as_str().unwrap(), line["path"].as_str().unwrap())
    };
    journal.lines().map(line).collect()
}

/// hf-xet sends telemetry to a store on the network unless it is told not to.
#[tokio::test(flavor = "multi_thread")]
async fn contents_go_to_the_store_and_nothing_is_told_of_it() {
    let bench = Bench::new().await;
    let net = bench.hub.dir.path().join("net");
    let Some((_localnet, url)) = start(&net) else { return };
    let owner = owner(&bench, &url);
    let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap(), None);
    owner.upload(&bench.repo, &plan, &bench.files, &bench.journal, &|_| {}).await.unwrap();
    let asked = asked(&net);
    assert!(asked.iter().any(|line| line.starts_with("PUT /_cas/uploads/")), "{asked:#?}");
    assert!(!asked.iter().any(|line| line.contains("telemetry")), "{asked:#?}");
}

/// The record of what the store has outlives a store that lost it: nothing is sent, the Hub refuses, and all is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgot_is_filled_again() {
    let bench = Bench::new().await;
    let net = bench.hub.dir.path().join("net");
    let Some((_localnet, url)) = start(&net) else { return };
    let owner = owner(&bench, &url);
    let upload = async || {
        let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap(), None);
        let hear = |event| bench.events.lock().unwrap().push(event);
        owner.upload(&bench.repo, &plan, &bench.files, &bench.journal, &hear).await.unwrap()
    };
    upload().await;
    let (ns, name) = bench.repo.as_str().split_once('/').unwrap();
    let named = json!({"organization": ns, "name": name, "type": "model", "private": true});
    let http = reqwest::Client::new();
    for (method, path) in [(reqwest::Method::DELETE, "delete"), (reqwest::Method::POST, "create")] {
        let request = http.request(method, format!("{url}/api/repos/{path}")).bearer_auth("hf_x").json(&named);
        assert!(request.send().await.unwrap().status().is_success(), "{path}");
    }
    // What the Hub puts together of the chunks after a commit goes too, once it is there.
    let whole = net.join("hub/lfs").join(&bench.files.iter().find(|f| f.path == "model.safetensors").unwrap().sha256);
    while !whole.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for lost in ["hub/cas/xorbs", "hub/lfs"] {
        for file in std::fs::read_dir(net.join(lost)).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
    bench.events.lock().unwrap().clear();
    let outcome = upload().await;
    assert!(bench.events.lock().unwrap().contains(&UploadEvent::SendingAgain), "{:#?}", asked(&net));
    assert!(!outcome.created && outcome.transferred.sent >= 800_000, "{outcome:?}");
    let snapshot = owner.fetch(&bench.repo, "main", &bench.copy(), &|_| true, &|_, _| {}).await.unwrap();
    assert_eq!(snapshot.revision, outcome.revision);
}

/// A `.gitignore` that somebody left in the repository must not make files vanish from the submission.
#[tokio::test(flavor = "multi_thread")]
async fn a_gitignore_in_the_repository_is_told_before_anything_is_sent() {
    let bench = Bench::new().await;
    let net = bench.hub.dir.path().join("net");
    let Some((_localnet, url)) = start(&net) else { return };
    let owner = owner(&bench, &url);
    let (ns, name) = bench.repo.as_str().split_once('/').unwrap();
    let http = reqwest::Client::new();
    let post = async |path: &str, body: String| {
        let request = http.post(format!("{url}/api/{path}")).header("content-type", "application/json");
        let answer = request.bearer_auth("hf_x").body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}");
    };
    let named = json!({"organization": ns, "name": name, "type": "model", "private": true});
    post("repos/create", named.to_string()).await;
    let header = json!({"key": "header", "value": {"summary": "theirs"}});
    let file =
        json!({"key": "file", "value": {"path": ".gitignore", "content": "*.safetensors\n", "encoding": "utf-8"}});
    post(&format!("models/{}/commit/main", bench.repo), format!("{header}\n{file}\n")).await;

    let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap(), None);
    let refused = owner.upload(&bench.repo, &plan, &bench.files, &bench.journal, &|_| {}).await.unwrap_err();
    assert!(matches!(&refused, HubError::Ignored { paths, .. } if paths == &["model.safetensors"]), "{refused}");
    assert!(!asked(&net).iter().any(|line| line.starts_with("PUT /_cas")), "nothing was sent");
}
