//! The axon while it runs: one loop that starts, reloads and stops what serves.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use deval_axon::{Axon, Listening, Subnet, bind, monitor, query, system_clock};
use deval_chain::Wallet;
use deval_report::Diagnostic;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use super::{Answered, VALIDATOR_TIMEOUT, chain::ChainWatch, reload::Reload, settings::Settings};
use crate::findings::Findings;

/// What an axon starts with.
pub(super) struct Start {
    pub(super) settings: Settings,
    /// The address that `settings.external` told.
    pub(super) external: IpAddr,
    pub(super) wallet: Wallet,
    /// The chain's.
    pub(super) endpoint: String,
    /// Where the registered hotkeys are kept for the next start.
    pub(super) hotkeys: PathBuf,
}

/// Announces, serves, asks itself once, tells `answered`, and serves on until it is stopped.
///
/// # Errors
/// A port that is taken; a chain that is away when nobody is known from earlier; an axon that does not answer itself; [`Findings`] when
/// the hotkey is not registered.
pub(super) async fn serve(
    start: Start,
    mut reload: Reload,
    answered: impl Fn(&Answered) -> anyhow::Result<()>,
) -> anyhow::Result<Answered> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let (mut running, chain, first) = Running::start(start).await?;
    answered(&first)?;
    let chain = tokio::spawn(chain.run());
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
            () = reload.due() => match reload.read().await {
                Ok(settings) => running.apply(settings).await,
                Err(reason) => tracing::error!("not reloaded, the earlier settings stand: {reason}"),
            },
        }
    }
    tracing::info!(requests = running.axon.metrics().requests(), "stops: answers what is under way");
    chain.abort();
    running.stop().await;
    Ok(first)
}

/// What is serving, and with which settings.
struct Running {
    settings: Settings,
    hotkey: String,
    axon: Axon,
    subnet: Arc<Subnet>,
    listening: Listening,
    monitor: JoinHandle<()>,
    place: watch::Sender<SocketAddr>,
    /// Old listeners that still answer what they had begun.
    ending: Vec<JoinHandle<()>>,
}

impl Running {
    async fn start(start: Start) -> anyhow::Result<(Self, ChainWatch, Answered)> {
        let Start { settings, external, wallet, endpoint, hotkeys } = start;
        let hotkey = wallet.hotkey_ss58();
        let subnet_name = format!("{}/{}", settings.network, settings.network.netuid());
        let subnet = Arc::new(Subnet::kept_in(&hotkeys, &subnet_name));
        let axon = Axon::new(settings.answers(hotkey.clone()), subnet.clone(), system_clock);
        let listening = listen(settings.listen, &axon).await?;
        let monitor = watch_over(settings.monitor, &axon, &subnet, &hotkey).await?;
        let (place, places) = watch::channel(SocketAddr::new(external, settings.listen.port()));
        let mut chain = ChainWatch::new(subnet.clone(), endpoint, settings.network, wallet.clone(), places);
        let announced_before = match chain.look().await {
            Ok(announced) => announced,
            Err(error) if subnet.is_unknown() => return Err(error.into()),
            // Told by the look; whoever was registered is answered.
            Err(_) => None,
        };
        if !subnet.is_registered(&hotkey) {
            return Err(unregistered(&hotkey, &subnet_name).into());
        }
        let itself = SocketAddr::new(reachable(settings.listen.ip()), settings.listen.port());
        let reply = query(itself, &hotkey, wallet.hotkey(), VALIDATOR_TIMEOUT).await?;
        let answered = Answered { announced_before, reply };
        if let Some(finding) = answered.wrong(&settings.model_url) {
            return Err(Findings::from(finding).into());
        }
        let (listen, monitors) = (settings.listen, settings.monitor);
        tracing::info!(%listen, monitor = %monitors, "serving {}; stop with Ctrl-C, reload with SIGHUP", settings.model_url);
        let running = Self { settings, hotkey, axon, subnet, listening, monitor, place, ending: Vec::new() };
        Ok((running, chain, answered))
    }

    /// Goes over to new settings. What cannot be done is told, and the old stands.
    async fn apply(&mut self, new: Settings) {
        if new == self.settings {
            tracing::info!("reloaded: nothing changed");
            return;
        }
        let (network, wallet, endpoint) = (new.network, &new.wallet, &new.endpoint);
        if (network, wallet, endpoint) != (self.settings.network, &self.settings.wallet, &self.settings.endpoint) {
            tracing::error!("not reloaded: another network, wallet or chain endpoint takes a restart");
            return;
        }
        match self.try_apply(&new).await {
            Ok(()) => {
                tracing::info!(listen = %new.listen, monitor = %new.monitor, "reloaded: serving {}", new.model_url);
                self.settings = new;
            }
            Err(error) => tracing::error!("not reloaded, the earlier settings stand: {error:#}"),
        }
    }

    /// Everything that can fail comes before anything that changes.
    async fn try_apply(&mut self, new: &Settings) -> anyhow::Result<()> {
        let external = new.external.resolve().await?;
        let listening = match new.listen == self.settings.listen {
            true => None,
            false => Some(listen(new.listen, &self.axon).await?),
        };
        let monitor = match new.monitor == self.settings.monitor {
            true => None,
            false => Some(watch_over(new.monitor, &self.axon, &self.subnet, &self.hotkey).await?),
        };
        self.axon.answer_with(new.answers(self.hotkey.clone()));
        if let Some(new) = listening {
            let old = std::mem::replace(&mut self.listening, new);
            self.ending.push(tokio::spawn(old.stop()));
        }
        if let Some(new) = monitor {
            std::mem::replace(&mut self.monitor, new).abort();
        }
        self.ending.retain(|ending| !ending.is_finished());
        let place = SocketAddr::new(external, new.listen.port());
        self.place.send_if_modified(|old| std::mem::replace(old, place) != place);
        Ok(())
    }

    async fn stop(self) {
        self.listening.stop().await;
        for ending in self.ending {
            // Stopping does not panic.
            let _ = ending.await;
        }
        self.monitor.abort();
    }
}

async fn listen(address: SocketAddr, axon: &Axon) -> anyhow::Result<Listening> {
    Ok(Listening::start(bind(address).await?, address, axon.clone()))
}

async fn watch_over(
    address: SocketAddr,
    axon: &Axon,
    subnet: &Arc<Subnet>,
    hotkey: &str,
) -> anyhow::Result<JoinHandle<()>> {
    let listener = bind(address).await.context("`axon.monitor`, the port of /health and /metrics")?;
    let router = monitor(axon.clone(), subnet.clone(), hotkey);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("/health and /metrics ended: {error}");
        }
    }))
}

/// Where this machine reaches what listens there.
fn reachable(ip: IpAddr) -> IpAddr {
    if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip }
}

fn unregistered(hotkey: &str, subnet: &str) -> Findings {
    let finding = Diagnostic::error("G01", "the hotkey is not registered, so no validator asks it")
        .found(format!("{hotkey} is not among the hotkeys of {subnet}"))
        .expected("a registered hotkey")
        .help("register it, with `btcli subnet register`");
    Findings::from(finding)
}
