//! The client against the local Hub: real contents, through hf-xet's store and back through hf-hub.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::fetch::contents;
use super::*;

struct Localnet(Child);

impl Drop for Localnet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The Hub's address; `None`, with a message, when the binary was not built beside this test.
fn start(state: &Path) -> Option<(Localnet, String)> {
    let own = std::env::current_exe().unwrap();
    let binary = own.parent().unwrap().parent().unwrap().join("deval-localnet");
    if !binary.is_file() {
        let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|name| name == "localnet"), "deval-localnet is required, and not built");
        eprintln!("skipped: deval-localnet is not built");
        return None;
    }
    let mut command = Command::new(binary);
    command.arg("--state-dir").arg(state).arg("--exit-with-stdin");
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    Some((Localnet(process), ready["hub"].as_str().unwrap().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_again() {
    let bench = Bench::new().await;
    let Some((_localnet, url)) = start(&bench.hub.dir.path().join("net")) else { return };
    let owner =
        HubClient::new(&url, Some(Token::new("hf_localnet").unwrap()), &bench.hub.dir.path().join("work")).unwrap();
    let stranger = HubClient::new(&url, None, &bench.hub.dir.path().join("work")).unwrap();

    let plan = HubClient::plan(&bench.files, &owner.remote_state(&bench.repo).await.unwrap());
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
    assert!(stranger.verify(&bench.repo, &outcome.revision, &bench.files, true).await.unwrap().is_empty());

    let files = stranger.open(&bench.repo, "main").await.unwrap();
    let weights = files.files().iter().find(|file| file.path == "model.safetensors").unwrap();
    let part = files.read(weights, 1000..600_000).await.unwrap();
    assert!(part == copy["model.safetensors"][1000..600_000] && files.bytes_read() == 599_000);
}
