//! The client against a Hub that misbehaves on command.

mod fake;
mod fetch;
mod localnet;
mod matrix;
mod ranges;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use sha1::Sha1;
use sha2::Sha256;

use self::fake::{Entry, FakeHub, Fault};
use super::*;
use crate::http::Retry;

pub(crate) fn git_sha1(bytes: &[u8]) -> String {
    let mut sha1 = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    sha1.update(bytes);
    hex::encode(sha1.finalize())
}

/// A fake Hub, a client with short pauses, a journal and a small submission: weights, config, an empty file.
struct Bench {
    hub: FakeHub,
    client: HubClient,
    repo: RepoId,
    journal: Journal,
    files: Vec<LocalFile>,
    events: Mutex<Vec<UploadEvent>>,
}

impl Bench {
    async fn new() -> Self {
        let hub = FakeHub::start().await;
        let client = client(&hub, true);
        let journal = journal(&hub);
        let weights: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut bench = Self { hub, client, repo: repo(), journal, files: Vec::new(), events: Mutex::default() };
        bench.put("model.safetensors", &weights);
        bench.put("config.json", b"{}");
        bench.put("model/__init__.py", b"");
        bench
    }

    fn put(&mut self, path: &str, bytes: &[u8]) {
        let source = self.hub.dir.path().join(path.replace('/', "_"));
        std::fs::write(&source, bytes).unwrap();
        self.hub.lock().bytes.insert(path.to_owned(), bytes.to_vec());
        self.files.retain(|f| f.path != path);
        self.files.push(LocalFile {
            path: path.to_owned(),
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
            git_sha1: git_sha1(bytes),
            stamp: Stamp::of(&source).unwrap(),
            source,
        });
    }

    async fn plan(&self) -> UploadPlan {
        HubClient::plan(&self.files, &self.client.remote_state(&self.repo).await.unwrap(), None)
    }

    async fn carry_out(&self, plan: &UploadPlan) -> Result<UploadOutcome, HubError> {
        let hear = |event| self.events.lock().unwrap().push(event);
        self.client.upload(&self.repo, plan, &self.files, &self.journal, &hear).await
    }

    async fn upload(&self) -> Result<UploadOutcome, HubError> {
        self.carry_out(&self.plan().await).await
    }

    async fn verify(&self, revision: &str, anonymous: bool) -> Verified {
        let expected = Expected { revision, local: &self.files, kept: &[] };
        self.client.verify(&self.repo, expected, anonymous).await.unwrap()
    }

    async fn findings(&self, revision: &str, anonymous: bool) -> Vec<String> {
        let found = self.verify(revision, anonymous).await;
        found
            .findings
            .iter()
            .map(|d| format!("{} {}", d.code, d.place.as_ref().map_or("", |p| &p.file)).trim().to_owned())
            .collect()
    }

    /// Exactly one Hub commit holds exactly the submission.
    async fn assert_published(&self, outcome: &UploadOutcome) {
        assert_eq!(self.hub.commits(), 1);
        assert_eq!(self.findings(&outcome.revision, false).await, [""; 0]);
        assert!(self.plan().await.is_empty());
    }
}

fn journal(hub: &FakeHub) -> Journal {
    let subject = Subject {
        hub: hub.url.clone(),
        repo: "me/m".to_owned(),
        chain: "local/202".to_owned(),
        listing: "of the test".to_owned(),
    };
    Journal::open(&hub.dir.path().join("journal"), subject).unwrap()
}

fn repo() -> RepoId {
    RepoId::parse("me/m").unwrap()
}

fn client(hub: &FakeHub, token: bool) -> HubClient {
    let token = token.then(|| Token::new("hf_secret").unwrap());
    let mut client = HubClient::new(&hub.url, token, &hub.dir.path().join("work")).unwrap();
    client.api.retry = Retry { base: Duration::from_millis(10), ..Retry::default() };
    client
}

fn entry(size: u64) -> Entry {
    Entry { size, oid: "0".repeat(64), lfs: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_privately_once_and_then_has_nothing_to_do() {
    let bench = Bench::new().await;
    let outcome = bench.upload().await.unwrap();
    assert!(outcome.created && !outcome.nothing_to_do);
    assert_eq!(outcome.transferred.total, 800_000);
    assert!(outcome.transferred.sent >= 800_000 && outcome.transferred.sent < 900_000, "{outcome:?}");
    assert!(bench.hub.lock().repo.as_ref().unwrap().private);
    bench.assert_published(&outcome).await;
    assert!(bench.events.lock().unwrap().contains(&UploadEvent::Committing));
    let steps: Vec<_> = bench.journal.records().iter().map(|r| (r.effect, r.phase)).collect();
    let both = |effect| [(effect, Phase::Intent), (effect, Phase::Outcome)];
    assert_eq!(steps, [both(Effect::Create), both(Effect::Transfer), both(Effect::HubCommit)].concat());

    let plan = bench.plan().await;
    let before = bench.hub.count("");
    let again = bench.carry_out(&plan).await.unwrap();
    assert!(again.nothing_to_do && !again.created && again.revision == outcome.revision);
    assert_eq!(bench.hub.count(""), before, "nothing to do needs no request");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_sent_and_leftovers_go_in_the_same_commit() {
    let mut bench = Bench::new().await;
    bench.upload().await.unwrap();
    bench.put("config.json", b"{\"a\": 1}");
    bench.put("added.txt", b"x");
    bench.files.retain(|f| f.path != "model/__init__.py");
    let plan = bench.plan().await;
    assert_eq!((plan.adds.len(), plan.unchanged.as_slice()), (2, &["model.safetensors".to_owned()][..]));
    assert_eq!(plan.deletes, ["model/__init__.py"]);
    let outcome = bench.carry_out(&plan).await.unwrap();
    assert_eq!((bench.hub.commits(), outcome.transferred), (2, Transferred::default()));
    assert_eq!(bench.findings(&outcome.revision, false).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_never_makes_a_second_commit() {
    for fault in [Fault::DoThenAnswer(502), Fault::DoThenAnswer(504), Fault::DoThenBreak, Fault::DoThenAnswer(412)] {
        let bench = Bench::new().await;
        bench.hub.fault("/commit/main", fault);
        let outcome = bench.upload().await.unwrap();
        bench.assert_published(&outcome).await;
        assert_eq!(bench.hub.count("/commit/main"), 1, "the tree told that it had succeeded");
        assert_eq!(bench.journal.pending(Effect::HubCommit), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_limits_and_failures_are_waited_for() {
    let waits = vec![("ratelimit", "\"api\";r=0;t=1")];
    for (status, headers, least) in [
        (409, vec![], Duration::ZERO),
        (503, vec![], Duration::ZERO),
        (429, vec![("retry-after", "1")], Duration::from_secs(1)),
        (429, waits, Duration::from_secs(1)),
    ] {
        let bench = Bench::new().await;
        bench.hub.fault("/commit/main", Fault::Refuse(status, headers.clone()));
        bench.hub.fault("/preupload/main", Fault::Refuse(503, vec![]));
        let begin = Instant::now();
        let outcome = bench.upload().await.unwrap();
        assert!(begin.elapsed() >= least, "{status}");
        bench.assert_published(&outcome).await;
        assert_eq!(bench.hub.count("/commit/main"), 2);
        assert_eq!(bench.hub.count("/xet-write-token/"), 1, "waiting does not send contents again");
        let waits = bench.events.lock().unwrap().iter().filter(|e| matches!(e, UploadEvent::Waiting { .. })).count();
        assert_eq!(waits, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_refusals_are_never_repeated() {
    for status in [400, 401, 403, 404, 413, 422] {
        for step in ["/repos/create", "/preupload/", "/info/lfs/", "/xet-write-token/", "/commit/main"] {
            let bench = Bench::new().await;
            bench.hub.fault(step, Fault::Refuse(status, vec![("x-error-message", "said no")]));
            let error = bench.upload().await.unwrap_err();
            assert_eq!(error.status().unwrap().as_u16(), status, "{step}: {error}");
            assert!(error.to_string().contains("said no") && error.to_string().contains(&bench.hub.url), "{error}");
            assert_eq!((bench.hub.count(step), bench.hub.commits()), (1, 0), "{step} {status}");
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_failure_ends() {
    let bench = Bench::new().await;
    (0..20).for_each(|_| bench.hub.fault("/commit/main", Fault::Refuse(503, vec![])));
    let error = bench.upload().await.unwrap_err();
    assert_eq!((error.status().unwrap().as_u16(), bench.hub.count("/commit/main")), (503, 6));
    assert!(bench.journal.pending(Effect::HubCommit).is_some());
    bench.hub.lock().faults.clear();
    let outcome = bench.upload().await.unwrap();
    bench.assert_published(&outcome).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_after_the_commit_finds_it_done() {
    let bench = Bench::new().await;
    bench.hub.fault("/commit/main", Fault::DoThenAnswer(400));
    bench.upload().await.unwrap_err();
    assert!(bench.journal.pending(Effect::HubCommit).is_some());
    let outcome = bench.upload().await.unwrap();
    assert!(outcome.nothing_to_do);
    assert_eq!(bench.journal.pending(Effect::HubCommit), None);
    bench.assert_published(&outcome).await;
}

/// What a kill leaves behind is what the Hub had taken in, and what the journal holds on disk.
#[tokio::test(flavor = "multi_thread")]
async fn stopped_at_any_request_and_run_again_it_makes_one_commit() {
    let mut stopped = 0;
    for (at, carried_out) in (1..).flat_map(|at| [(at, false), (at, true)]) {
        let mut bench = Bench::new().await;
        bench.hub.lock().hang = Some((at, carried_out));
        let hung = bench.hub.lock().hung.clone();
        let completed = tokio::select! {
            outcome = bench.upload() => Some(outcome.unwrap()),
            () = hung.notified() => None,
        };
        if let Some(outcome) = completed {
            bench.hub.lock().hang = None;
            bench.assert_published(&outcome).await;
            break;
        }
        stopped += 1;
        bench.hub.lock().hang = None;
        let Bench { hub, client: _, repo, journal: old, files, events } = bench;
        drop(old);
        bench = Bench { client: client(&hub, true), journal: journal(&hub), hub, repo, files, events };
        let outcome = bench.upload().await.unwrap();
        bench.assert_published(&outcome).await;
        assert!(bench.journal.pending(Effect::HubCommit).is_none() && bench.hub.lock().repo.as_ref().unwrap().private);
    }
    assert_eq!(stopped, 2 * 9, "state, create, state (3), preupload, LFS batch, Xet token, Hub commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_commit_stops_the_upload() {
    let bench = Bench::new().await;
    bench.hub.seed(true, &[]);
    let plan = bench.plan().await;
    bench.hub.seed(true, &[("theirs.bin", entry(5000))]);
    let error = bench.carry_out(&plan).await.unwrap_err();
    assert!(matches!(&error, HubError::HeadMoved { found, .. } if found == "seeded"), "{error}");
    assert!(error.to_string().contains("`theirs.bin` is new"), "{error}");
    assert_eq!(bench.hub.commits(), 1, "theirs stands");

    let bench = Bench::new().await;
    let plan = bench.plan().await;
    bench.hub.seed(true, &[("theirs.bin", entry(5000))]);
    let error = bench.carry_out(&plan).await.unwrap_err();
    assert!(matches!(&error, HubError::HeadMoved { planned, .. } if planned == "no repository"), "{error}");

    let bench = Bench::new().await;
    let plan = bench.plan().await;
    bench.hub.seed(false, &[]);
    let error = bench.carry_out(&plan).await.unwrap_err();
    assert!(
        matches!(error, HubError::Visibility { private: true, .. }),
        "weights do not go to a repository found public"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_moved_without_changing_a_file_is_built_upon() {
    let bench = Bench::new().await;
    bench.hub.seed(true, &[]);
    let plan = bench.plan().await;
    let same = bench.hub.lock().repo.as_ref().unwrap().commits[0].1.clone();
    bench.hub.lock().repo.as_mut().unwrap().commits.push(("theirs".to_owned(), same));
    let outcome = bench.carry_out(&plan).await.unwrap();
    assert_eq!(
        (bench.hub.commits(), bench.hub.count("/xet-write-token/")),
        (2, 1),
        "theirs and ours; nothing sent twice"
    );
    assert_eq!(bench.findings(&outcome.revision, false).await, [""; 0]);
}

/// A Hub that creates asynchronously, or another client that creates at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_in_the_making_is_waited_for() {
    let bench = Bench::new().await;
    bench.hub.fault(
        "/repos/create",
        Fault::Refuse(409, vec![("x-error-message", "a conflicting operation is in progress")]),
    );
    let outcome = bench.upload().await.unwrap();
    bench.assert_published(&outcome).await;
    let bench = Bench::new().await;
    bench.hub.fault("/repos/create", Fault::Refuse(429, vec![("ratelimit", "\"api\";r=0;t=1")]));
    let begin = Instant::now();
    bench.assert_published(&bench.upload().await.unwrap()).await;
    assert!(begin.elapsed() >= Duration::from_secs(1), "the wait that the Hub asks for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_xet_gets_the_weights_by_lfs() {
    for transfer in ["basic", "multipart"] {
        let bench = Bench::new().await;
        bench.hub.lock().transfer = transfer;
        bench.hub.fault("PUT /lfs/", Fault::Refuse(503, vec![]));
        bench.hub.fault("PUT /lfs/", Fault::DoThenBreak);
        let outcome = bench.upload().await.unwrap();
        bench.assert_published(&outcome).await;
        assert_eq!((outcome.transferred.total, outcome.transferred.sent), (800_000, 800_000));
        let puts = if transfer == "basic" { 1 } else { 3 };
        assert_eq!((bench.hub.count("PUT /lfs/"), bench.hub.count("/verify")), (puts + 2, 1), "{transfer}");
        assert_eq!(bench.hub.count("/complete"), usize::from(transfer == "multipart"));
        assert_eq!(bench.hub.count("/xet-write-token/"), 0);

        let mut again = bench;
        again.put("config.json", b"{\"a\":1}");
        again.hub.lock().repo.as_mut().unwrap().commits.truncate(1);
        let outcome = again.upload().await.unwrap();
        assert_eq!((outcome.transferred.sent, again.hub.count("PUT /lfs/")), (0, puts + 2), "the store has it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_the_store_lost_are_sent_once_more_and_then_told() {
    let message = "LFS pointer pointed to a file that does not exist: model.safetensors";
    let refuse = || Fault::Refuse(400, vec![("x-error-message", message)]);
    let bench = Bench::new().await;
    bench.hub.fault("/commit/main", refuse());
    let outcome = bench.upload().await.unwrap();
    bench.assert_published(&outcome).await;
    assert!(bench.events.lock().unwrap().contains(&UploadEvent::SendingAgain));
    assert_eq!(bench.hub.count("/xet-write-token/"), 2);

    let bench = Bench::new().await;
    (0..2).for_each(|_| bench.hub.fault("/commit/main", refuse()));
    let error = bench.upload().await.unwrap_err();
    assert!(matches!(error, HubError::LostContents { .. }), "{error}");
    assert!(error.to_string().contains("another repository name"), "{error}");
    assert_eq!((bench.hub.count("/commit/main"), bench.hub.commits()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_half_is_published_and_the_other_stays() {
    let mut bench = Bench::new().await;
    bench.put("model/pipeline.py", b"v1");
    bench.upload().await.unwrap();
    bench.put("model/pipeline.py", b"v2");
    bench.put("config.json", b"{\"not\":\"sent\"}");
    let state = bench.client.remote_state(&bench.repo).await.unwrap();
    let plan = HubClient::plan(&bench.files, &state, Some(Half::Pipeline));
    assert_eq!(plan.adds.iter().map(|add| add.path.as_str()).collect::<Vec<_>>(), ["model/pipeline.py"]);
    let half: Vec<LocalFile> = bench.files.iter().filter(|f| Half::Pipeline.owns(&f.path)).cloned().collect();
    let outcome = bench.client.upload(&bench.repo, &plan, &half, &bench.journal, &|_| {}).await.unwrap();
    let expected = Expected { revision: &outcome.revision, local: &half, kept: &plan.kept };
    assert_eq!(bench.client.verify(&bench.repo, expected, false).await.unwrap().findings, []);
    assert_eq!(bench.findings(&outcome.revision, false).await, ["hub.size config.json"]);
    bench.hub.lock().repo.as_mut().unwrap().commits.last_mut().unwrap().1.remove("model.safetensors");
    let verified = bench.client.verify(&bench.repo, expected, false).await.unwrap();
    assert_eq!(verified.findings[0].code, "hub.other-half");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_create_is_no_error() {
    let bench = Bench::new().await;
    bench.hub.fault("/repos/create", Fault::DoThenBreak);
    let outcome = bench.upload().await.unwrap();
    bench.assert_published(&outcome).await;
    assert_eq!(bench.hub.count("/repos/create"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_never_sent_inside_the_commit() {
    let bench = Bench::new().await;
    bench.hub.lock().transfer = "carrier-pigeon";
    let error = bench.upload().await.unwrap_err();
    assert!(matches!(&error, HubError::Transfer { transfer: t, .. } if t == "carrier-pigeon"), "{error}");
    assert_eq!((bench.hub.count("/commit/main"), bench.hub.count("/xet-write-token/")), (0, 0));
    let mut bench = Bench::new().await;
    bench.hub.lock().lfs_from = u64::MAX;
    bench.put("big.bin", &vec![1; 10_000_001]);
    let error = bench.upload().await.unwrap_err();
    assert!(matches!(&error, HubError::TooBigToInline { path, .. } if path == "big.bin"), "{error}");
    assert_eq!(bench.hub.commits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_after_hashing_is_not_committed() {
    for name in ["model.safetensors", "config.json"] {
        let bench = Bench::new().await;
        let mut bytes = std::fs::read(bench.hub.dir.path().join(name)).unwrap();
        bytes[1] ^= 1;
        std::fs::write(bench.hub.dir.path().join(name), bytes).unwrap();
        let error = bench.upload().await.unwrap_err();
        assert!(matches!(&error, HubError::Changed { path } if path.ends_with(name)), "{error}");
        assert_eq!(bench.hub.commits(), 0);
    }
    let mut bench = Bench::new().await;
    bench.put("ignored", b"x");
    assert!(matches!(bench.upload().await, Err(HubError::Ignored { paths, .. }) if paths == ["ignored"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_every_difference() {
    let mut bench = Bench::new().await;
    let outcome = bench.upload().await.unwrap();
    bench.put("config.json", b"[]");
    bench.put("model.safetensors", b"short");
    bench.put("new.txt", b"n");
    bench.files.retain(|f| f.path != "model/__init__.py");
    let expected = [
        "hub.head-moved",
        "hub.digest config.json",
        "hub.size model.safetensors",
        "hub.missing new.txt",
        "G16 model/__init__.py",
    ];
    assert_eq!(bench.findings("other", false).await, expected);
    assert_eq!(bench.findings(&outcome.revision, false).await, expected[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_verify_sees_what_a_validator_sees() {
    let bench = Bench::new().await;
    let revision = bench.upload().await.unwrap().revision;
    assert_eq!(bench.findings(&revision, true).await, ["G10"]);
    bench.client.set_private(&bench.repo, false).await.unwrap();
    assert_eq!(bench.findings(&revision, true).await, [""; 0]);
    assert_eq!(bench.hub.commits(), 1, "visibility moves no Hub commit");

    bench.hub.lock().tokens.clear();
    bench.hub.lock().repo.as_mut().unwrap().gated = json!("manual");
    bench.hub.lock().contents = false;
    assert_eq!(bench.findings(&revision, true).await, ["G24", "hub.unreadable model.safetensors"]);
    assert!(bench.hub.lock().tokens.iter().all(Option::is_none), "no token in an anonymous check");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_redirect_hosts_are_named_and_get_no_token() {
    let bench = Bench::new().await;
    let revision = bench.upload().await.unwrap().revision;
    bench.client.set_private(&bench.repo, false).await.unwrap();
    let other = FakeHub::start().await;
    other.lock().bytes = bench.hub.lock().bytes.clone();
    let base = format!("{}/cdn/", other.url.replace("127.0.0.1", "localhost"));
    bench.hub.lock().cdn = Some(base.leak());
    let verified = bench.verify(&revision, true).await;
    let found = &verified.findings;
    assert_eq!((found.len(), found[0].code.as_str(), found[0].found.as_deref()), (1, "G23", Some("localhost")));
    assert!(verified.is_ok() && verified.hosts.keys().eq(["localhost"]));
    bench.verify(&revision, false).await;
    assert_eq!((other.count("GET /cdn/"), other.lock().tokens.iter().flatten().count()), (2, 0));
}

#[tokio::test]
async fn states_and_errors_are_told_apart() {
    let hub = FakeHub::start().await;
    assert_eq!(client(&hub, true).remote_state(&repo()).await.unwrap(), RemoteState::Missing);
    assert_eq!(client(&hub, false).remote_state(&repo()).await.unwrap(), RemoteState::Missing);
    hub.fault("GET /api/models", Fault::Refuse(401, vec![]));
    let error = client(&hub, true).remote_state(&repo()).await.unwrap_err();
    assert!(error.to_string().contains("set HUGGINGFACE_TOKEN"), "{error}");
    hub.fault("GET /api/models", Fault::Refuse(307, vec![("location", "/api/models/Me/m")]));
    let error = client(&hub, true).remote_state(&repo()).await.unwrap_err();
    assert!(error.to_string().contains("spelled differently"), "{error}");
    hub.seed(true, &[("a.bin", entry(5000))]);
    let RemoteState::Present(found) = client(&hub, true).remote_state(&repo()).await.unwrap() else { panic!() };
    assert_eq!((found.head.as_deref(), found.private, found.total_size()), (Some("seeded"), true, 5003));
    assert_eq!(found.files[1].digest, Digest::Sha256("0".repeat(64)));
}

#[tokio::test]
async fn a_hub_that_is_down_is_said_to_be_down() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let work = tempfile::tempdir().unwrap();
    let client = HubClient::new(&format!("http://127.0.0.1:{port}"), None, work.path()).unwrap();
    let begin = Instant::now();
    let error = client.remote_state(&repo()).await.unwrap_err();
    assert!(matches!(&error, HubError::Down { .. }), "{error:?}");
    assert!(
        error.to_string().contains(&format!("http://127.0.0.1:{port} is down or unreachable (Connection refused")),
        "{error}"
    );
    assert!(begin.elapsed() < Duration::from_secs(5));
}
