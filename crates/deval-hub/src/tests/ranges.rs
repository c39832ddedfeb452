//! Parts of files: the right bytes or an error, the token only for the Hub, one `resolve` for each file.

use super::*;

impl Bench {
    /// A published repository, and its weights as they are listed.
    async fn opened(&self) -> (RemoteFiles, RemoteFile) {
        let files = self.client.open(&self.repo, "main").await.unwrap();
        let weights = files.files().iter().find(|file| file.path == "model.safetensors").unwrap().clone();
        self.hub.lock().requests.clear();
        self.hub.lock().tokens.clear();
        (files, weights)
    }
}

#[tokio::test]
async fn ranges_are_the_right_bytes_and_one_resolve_is_enough() {
    let bench = Bench::new().await;
    bench.upload().await.unwrap();
    let (files, weights) = bench.opened().await;
    let whole = bench.hub.lock().bytes["model.safetensors"].clone();
    assert_eq!(weights.size, whole.len() as u64);
    for range in [0..1, 7..4096, 799_999..800_000, 0..800_000, 5..5] {
        let found = files.read(&weights, range.clone()).await.unwrap();
        assert!(found == whole[range.start as usize..range.end as usize], "{range:?}");
    }
    assert_eq!(files.bytes_read(), 1 + 4089 + 1 + 800_000);
    assert_eq!((bench.hub.count("/resolve/c1/"), bench.hub.count("GET /cdn/")), (1, 4), "empty ranges ask nobody");
}

#[tokio::test]
async fn a_range_from_a_foreign_host_carries_no_token() {
    let bench = Bench::new().await;
    bench.upload().await.unwrap();
    let other = FakeHub::start().await;
    other.lock().bytes = bench.hub.lock().bytes.clone();
    bench.hub.lock().cdn = Some(format!("{}/cdn/", other.url.replace("127.0.0.1", "localhost")).leak());
    let (files, weights) = bench.opened().await;
    files.read(&weights, 3..9).await.unwrap();
    files.read(&weights, 0..4).await.unwrap();
    assert_eq!(bench.hub.lock().tokens, [Some("Bearer hf_secret".to_owned())]);
    assert_eq!(other.lock().tokens, [None, None]);
}

#[tokio::test]
async fn an_expired_address_is_asked_for_again_and_a_refusal_is_final() {
    let bench = Bench::new().await;
    bench.upload().await.unwrap();
    let (files, weights) = bench.opened().await;
    files.read(&weights, 0..4).await.unwrap();
    bench.hub.fault("GET /cdn/", Fault::Refuse(403, vec![]));
    files.read(&weights, 4..8).await.unwrap();
    assert_eq!(bench.hub.count("/resolve/c1/"), 2);
    for _ in 0..2 {
        bench.hub.fault("GET /cdn/", Fault::Refuse(403, vec![]));
    }
    let error = files.read(&weights, 4..8).await.unwrap_err();
    assert!(error.status().unwrap().as_u16() == 403 && !error.to_string().contains("Signature"), "{error}");
}

#[tokio::test]
async fn a_broken_answer_is_repeated_and_a_wrong_one_refused() {
    let bench = Bench::new().await;
    bench.upload().await.unwrap();
    let (files, weights) = bench.opened().await;
    bench.hub.fault("GET /cdn/", Fault::DoThenBreak);
    bench.hub.fault("GET /cdn/", Fault::Refuse(503, vec![]));
    files.read(&weights, 0..4).await.unwrap();

    bench.hub.lock().ranges = false;
    for (status, range) in [(206, "bytes 0-3/5"), (206, "bytes 1-4/800000"), (200, "bytes 0-3/800000")] {
        bench.hub.fault("GET /cdn/", Fault::Refuse(status, vec![("content-range", range)]));
        let error = files.read(&weights, 0..4).await.unwrap_err();
        assert!(matches!(&error, HubError::NoRange { found, .. } if found.contains(range)), "{error}");
    }
    // The right header over a body that is not.
    bench.hub.fault("GET /cdn/", Fault::Refuse(206, vec![("content-range", "bytes 0-3/800000")]));
    let error = files.read(&weights, 0..4).await.unwrap_err();
    assert!(error.to_string().contains("a body of 19 bytes instead of bytes 0-3/800000"), "{error}");
    let error = files.read(&weights, 0..4).await.unwrap_err();
    assert!(error.to_string().contains("200 OK, no Content-Range"), "{error}");
    assert_eq!(files.bytes_read(), 4);
}

#[tokio::test]
async fn redirects_that_lead_nowhere_end() {
    let bench = Bench::new().await;
    bench.upload().await.unwrap();
    let (files, weights) = bench.opened().await;
    for _ in 0..9 {
        bench.hub.fault("GET /me/m/resolve", Fault::Refuse(302, vec![("location", "/me/m/resolve/again")]));
    }
    let error = files.read(&weights, 0..4).await.unwrap_err();
    assert!(error.to_string().contains("more than 5 redirects") && bench.hub.count("/resolve/") == 6, "{error}");
    bench.hub.lock().faults.clear();
    bench.hub.fault("GET /me/m/resolve", Fault::Refuse(302, vec![]));
    let error = files.read(&weights, 0..4).await.unwrap_err();
    assert!(error.to_string().contains("without a place to go"), "{error}");
}
