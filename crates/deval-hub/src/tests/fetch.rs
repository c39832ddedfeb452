//! The way back, and what is kept from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

/// Every file below `dir`, by path.
pub(super) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

impl Bench {
    async fn published() -> Self {
        let bench = Self::new().await;
        bench.upload().await.unwrap();
        bench.client.set_private(&bench.repo, false).await.unwrap();
        bench.hub.lock().tokens.clear();
        bench
    }

    pub(super) fn copy(&self) -> PathBuf {
        self.hub.dir.path().join("copy")
    }

    async fn fetch(&self, token: bool) -> Result<Fetched, HubError> {
        client(&self.hub, token).fetch(&self.repo, "main", &self.copy(), &|_| true, &|_, _| {}).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_equal_and_needs_no_token() {
    let bench = Bench::published().await;
    let heard = Mutex::new(Vec::new());
    let hear = |done, total| heard.lock().unwrap().push((done, total));
    let anonymous = client(&bench.hub, false);
    let snapshot = anonymous.fetch(&bench.repo, "main", &bench.copy(), &|_| true, &hear).await.unwrap();
    assert_eq!((snapshot.revision.as_str(), snapshot.files.len()), ("c1", 4));
    assert_eq!(contents(&bench.copy()), bench.hub.lock().bytes);
    assert_eq!(std::fs::read_dir(bench.copy()).unwrap().count(), 4, "no other directory is left");
    assert_eq!(heard.lock().unwrap().last(), Some(&(800_005, 800_005)));
    assert!(bench.hub.lock().tokens.iter().all(Option::is_none));

    let asked = bench.hub.count("GET /cdn/");
    let again = anonymous.fetch(&bench.repo, "main", &bench.copy(), &|_| true, &hear).await.unwrap();
    assert_eq!((again.kept, again.received, bench.hub.count("GET /cdn/")), (800_005, 0, asked), "it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_wanted_is_downloaded() {
    let bench = Bench::published().await;
    let wanted = |path: &str| path == "config.json";
    let fetched = client(&bench.hub, false).fetch(&bench.repo, "main", &bench.copy(), &wanted, &|_, _| {}).await;
    assert_eq!(fetched.unwrap().files.len(), 1);
    assert_eq!(contents(&bench.copy()).into_keys().collect::<Vec<_>>(), ["config.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_never_appears() {
    for path in ["model.safetensors", "config.json"] {
        let bench = Bench::published().await;
        bench.hub.lock().bytes.get_mut(path).unwrap()[1] ^= 1;
        let error = bench.fetch(true).await.unwrap_err();
        assert!(matches!(&error, HubError::Corrupt { path: found, .. } if found == path), "{error}");
        assert!(!bench.copy().join(path).exists());
        bench.hub.lock().bytes.get_mut(path).unwrap()[1] ^= 1;
        bench.fetch(true).await.unwrap();
        assert_eq!(contents(&bench.copy()), bench.hub.lock().bytes, "the damaged bytes were thrown away");
    }
    for path in ["../evil", "/tmp/evil", "a/../../evil", "a//b", "./a", ".deval-fetch/x"] {
        let bench = Bench::new().await;
        bench.hub.seed(false, &[(path, entry(5))]);
        let error = bench.fetch(true).await.unwrap_err();
        assert!(error.to_string().contains("it lists") && !bench.copy().exists(), "{error}");
    }
}

/// A repository with one file of five parts, the last of them short.
async fn large() -> (Bench, Vec<u8>) {
    let bench = Bench::new().await;
    let bytes: Vec<u8> = (0..8_500_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let oid = hex::encode(Sha256::digest(&bytes));
    bench.hub.seed(false, &[("d/big.bin", Entry { size: bytes.len() as u64, oid, lfs: true })]);
    bench.hub.lock().bytes.insert("d/big.bin".to_owned(), bytes.clone());
    (bench, bytes)
}

/// Lets the third part fail for good, so that two are there.
async fn broken_off() -> (Bench, Vec<u8>) {
    let (bench, bytes) = large().await;
    bench.hub.lock().refuse_range = Some("bytes=16777216-25165823");
    let error = bench.fetch(false).await.unwrap_err();
    assert_eq!(error.status().unwrap().as_u16(), 404, "{error}");
    assert!(!bench.copy().join("d").exists() && is_unfinished(&bench.copy()));
    bench.hub.lock().refuse_range = None;
    bench.hub.lock().asked_ranges.clear();
    (bench, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_asks_for_the_missing_parts_only() {
    let (bench, bytes) = broken_off().await;
    let heard = Mutex::new(Vec::new());
    let hear = |done, total| heard.lock().unwrap().push((done, total));
    let fetched = client(&bench.hub, false).fetch(&bench.repo, "main", &bench.copy(), &|_| true, &hear).await.unwrap();
    let asked = bench.hub.lock().asked_ranges.clone();
    assert!(asked.contains(&"bytes=16777216-25165823".to_owned()) && asked.len() <= 3, "{asked:?}");
    assert_eq!(fetched.resumed + fetched.received, bytes.len() as u64, "{fetched:?}");
    assert!(fetched.resumed >= 16 << 20 && fetched.damaged == 0, "{fetched:?}");
    assert!(std::fs::read(bench.copy().join("d/big.bin")).unwrap() == bytes && !is_unfinished(&bench.copy()));
    let heard = heard.lock().unwrap();
    assert!(heard.is_sorted() && heard[1].0 >= fetched.resumed, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_damaged_meanwhile_is_downloaded_again() {
    let (bench, bytes) = broken_off().await;
    let unfinished = contents(&bench.copy().join(".deval-fetch"));
    let name =
        unfinished.keys().find(|name| !name.ends_with(".parts") && unfinished[*name].len() == bytes.len()).unwrap();
    let mut damaged = unfinished[name].clone();
    damaged[5] ^= 1;
    std::fs::write(bench.copy().join(".deval-fetch").join(name), damaged).unwrap();
    let fetched = bench.fetch(false).await.unwrap();
    assert_eq!(fetched.damaged, 8 << 20, "{fetched:?}");
    assert!(bench.hub.lock().asked_ranges.contains(&"bytes=0-8388607".to_owned()));
    assert!(std::fs::read(bench.copy().join("d/big.bin")).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_foreign_is_touched() {
    let bench = Bench::published().await;
    let copy = bench.copy();
    std::fs::create_dir(&copy).unwrap();
    for (path, text, words) in [
        ("notes.txt", "mine", "holds `notes.txt`"),
        ("model/__init__.py/x", "mine", "holds `model/__init__.py`"),
        ("config.json", "{]", "is there already, with git sha1"),
        ("config.json", "longer than it", "is there already, with 14 bytes instead of 2 bytes"),
    ] {
        let file = copy.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        let before = contents(&copy);
        let error = bench.fetch(false).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(contents(&copy), before);
        std::fs::remove_dir_all(&copy).unwrap();
    }
    // A folder that leads elsewhere.
    let elsewhere = bench.hub.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::create_dir(&copy).unwrap();
    std::os::unix::fs::symlink(&elsewhere, copy.join("model")).unwrap();
    let error = bench.fetch(false).await.unwrap_err();
    assert!(matches!(&error, HubError::NotEmpty { found, .. } if found == "model"), "{error}");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_download_is_repeated_and_a_lost_one_told_without_its_secret() {
    let bench = Bench::published().await;
    bench.hub.fault("GET /cdn/model.safetensors", Fault::DoThenBreak);
    bench.hub.fault("GET /cdn/model.safetensors", Fault::Refuse(503, vec![]));
    bench.hub.fault("GET /me/m/resolve/c1/config.json", Fault::Refuse(429, vec![("retry-after", "1")]));
    let begin = Instant::now();
    bench.fetch(true).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1), "a 429 is waited out");
    assert_eq!(contents(&bench.copy()), bench.hub.lock().bytes);

    let bench = Bench::published().await;
    bench.hub.lock().contents = false;
    let error = bench.fetch(true).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert_eq!(error.status().unwrap().as_u16(), 404);
    assert!(text.contains("/cdn/") && !text.contains("Signature") && !text.contains("hf_secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_from_a_foreign_host_carries_no_token() {
    let bench = Bench::published().await;
    let other = FakeHub::start().await;
    other.lock().bytes = bench.hub.lock().bytes.clone();
    bench.hub.lock().cdn = Some(format!("{}/cdn/", other.url.replace("127.0.0.1", "localhost")).leak());
    bench.fetch(true).await.unwrap();
    assert!(other.count("GET /cdn/") == 3 && other.lock().tokens.iter().all(Option::is_none));
    let tokens = bench.hub.lock().tokens.clone();
    assert!(tokens.iter().all(|token| token.as_deref() == Some("Bearer hf_secret")), "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_change_of_visibility_does_not_reach_another_repository() {
    let bench = Bench::published().await;
    let to = vec![("location", "/api/models/me/other/settings")];
    bench.hub.fault("PUT /api/models/me/m/settings", Fault::Refuse(307, to));
    let error = bench.client.set_private(&bench.repo, true).await.unwrap_err();
    assert!(error.to_string().contains("spelled differently"), "{error}");
    assert_eq!(bench.hub.count("/me/other/"), 0);
}

/// Clients of the Hub read their environment, which holds traps in this process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the inner half of nothing_of_the_users_own_is_used, which starts it"]
async fn with_a_users_environment() {
    let bench = Bench::published().await;
    bench.fetch(false).await.unwrap();
    let stranger = client(&bench.hub, false);
    stranger.set_private(&bench.repo, false).await.unwrap();
    let created = crate::visibility::create_private(&stranger.api, &bench.repo, &|_, _| {}).await;
    assert!(matches!(created, Ok(false)), "{created:?}");
    let tokens = bench.hub.lock().tokens.clone();
    assert!(tokens.len() > 10 && tokens.iter().all(Option::is_none), "{tokens:?}");
}

#[test]
fn nothing_of_the_users_own_is_used() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "hf_from_home").unwrap();
    let token_file = home.path().join("other-token");
    std::fs::write(&token_file, "hf_from_path").unwrap();
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"] {
        let inner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::fetch::with_a_users_environment", "--ignored", "--nocapture"])
            .env_remove("HF_HUB_DISABLE_IMPLICIT_TOKEN")
            .env_remove("HF_TOKEN")
            .env_remove("HF_TOKEN_PATH")
            .env("HF_HOME", home.path())
            .env("HF_ENDPOINT", "http://127.0.0.1:1")
            .env("HTTP_PROXY", "http://127.0.0.1:1")
            .env("HF_HUB_USER_AGENT_ORIGIN", "someone")
            .envs(
                (name != "HF_HOME")
                    .then(|| (name, if name == "HF_TOKEN" { "hf_from_env".as_ref() } else { token_file.as_os_str() })),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let shown = format!("{}{}", String::from_utf8_lossy(&inner.stdout), String::from_utf8_lossy(&inner.stderr));
        assert!(inner.status.success() && shown.contains("1 passed"), "{name}: {shown}");
    }
    let left: Vec<_> = contents(home.path()).into_keys().collect();
    assert_eq!(left, ["other-token", "token"], "nothing is written to the user's cache");
}
