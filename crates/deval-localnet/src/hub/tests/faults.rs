//! What the fault script does to clients, and what the journal tells of it.

use super::*;

/// A Hub with this script, and a repository `me/m` with the file `n.txt` of the ten digits.
async fn scripted(state: &Path, faults: Value) -> Served {
    let hub = Served::start(state, json!([])).await;
    hub.create("m", false).await;
    let lines = [header(None), text_file("n.txt", "0123456789")];
    assert_eq!(hub.commit("me/m", &lines).await.unwrap().status(), StatusCode::OK);
    replace(&hub, faults).await;
    hub
}

async fn replace(hub: &Served, faults: Value) {
    let answer = hub.anonymous(Method::PUT, "/_localnet/faults").json(&faults).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

async fn read(hub: &Served) -> reqwest::Result<Vec<u8>> {
    let answer = hub.anonymous(Method::GET, "/me/m/resolve/main/n.txt").send().await?;
    assert_eq!(value_of(&answer, "content-length"), "10");
    Ok(answer.bytes().await?.to_vec())
}

#[tokio::test]
async fn the_nth_request_is_struck_with_headers_and_body() {
    let state = TempDir::new().unwrap();
    let limit = json!({"code": 429, "headers": {"Retry-After": "7"}, "error_code": "Slow", "message": "slow down"});
    let faults = json!([{"path_contains": "/api/models/", "skip": 1, "times": 2, "action": {"status": limit}}]);
    let hub = scripted(state.path(), faults).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let answer = hub.anonymous(Method::GET, "/api/models/me/m").send().await.unwrap();
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            let told = ["retry-after", "x-error-code", "x-error-message"].map(|name| value_of(&answer, name));
            assert_eq!(told, ["7", "Slow", "slow down"]);
        }
        seen.push(answer.status().as_u16());
    }
    assert_eq!(seen, [200, 429, 429, 200]);
    let journal = std::fs::read_to_string(state.path().join("journal.jsonl")).unwrap();
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let struck: Vec<&Value> = lines.iter().filter(|line| line["fault"] == "status").collect();
    assert_eq!(struck.len(), 2);
    assert_eq!((&struck[0]["status"], &struck[0]["caller"]), (&json!(429), &json!("anonymous")));
    assert!(!journal.contains(TOKEN) && !journal.contains("_localnet"));
}

#[tokio::test]
async fn answers_are_cut_spoilt_and_slowed() {
    let state = TempDir::new().unwrap();
    let hub = scripted(state.path(), json!([{"path_contains": "n.txt", "action": {"truncate": 4}}])).await;
    let broken = read(&hub).await.unwrap_err();
    assert!(broken.is_body() || broken.is_decode(), "{broken:?}");
    assert_eq!(read(&hub).await.unwrap(), b"0123456789");

    replace(&hub, json!([{"method": "GET", "path_contains": "n.txt", "action": {"corrupt": 3}}])).await;
    assert_eq!(read(&hub).await.unwrap(), b"0122456789");

    replace(&hub, json!([{"path_contains": "n.txt", "action": {"slow": {"bytes": 1, "every_ms": 20}}}])).await;
    let started = Instant::now();
    assert_eq!(read(&hub).await.unwrap(), b"0123456789");
    assert!(started.elapsed() >= Duration::from_millis(200));

    replace(&hub, json!([{"path_contains": "n.txt", "action": "hang"}])).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), read(&hub)).await.is_err());
    assert_eq!(read(&hub).await.unwrap(), b"0123456789");
}

#[tokio::test]
async fn a_lock_applies_nothing_and_a_late_gateway_answers_after_the_deed() {
    let state = TempDir::new().unwrap();
    let at_commit = |action: Value| json!([{"method": "POST", "path_contains": "/commit/", "action": action}]);
    let hub = scripted(state.path(), at_commit(json!("lock"))).await;
    let lines = [header(None), text_file("n.txt", "x")];
    let locked = hub.commit("me/m", &lines).await.unwrap();
    assert_eq!(locked.status(), StatusCode::CONFLICT);
    assert!(value_of(&locked, "x-error-message").starts_with("Another commit operation is in progress"));
    assert_eq!(hub.history("me/m").await.len(), 2);
    replace(&hub, at_commit(json!({"apply_then_status": 502}))).await;
    assert_eq!(hub.commit("me/m", &lines).await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!(hub.history("me/m").await.len(), 3);
}

#[test]
fn a_script_that_is_none_is_refused() {
    for (text, words) in [
        (r#"[{"action": {"status": "x"}}]"#, "did not match any variant"),
        (r#"[{"path": "/", "action": "drop"}]"#, "unknown field `path`"),
        (r#"[{"path_contains": "/"}]"#, "missing field `action`"),
    ] {
        let error = serde_json::from_str::<Vec<Fault>>(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
