//! The axon under a hostile hand: ports that are taken, a manifest and a receipt that break while it serves, IPv6, keys in endpoints.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    thread,
    time::Duration,
};

use deval_chain::{Client, KeyPair};
use deval_report::Network;

use crate::{
    harness::Project,
    serving::{Serving, committed, free_port, set_axon},
    way::Localnet,
};

fn taken() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

fn announced(project: &Project, hotkey: &str) -> Option<SocketAddr> {
    let localnet = Localnet::start(project);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let axon = runtime.block_on(async {
        let chain = Client::connect(&localnet.chain, Network::Local).await.expect("it listens");
        chain.axon(202, hotkey).await.expect("it can be read")
    });
    axon.map(|axon| SocketAddr::new(axon.ip, axon.port))
}

fn hotkey(project: &Project) -> String {
    let root = project.path("wallets");
    deval_chain::Wallet::open(&root, "demo", "default", |_| None).expect("it was made").hotkey_ss58()
}

fn ask(address: SocketAddr, hotkey: &str) -> u16 {
    let key = KeyPair::from_uri("//Bob//vali").expect("a key");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let asked = deval_axon::query(address, hotkey, &key, Duration::from_secs(5));
    runtime.block_on(asked).map_or(0, |reply| u16::try_from(reply.status_code).expect("a status"))
}

#[test]
fn a_taken_port_is_told_before_anything_is_announced() {
    let project = committed();
    let ((_holder, held), free) = (taken(), free_port());
    for (port, monitor, of) in [(held, free, "cannot listen"), (free, held, "axon.monitor")] {
        set_axon(&project, &format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n"));
        let ran = project.run(&["serve", "--execute"]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let told = [of, &format!("127.0.0.1:{held}"), "another program holds the port"];
        assert!(told.iter().all(|words| ran.stderr.contains(words)), "{}", ran.stderr);
        assert_eq!(ran.stderr.matches("Address already in use").count(), 1, "{}", ran.stderr);
    }
    assert_eq!(announced(&project, &hotkey(&project)), None);
}

#[test]
fn whatever_breaks_on_disk_the_axon_answers_on() {
    let project = committed();
    let [port, monitor] = [(); 2].map(|()| free_port());
    let keys = |port: u16| format!("port = {port}\nmonitor = \"127.0.0.1:{monitor}\"\nexternal_ip = \"192.0.2.1\"\n");
    set_axon(&project, &keys(port));
    let serving = Serving::start(&project, &[]);
    let [manifest, receipt, wallet] =
        ["deval.toml", "target/deval/commit.json", "wallets/demo/hotkeys/default"].map(|name| project.path(name));
    let whole = [&manifest, &receipt, &wallet].map(|path| fs::read(path).expect("it is there"));
    let refused = |what: &str| {
        assert!(serving.hear("not reloaded").contains(what), "{what}");
        serving.forget_what_was_said();
        assert_eq!(serving.ask(port, "//Bob//vali").model_id, "tiny");
    };
    let restored = || {
        fs::write(&manifest, &whole[0]).expect("writable");
        fs::write(&receipt, &whole[1]).expect("writable");
        serving.hear("nothing changed");
        serving.forget_what_was_said();
    };

    fs::remove_file(&manifest).expect("it is there");
    refused("cannot read the manifest");
    restored();
    fs::write(&manifest, [0xff, 0xfe, 0]).expect("writable");
    refused("UTF-8");
    restored();
    fs::write(&receipt, "{").expect("writable");
    refused("`commit` was not done yet");
    restored();
    let (_holder, held) = taken();
    set_axon(&project, &keys(held));
    refused("another program holds the port");
    restored();
    // The key itself is in memory; a reload does not open it again.
    fs::write(&wallet, "no key").expect("writable");
    serving.signal("HUP");
    serving.hear("nothing changed");
    assert_eq!(serving.ask(port, "//Bob//vali").status_code, 200);
    serving.stop();
}

#[test]
fn an_axon_serves_over_ipv6_and_announces_it() {
    let project = committed();
    let own = hotkey(&project);
    for (ip, asked) in [("::1", vec!["::1"]), ("::", vec!["::1", "127.0.0.1"])] {
        let [port, monitor] = [(); 2].map(|()| free_port());
        set_axon(
            &project,
            &format!("port = {port}\nmonitor = \"[::1]:{monitor}\"\nexternal_ip = \"2001:db8::{port:x}\"\n"),
        );
        let text = fs::read_to_string(project.path("deval.toml")).expect("it is there");
        project.manifest_text(&text.replace("ip = \"127.0.0.1\"", &format!("ip = \"{ip}\"")));
        let serving = Serving::start(&project, &[]);
        for address in asked {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(ask(SocketAddr::new(address, port), &own), 200, "{ip}: {address}");
        }
        assert_eq!(ask((Ipv6Addr::LOCALHOST, monitor).into(), &own), 0, "the monitor is no axon");
        serving.stop();
        thread::sleep(Duration::from_millis(100));
        let external: IpAddr = format!("2001:db8::{port:x}").parse().expect("an address");
        assert_eq!(announced(&project, &own), Some(SocketAddr::new(external, port)));
    }
}

#[test]
fn no_key_of_an_endpoint_is_shown_and_a_wrong_one_is_explained() {
    let project = Project::new();
    for (endpoint, words) in [
        ("wss://name:secretword@127.0.0.1:1/v1/secretword?key=secretword", "cannot reach the chain"),
        ("ws://chain.example:9944/secretword", "insecure"),
        ("127.0.0.1:9944", "write `wss://host:port`"),
        ("https://127.0.0.1:1/secretword", "write `wss://host:port`"),
        ("", "write `wss://host:port`"),
    ] {
        project.manifest(&format!("[chain]\nendpoint = {endpoint:?}\n"));
        for arguments in [&["register"][..], &["register", "--format", "json"], &["status"]] {
            let ran = project.run(arguments);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(ran.code == 2 && said.contains(words) && !said.contains("secretword"), "{arguments:?}: {said}");
        }
    }
}
