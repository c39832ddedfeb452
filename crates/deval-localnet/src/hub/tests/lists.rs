//! Pages, quotas, who may what, and uploads over LFS.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    hub: HubOptions,
}

async fn served(state: &Path, flags: &[&str]) -> Served {
    let Flags { hub } = Flags::parse_from([&["hub"], flags].concat());
    Served::start_with(state, json!([]), hub).await
}

#[tokio::test]
async fn lists_come_in_pages_that_lead_to_each_other() {
    let state = TempDir::new().unwrap();
    let hub = served(state.path(), &["--hub-page-size", "3"]).await;
    hub.create("m", false).await;
    for number in 0..6 {
        let lines = [header(None), text_file(&format!("d/{number}.txt"), "x")];
        assert_eq!(hub.commit("me/m", &lines).await.unwrap().status(), StatusCode::OK);
    }
    let first = hub.get("/api/models/me/m/tree/main?recursive=true&expand=true").await;
    assert_eq!(first.as_array().unwrap().len(), 3);
    let all = hub.all("/api/models/me/m/tree/main?recursive=true&expand=true").await;
    let paths: Vec<&str> = all.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [".gitattributes", "d", "d/0.txt", "d/1.txt", "d/2.txt", "d/3.txt", "d/4.txt", "d/5.txt"]);
    assert!(all.iter().all(|entry| entry["lastCommit"]["id"].is_string()), "every page keeps the query");
    assert_eq!(hub.history("me/m").await.len(), 7);
    assert_eq!(hub.get("/api/models/me/m/commits/main?cursor=99").await, json!([]));
}

#[tokio::test]
async fn who_asks_too_often_waits_for_the_next_window() {
    let state = TempDir::new().unwrap();
    let hub = served(state.path(), &["--hub-quota", "2"]).await;
    let ask = || hub.user(Method::GET, "/api/whoami-v2").send();
    let seen = [ask().await.unwrap(), ask().await.unwrap(), ask().await.unwrap()];
    assert_eq!(seen.each_ref().map(|answer| answer.status().as_u16()), [200, 200, 429]);
    assert!(value_of(&seen[1], "ratelimit").starts_with("\"api\";r=0;t="));
    assert_eq!(value_of(&seen[2], "ratelimit-policy"), "\"fixed window\";\"api\";q=2;w=5");
    let stranger = hub.anonymous(Method::GET, "/api/models/me/m").send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED, "a caller of its own");
    let wait = value_of(&seen[2], "ratelimit").rsplit('=').next().unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn roles_strangers_gates_and_disabled_repositories() {
    let state = TempDir::new().unwrap();
    let hub = served(state.path(), &[]).await;
    hub.create("hidden", true).await;
    hub.create("gated", false).await;
    let gate = hub.user(Method::PUT, "/api/models/me/gated/settings").json(&json!({ "gated": "auto" }));
    assert_eq!(gate.send().await.unwrap().status(), StatusCode::OK);
    let ask = async |token: &str, method: Method, path: &str| {
        let answer =
            hub.anonymous(method, path).bearer_auth(token).json(&json!({ "private": false, "name": "x" })).send();
        let answer = answer.await.unwrap();
        let code = answer.headers().get("x-error-code").map_or("", |code| code.to_str().unwrap()).to_owned();
        (answer.status().as_u16(), code)
    };
    let (settings, file) = ("/api/models/me/hidden/settings", "/me/gated/resolve/main/.gitattributes");
    for (token, method, path, expected) in [
        ("hf_read1", Method::GET, "/api/models/me/hidden", (200, "")),
        ("hf_read1", Method::PUT, settings, (403, "")),
        ("hf_stranger", Method::GET, "/api/models/me/hidden", (404, "RepoNotFound")),
        ("hf_stranger", Method::GET, "/api/models/me/gated", (200, "")),
        ("hf_stranger", Method::GET, file, (403, "GatedRepo")),
        ("hf_read1", Method::GET, file, (200, "")),
        ("hf_stranger", Method::PUT, "/api/models/me/gated/settings", (403, "")),
        ("hf_stranger", Method::POST, "/api/repos/create", (403, "")),
    ] {
        let found = ask(token, method.clone(), path).await;
        assert_eq!((found.0, found.1.as_str()), expected, "{token} {method} {path}");
    }
    let who = hub.anonymous(Method::GET, "/api/whoami-v2").bearer_auth("hf_read1").send().await.unwrap();
    assert_eq!(who.json::<Value>().await.unwrap()["auth"]["accessToken"]["role"], "read");
    let anonymous = hub.anonymous(Method::GET, file).send().await.unwrap();
    assert_eq!(
        (anonymous.status(), value_of(&anonymous, "x-error-code").as_str()),
        (StatusCode::UNAUTHORIZED, "GatedRepo")
    );

    let path = state.path().join("repos/me/gated/settings.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"disabled\": false", "\"disabled\": true");
    std::fs::write(&path, text).unwrap();
    let disabled = hub.anonymous(Method::GET, "/api/models/me/gated").send().await.unwrap();
    assert_eq!(disabled.status(), StatusCode::FORBIDDEN);
    assert_eq!(value_of(&disabled, "x-error-message"), "Access to this resource is disabled.");

    let gone = hub.user(Method::DELETE, "/api/repos/delete").json(&json!({ "name": "hidden", "organization": "me" }));
    assert_eq!(gone.send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(ask(TOKEN, Method::GET, "/api/models/me/hidden").await.0, 404);
    assert_eq!(hub.create("hidden", true).await, StatusCode::OK);
}

async fn batch(hub: &Served, transfers: Value, bytes: &[u8]) -> Value {
    let object = json!({ "oid": sha256(bytes), "size": bytes.len() });
    let body = json!({ "operation": "upload", "transfers": transfers, "objects": [object] });
    let answer = hub.user(Method::POST, "/me/m.git/info/lfs/objects/batch").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

fn lfs_line(path: &str, bytes: &[u8]) -> Value {
    json!({ "key": "lfsFile", "value": { "path": path, "algo": "sha256", "oid": sha256(bytes), "size": bytes.len() } })
}

#[tokio::test]
async fn lfs_files_come_whole_or_in_parts() {
    let state = TempDir::new().unwrap();
    let hub = served(state.path(), &["--hub-transfer", "multipart", "--hub-cdn-host", "localhost"]).await;
    hub.create("m", false).await;
    let (small, large) = (noise(1000), noise((5 << 20) + 7));
    let whole = batch(&hub, json!(["basic", "multipart", "xet"]), &small).await;
    assert_eq!(whole["transfer"], "multipart");
    let href = whole["objects"][0]["actions"]["upload"]["href"].as_str().unwrap().to_owned();
    let put = |url: &str, bytes: &[u8]| hub.client.put(url).body(bytes.to_vec()).send();
    assert_eq!(put(&href, b"something else").await.unwrap().status(), StatusCode::BAD_REQUEST);
    let early = hub.commit("me/m", &[header(None), lfs_line("small.bin", &small)]).await.unwrap();
    assert_eq!(early.status(), StatusCode::BAD_REQUEST);
    assert_eq!(put(&href, &small).await.unwrap().status(), StatusCode::OK);
    let again = batch(&hub, json!(["basic"]), &small).await;
    assert_eq!(again["objects"][0]["actions"], Value::Null, "it is there");
    let verify = whole["objects"][0]["actions"]["verify"]["href"].as_str().unwrap();
    for (bytes, size, status) in [(&small, 1000, 200), (&small, 999, 400), (&large, large.len(), 404)] {
        let object = json!({ "oid": sha256(bytes), "size": size });
        let answer = hub.client.post(verify).bearer_auth(TOKEN).json(&object).send().await.unwrap();
        assert_eq!(answer.status(), status, "{size}");
    }

    let parts = batch(&hub, json!(["basic", "multipart"]), &large).await;
    let upload = &parts["objects"][0]["actions"]["upload"];
    assert_eq!((&upload["header"]["chunk_size"], &upload["header"]["00003"]), (&json!("5242880"), &Value::Null));
    let mut done = Vec::new();
    for (number, bytes) in (1..).zip(large.chunks(5 << 20)) {
        let part = put(upload["header"][format!("{number:05}")].as_str().unwrap(), bytes).await.unwrap();
        done.push(json!({ "partNumber": number, "etag": value_of(&part, "etag") }));
    }
    let complete = |parts: &[Value]| {
        let body = json!({ "oid": sha256(&large), "parts": parts });
        hub.client.post(upload["href"].as_str().unwrap()).json(&body).send()
    };
    assert_eq!(complete(&done[..1]).await.unwrap().status(), StatusCode::BAD_REQUEST, "a part is missing");
    assert_eq!(complete(&done).await.unwrap().status(), StatusCode::OK);
    let verify = parts["objects"][0]["actions"]["verify"]["href"].as_str().unwrap();
    let verified =
        hub.client.post(verify).bearer_auth(TOKEN).json(&json!({ "oid": sha256(&large), "size": large.len() }));
    assert_eq!(verified.send().await.unwrap().status(), StatusCode::OK);
    let lines = [header(None), lfs_line("small.bin", &small), lfs_line("large.bin", &large)];
    assert_eq!(hub.commit("me/m", &lines).await.unwrap().status(), StatusCode::OK);

    let head = hub.anonymous(Method::HEAD, "/me/m/resolve/main/large.bin").send().await.unwrap();
    assert_eq!(head.headers().get("x-xet-hash"), None);
    let cdn = value_of(&head, LOCATION.as_str());
    assert!(cdn.starts_with("http://localhost:"), "{cdn}");
    assert!(hub.client.get(&cdn).send().await.unwrap().bytes().await.unwrap() == large);
}
