use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{asked_of, is_public, of_interface};

/// Answers one request with this text.
async fn answering(status: &str, text: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    });
    format!("http://{address}/?key=secret")
}

#[tokio::test]
async fn a_named_server_tells_the_address_and_nothing_else_is_taken_for_one() {
    let told = asked_of(&answering("200 OK", "203.0.113.9\n").await).await.unwrap();
    assert_eq!(told.to_string(), "203.0.113.9");
    let told = asked_of(&answering("200 OK", "2001:db8::1").await).await.unwrap();
    assert_eq!(told.to_string(), "2001:db8::1");
    let long = "1".repeat(5000);
    for (status, text, reason) in
        [("200 OK", "<html>", "which is no address"), ("200 OK", &long, "longer than"), ("500 Oh", "1.2.3.4", "500")]
    {
        let error = asked_of(&answering(status, text).await).await.unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("127.0.0.1") && error.contains("--external-ip"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(asked_of("no url").await.is_err());
}

#[test]
fn an_interface_tells_its_own_address_or_why_not() {
    for name in ["nosuchif0", "lo"] {
        let error = of_interface(name).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")) && error.contains("axon.external_ip"), "{error}");
        assert!(error.contains(" lo"), "the interfaces are named: {error}");
    }
    let others = std::fs::read_dir("/sys/class/net").into_iter().flatten().map_while(Result::ok);
    for name in others.map(|entry| entry.file_name().into_string().unwrap()) {
        assert!(of_interface(&name).map_or(true, |address| !address.is_loopback()), "{name}");
    }
}

#[test]
fn addresses_that_validators_cannot_reach_are_known() {
    let public = ["1.1.1.1", "203.0.113.9", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"];
    let other = ["10.0.0.1", "172.16.5.5", "192.168.1.2", "100.64.0.1", "169.254.1.1", "127.0.0.1", "0.0.0.0"];
    assert!(public.iter().all(|address| is_public(address.parse().unwrap())));
    assert!(
        !other
            .iter()
            .chain(&["fd00::1", "fe80::1", "::1", "::ffff:10.0.0.1", "224.0.0.1"])
            .any(|a| is_public(a.parse().unwrap()))
    );
}
