//! The axon while it runs: one loop that starts, reloads and stops what serves.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    sync::Arc,
};

use anyhow::Context as _;
use deval_axon::{
    Answered, Axon, Listening, Subnet, VALIDATOR_TIMEOUT, bind, monitor, query, serve_monitor,
    start::{Settings, Start},
    system_clock,
};
use deval_chain::Wallet;
use deval_report::Diagnostic;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{Finding, chain::ChainWatch, reload::Reload};

/// Announces, serves, asks itself once, tells `answered`, and serves on until it is stopped.
///
/// # Errors
/// A wallet that cannot be opened; a port that is taken; a chain that is away when nobody is known from earlier; an axon that does not
/// answer itself; [`Finding`] when the hotkey is not registered.
pub(crate) async fn serve(
    start: Start,
    answered: impl Fn(&Answered) -> anyhow::Result<()>,
) -> anyhow::Result<Answered> {
    let mut reload = Reload::new(start.reload.clone())?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let (mut running, chain, first) = Running::start(start).await?;
    answered(&first)?;
    let mut chain = pin!(chain.run());
    loop {
        tokio::select! {
            () = &mut chain => {}
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
            () = reload.due() => match reload.read().await {
                Ok(settings) => running.apply(settings).await,
                Err(reason) => tracing::error!("not reloaded, the earlier settings stand: {reason}"),
            },
        }
    }
    tracing::info!(requests = running.axon.metrics().requests(), "stops: answers what is under way");
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
        let Start { settings, passwords, endpoint, hotkeys, .. } = start;
        let place = &settings.wallet;
        let password = |name: &str| {
            std::env::var(name).ok().filter(|value| !value.is_empty()).or_else(|| passwords.get(name).cloned())
        };
        let wallet = Wallet::open(&place.path, &place.name, &place.hotkey, password)?;
        let (hotkey, model_url, subnet_name) = (wallet.hotkey_ss58(), settings.model_url(), settings.subnet());
        let subnet = Arc::new(Subnet::kept_in(&hotkeys, &subnet_name));
        let axon = Axon::new(settings.answers(hotkey.clone()), subnet.clone(), system_clock);
        let listening = listen(settings.listen, &axon).await?;
        let monitor = watch_over(settings.monitor, &axon, &subnet, &hotkey).await?;
        let (place, places) = watch::channel(SocketAddr::new(settings.external, settings.listen.port()));
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
        if let Some(finding) = answered.wrong(&model_url) {
            return Err(Finding(finding).into());
        }
        let (listen, monitors) = (settings.listen, settings.monitor);
        tracing::info!(%listen, monitor = %monitors, "serving {model_url}; stop with Ctrl-C, reload with SIGHUP");
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
                tracing::info!(listen = %new.listen, monitor = %new.monitor, "reloaded: serving {}", new.model_url());
                self.settings = new;
            }
            Err(error) => tracing::error!("not reloaded, the earlier settings stand: {error:#}"),
        }
    }

    /// Everything that can fail comes before anything that changes.
    async fn try_apply(&mut self, new: &Settings) -> anyhow::Result<()> {
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
        let place = SocketAddr::new(new.external, new.listen.port());
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
    Ok(tokio::spawn(serve_monitor(listener, router)))
}

/// Where this machine reaches what listens there.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn unregistered(hotkey: &str, subnet: &str) -> Finding {
    let finding = Diagnostic::error("G01", "the hotkey is not registered, so no validator asks it")
        .found(format!("{hotkey} is not among the hotkeys of {subnet}"))
        .expected("a registered hotkey")
        .help("register it, with `btcli subnet register`");
    Finding(finding)
}
