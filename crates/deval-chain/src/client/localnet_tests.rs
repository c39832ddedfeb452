//! The client against the local chain, whose runtime checks signatures, nonces and encodings like the real one.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use deval_report::Network;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::testing::skip;
use crate::{ChainError, Client, CommitmentPayload, KeyPair, Wallet, parse_as_validator};

const NETUID: u16 = 202;
const HASH: &str = "1ff795ff6a07e6a68085d206fb84417da2f083f68391c2843cd2b8ac6df8538f";
const TAO: u64 = 1_000_000_000;

/// A local chain of its own, gone with its state when dropped.
struct Localnet {
    process: Child,
    endpoint: String,
    state: TempDir,
}

impl Localnet {
    /// `None`, with a message, when the binary was not built.
    fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    fn start_with(flags: &[&str]) -> Option<Self> {
        let Some(binary) = binary() else {
            skip("localnet", "deval-localnet is not built");
            return None;
        };
        let state = TempDir::new().unwrap();
        let mut command = Command::new(binary);
        command.arg("--state-dir").arg(state.path().join("net")).arg("--exit-with-stdin").args(flags);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let endpoint = ready["chain"].as_str().unwrap().to_owned();
        Some(Self { process, endpoint, state })
    }

    async fn client(&self) -> Client {
        Client::connect(&self.endpoint, Network::Local).await.unwrap()
    }

    fn wallet(&self, name: &str) -> Wallet {
        Wallet::create_throwaway(&self.state.path().join("wallets"), name, "hot").unwrap()
    }
}

impl Drop for Localnet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Beside the test's own binary: `target/debug/deps/..`.
fn binary() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    Some(own.parent()?.parent()?.join("deval-localnet")).filter(|path| path.is_file())
}

async fn register(client: &Client, wallet: &Wallet) -> u16 {
    client.fund_from_alice(wallet.coldkey_ss58(), 10 * TAO).await.unwrap();
    let coldkey = wallet.coldkey(|_| None).unwrap();
    client.burned_register(NETUID, &coldkey, &wallet.hotkey_ss58()).await.unwrap().uid
}

fn payload(url: &str) -> CommitmentPayload {
    CommitmentPayload::encode(url, HASH).unwrap()
}

#[tokio::test]
async fn a_registration_costs_what_the_plan_said() {
    let Some(net) = Localnet::start() else { return };
    let (client, wallet) = (net.client().await, net.wallet("miner"));
    let (cold, hot) = (wallet.coldkey_ss58().to_owned(), wallet.hotkey_ss58());
    client.fund_from_alice(&cold, 10 * TAO).await.unwrap();
    let plan = client.registration_plan(NETUID, &cold, &hot).await.unwrap();
    assert_eq!((plan.uid, plan.balance, plan.other_owner), (None, 10 * TAO, None));
    let fee = plan.fee.expect("the local chain tells its fees");
    assert!(fee > 0 && fee < TAO, "{fee}");
    let key = wallet.coldkey(|_| None).unwrap();
    let cheap = client.register(NETUID, &key, &hot, plan.subnet.burn - 1).await.unwrap_err().to_string();
    assert!(cheap.contains("the limit is"), "{cheap}");
    assert!(!client.register(NETUID, &key, &hot, plan.subnet.burn).await.unwrap().already_there);
    assert_eq!(client.balance(&cold).await.unwrap(), 10 * TAO - plan.subnet.burn - fee);
    let graph = client.metagraph(NETUID).await.unwrap();
    let own = graph.neuron(&hot).unwrap();
    assert_eq!((own.coldkey.as_str(), own.is_serving(), own.validator_permit), (cold.as_str(), false, false));
    assert!(client.register(NETUID, &key, &hot, 0).await.unwrap().already_there, "nothing to pay");
    client.total_stake(NETUID, own.uid).await.unwrap();
}

#[tokio::test]
async fn a_miner_registers_commits_and_announces_once() {
    let Some(net) = Localnet::start() else { return };
    let (client, wallet) = (net.client().await, net.wallet("miner"));
    let hotkey = wallet.hotkey_ss58();
    assert_eq!(client.spec_name().await.unwrap(), "deval-localnet");
    assert!(!client.is_registered(NETUID, &hotkey).await.unwrap());
    let burn = client.burn(NETUID).await.unwrap();
    assert!(burn > 0 && burn < TAO, "{burn}");

    let uid = register(&client, &wallet).await;
    let registration = client.registration(NETUID, &hotkey).await.unwrap().unwrap();
    assert_eq!((registration.uid, registration.owner.as_str()), (uid, wallet.coldkey_ss58()));
    assert_eq!(client.registered_hotkeys(NETUID).await.unwrap()[usize::from(uid)], hotkey);
    let again = client.burned_register(NETUID, &wallet.coldkey(|_| None).unwrap(), &hotkey).await.unwrap();
    assert!(again.already_there && again.submitted.is_none());

    let first = client.commit(NETUID, &wallet, &payload("me/model")).await.unwrap();
    let sent = first.submitted.unwrap();
    assert_eq!((first.already_there, first.block_number), (false, sent.block_number));
    assert_eq!(parse_as_validator(&first.read_back).unwrap().model_url.as_deref(), Some("me/model"));
    let second = client.commit(NETUID, &wallet, &payload("me/model")).await.unwrap();
    assert!(second.already_there && second.submitted.is_none());
    assert_eq!(second.block_number, first.block_number);
    assert_eq!(client.block_number().await.unwrap(), sent.block_number, "nothing was sent the second time");
    let spelled = CommitmentPayload::encode("me/model", HASH).unwrap().as_str().replace(' ', "");
    assert!(payload("me/model").is_said_by(spelled.as_bytes()) && !payload("me/other").is_said_by(spelled.as_bytes()));
    let other = client.commit(NETUID, &wallet, &payload("me/other")).await.unwrap();
    assert!(!other.already_there && other.block_number > first.block_number);

    let ip: IpAddr = "203.0.113.9".parse().unwrap();
    let served = client.serve_axon(NETUID, &wallet, ip, 8091).await.unwrap();
    assert_eq!((served.already_there, served.axon.ip, served.axon.port), (false, ip, 8091));
    assert!(client.serve_axon(NETUID, &wallet, ip, 8091).await.unwrap().already_there);
    assert_eq!(client.axon(NETUID, &hotkey).await.unwrap().unwrap(), served.axon);
}

/// The pool checks signatures with the new runtime at once, while the finalised block still has the old one.
#[tokio::test]
async fn a_runtime_upgrade_right_before_a_commitment_is_waited_for() {
    for flags in [&["--block-time", "500"][..], &[]] {
        let Some(net) = Localnet::start_with(flags) else { return };
        let (client, wallet) = (net.client().await, net.wallet("miner"));
        register(&client, &wallet).await;
        let rpc = subxt::rpcs::RpcClient::from_insecure_url(&net.endpoint).await.unwrap();
        let version: u32 = rpc.request("dev_upgradeRuntime", subxt::rpcs::rpc_params![]).await.unwrap();
        let outcome = client.commit(NETUID, &wallet, &payload("me/model")).await.unwrap();
        assert!(version == 2 && !outcome.already_there, "{outcome:?}");
    }
}

#[tokio::test]
async fn refusals_come_by_name_with_a_remedy() {
    let Some(net) = Localnet::start() else { return };
    let (client, wallet) = (net.client().await, net.wallet("stranger"));
    let block = client.block_number().await.unwrap();
    let refusals = [
        (
            client.commit(NETUID, &wallet, &payload("me/model")).await.unwrap_err(),
            "AccountNotAllowedCommit",
            "register",
        ),
        (
            client.serve_axon(NETUID, &wallet, [127, 0, 0, 1].into(), 8091).await.unwrap_err(),
            "InvalidIpAddress",
            "outside",
        ),
        (
            client.serve_axon(NETUID, &wallet, [203, 0, 113, 9].into(), 0).await.unwrap_err(),
            "InvalidPort",
            "other than 0",
        ),
        (
            client.serve_axon(NETUID, &wallet, [203, 0, 113, 9].into(), 8091).await.unwrap_err(),
            "HotKeyNotRegisteredInNetwork",
            "register it first",
        ),
    ];
    for (error, name, remedy) in refusals {
        assert!(matches!(error, ChainError::Refused { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(remedy), "{text}");
    }
    assert_eq!(client.block_number().await.unwrap(), block, "a refused call costs no block");
    let poor = KeyPair::from_uri("//Nobody").unwrap();
    let error = client.burned_register(NETUID, &poor, &wallet.hotkey_ss58()).await.unwrap_err().to_string();
    assert!(error.contains("TAO"), "{error}");
    assert!(client.commitment(NETUID, &wallet.hotkey_ss58()).await.unwrap().is_none());
    assert!(client.axon(NETUID, &wallet.hotkey_ss58()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_module_error_in_a_block_is_named_by_the_chains_metadata() {
    let Some(net) = Localnet::start() else { return };
    let (client, wallet) = (net.client().await, net.wallet("miner"));
    register(&client, &wallet).await;
    let mut refused = None;
    for round in 0..64 {
        match client.commit(NETUID, &wallet, &payload(&format!("me/{round}"))).await {
            Ok(_) => {}
            Err(error) => refused = refused.or(Some((round, error.to_string()))),
        }
        if refused.is_some() {
            break;
        }
    }
    let (round, text) = refused.expect("3100 bytes of space are used up long before");
    assert!(round >= 20, "{round}: {text}");
    assert!(text.contains("Commitments.SpaceLimitExceeded") && text.contains("epoch"), "{text}");
}

#[tokio::test]
async fn alices_money_is_for_the_local_network_only() {
    let Some(net) = Localnet::start() else { return };
    let client = Client::connect(&net.endpoint, Network::Test).await.unwrap();
    let error = client.fund_from_alice(&net.wallet("w").hotkey_ss58(), TAO).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongChain { .. }), "{error}");
}

/// Passes on what client and chain say, and cuts the connection instead of passing on a certain answer, once.
struct Proxy {
    endpoint: String,
    cut_at: Arc<Mutex<Option<&'static str>>>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    async fn before(chain: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("ws://{}", listener.local_addr().unwrap());
        let (cut_at, connections) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let (chain, cut, count) = (chain.trim_start_matches("ws://").to_owned(), cut_at.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let server = TcpStream::connect(&chain).await.unwrap();
                tokio::spawn(pass(client, server, cut.clone()));
            }
        });
        Self { endpoint, cut_at, connections }
    }

    fn cut_at(&self, words: &'static str) {
        *self.cut_at.lock().unwrap() = Some(words);
    }

    fn was_cut(&self) -> bool {
        self.cut_at.lock().unwrap().is_none() && self.connections.load(Relaxed) > 1
    }
}

async fn pass(client: TcpStream, server: TcpStream, cut_at: Arc<Mutex<Option<&'static str>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asking = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(|_| ()) };
    let answering = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            let read = from_server.read(&mut bytes).await?;
            let said = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let cut = cut_at.lock().unwrap().take_if(|words| said.contains(*words)).is_some();
            if read == 0 || cut {
                return Ok(());
            }
            to_client.write_all(&bytes[..read]).await?;
        }
    };
    let answering: std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>> = Box::pin(answering);
    tokio::select! { _ = asking => (), _ = answering => () }
}

#[tokio::test]
async fn a_connection_that_breaks_while_reading_is_made_anew() {
    let Some(net) = Localnet::start() else { return };
    let proxy = Proxy::before(&net.endpoint).await;
    let client = Client::connect(&proxy.endpoint, Network::Local).await.unwrap();
    let before = client.burn(NETUID).await.unwrap();
    proxy.cut_at("result");
    assert_eq!(client.burn(NETUID).await.unwrap(), before);
    assert!(proxy.was_cut());
}

#[tokio::test]
async fn a_connection_that_breaks_after_a_submission_sends_no_second_extrinsic() {
    let Some(net) = Localnet::start() else { return };
    let direct = net.client().await;
    let proxy = Proxy::before(&net.endpoint).await;
    let mut client = Client::connect(&proxy.endpoint, Network::Local).await.unwrap();
    client.limits.pause = std::time::Duration::from_millis(50);
    let wallet = net.wallet("miner");
    register(&direct, &wallet).await;
    let start = direct.block_number().await.unwrap();
    proxy.cut_at("author_extrinsicUpdate");
    let done = client.commit(NETUID, &wallet, &payload("me/model")).await.unwrap();
    assert!(proxy.was_cut());
    let sent = done.submitted.expect("it was sent");
    assert_eq!((done.already_there, sent.block_number), (false, done.block_number));
    assert!(sent.block_number > start);
    let crate::Allowance::Space { used, .. } = direct.allowance(NETUID, &wallet.hotkey_ss58()).await.unwrap() else {
        panic!("the local chain has a quota")
    };
    assert_eq!(used, payload("me/model").as_bytes().len() as u64, "one commitment");
}

#[tokio::test]
async fn a_chain_that_dies_is_an_error_and_not_a_hang() {
    let Some(mut net) = Localnet::start() else { return };
    let (client, wallet) = (net.client().await, net.wallet("miner"));
    net.process.kill().unwrap();
    net.process.wait().unwrap();
    let error = client.commit(NETUID, &wallet, &payload("me/model")).await.unwrap_err();
    assert!(error.to_string().contains(&net.endpoint), "{error}");
}
