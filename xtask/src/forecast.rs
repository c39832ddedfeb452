//! `cargo xtask forecast`: tier and weight to expect in the contest.

use std::{fs, path::Path};

use anyhow::Context as _;
use deval_chain::{
    Neuron,
    gates::{INCENTIVE_PLACES, YOUNG_BLOCKS},
};
use deval_eval::forecast::{Commit, Forecast, ForecastOptions, Leaderboard, Measured, Miner, Own, Seat, forecast};
use deval_report::{Diagnostic, Inputs, Report, Step};

use crate::{Verdict, chain, cli::ForecastArgs, compare, context::Context, findings::Findings};

/// In the place of a file: the incentives of the subnet's miners.
const CHAIN: &str = "chain";

pub(crate) fn run(context: &Context, arguments: &ForecastArgs) -> anyhow::Result<Verdict> {
    let mut inputs = Inputs::default();
    let (board, findings, ours) = match arguments.leaderboard.to_str() {
        Some(CHAIN) => from_chain(context, &mut inputs)?,
        _ => {
            let (board, findings) = from_file(&arguments.leaderboard, &mut inputs)?;
            (board, findings, None)
        }
    };
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Findings(findings).into());
    }
    let report = arguments.report.clone().unwrap_or_else(|| context.store.path(Step::Evaluate.name()));
    let evaluated = compare::read(&report)?;
    inputs.add_need(Step::Evaluate, &evaluated.fingerprint);
    let evaluation = compare::evaluation(&report, evaluated)?;
    let own = own(context, arguments, Measured::by_task(&evaluation.rewards).map_err(Findings::from)?, ours);
    let options =
        ForecastOptions { rounds: arguments.rounds, draws: arguments.draws, seed: arguments.seed, noise: None };
    let made = forecast(&board, &own, &options).map_err(Findings)?;
    let sections = made.sections();
    context.ui.report(&Report::<Forecast>::new("forecast", inputs, findings, Some(made)), &sections);
    Ok(Verdict::Ok)
}

fn from_file(path: &Path, inputs: &mut Inputs) -> anyhow::Result<(Leaderboard, Vec<Diagnostic>)> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the leaderboard {}", path.display()))?;
    inputs.add("leaderboard", deval_model::file_sha256(path)?);
    Ok(Leaderboard::read(&path.to_string_lossy(), &text))
}

/// Our own hotkey, where it is registered.
struct Ours {
    uid: u32,
    /// Whether it is among the miners of the leaderboard.
    listed: bool,
    /// Whether validators evaluate it, by its age and its incentive.
    evaluated: bool,
}

/// The miners as the chain knows them, with their incentives in the place of scores, and which of them we are.
fn from_chain(context: &Context, inputs: &mut Inputs) -> anyhow::Result<(Leaderboard, Vec<Diagnostic>, Option<Ours>)> {
    let chain = chain::client(context)?;
    // A forecast needs no wallet.
    let hotkey = chain::hotkey(context).ok();
    let netuid = context.network().netuid();
    let (graph, commitments) = context
        .runtime
        .block_on(async { anyhow::Ok((chain.metagraph(netuid).await?, chain.commitments(netuid).await?)) })?;
    let highest = graph.neurons.iter().map(|neuron| neuron.incentive).max().unwrap_or(0);
    let eligible = |neuron: &Neuron| {
        let among = || graph.incentive_rank(neuron.uid).and_then(|rank| rank.is_among(INCENTIVE_PLACES));
        neuron.registered_at + YOUNG_BLOCKS >= graph.block || among() == Some(true)
    };
    // Who may set weights and earns nothing as a miner is a validator.
    let miners =
        graph.neurons.iter().filter(|neuron| neuron.is_serving() && (!neuron.validator_permit || neuron.incentive > 0));
    let miners = miners.map(|neuron| {
        let committed = commitments.iter().find(|found| found.hotkey == neuron.hotkey);
        let hash = committed.and_then(|found| found.view.model_hash.clone());
        Miner {
            uid: neuron.uid.into(),
            score: if highest > 0 { f32::from(neuron.incentive) / f32::from(highest) } else { 0.0 },
            block: committed.map(|found| found.block.into()).filter(|block| *block > 0),
            hotkey: Some(neuron.hotkey.clone()),
            evaluated: hash.is_some() && eligible(neuron),
            model_hash: hash
                .filter(|hash| hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))),
            ..Miner::default()
        }
    });
    let board = Leaderboard {
        name: format!("{} netuid {netuid}", context.network()),
        note: Some("incentives relative to the highest, in the place of scores".to_owned()),
        block: Some(graph.block),
        miners: miners.collect(),
    };
    inputs.add("leaderboard", format!("{} at block {} of {}", board.name, graph.block, chain.genesis_hash()));
    let finding = Diagnostic::warning("leaderboard.incentives", "the scores are incentives, not what validators keep of the miners")
        .found(format!("{} miners at block {}, {} with an incentive", board.miners.len(), graph.block,
            board.miners.iter().filter(|miner| miner.score > 0.0).count()))
        .expected("a validator's moving averages, which no chain holds")
        .help("incentives tell who earns, in which order of tiers, since which commitment, some epochs late; they do not tell how far \
               scores are apart, nor who leads inside a tier. Name a file with a validator's scores for numbers to rely on");
    let mut findings: Vec<_> = board.check().into_iter().map(|(_, finding)| finding).collect();
    findings.push(finding);
    let ours = graph.neurons.iter().find(|neuron| Some(&neuron.hotkey) == hotkey.as_ref()).map(|neuron| Ours {
        uid: neuron.uid.into(),
        listed: board.miners.iter().any(|miner| miner.uid == u32::from(neuron.uid)),
        evaluated: eligible(neuron),
    });
    Ok((board, findings, ours))
}

/// Our submission as the flags, the chain and the reports tell it.
fn own(context: &Context, arguments: &ForecastArgs, reward: Measured, ours: Option<Ours>) -> Own {
    let listed = ours.as_ref().filter(|ours| ours.listed).map(|ours| ours.uid);
    let seat = match (arguments.uid, arguments.replaces) {
        (Some(uid), _) => Seat::Uid(uid),
        (None, Some(uid)) => Seat::Replaces(uid),
        (None, None) => listed.map_or(Seat::New, Seat::Uid),
    };
    // What the chain says of our hotkey holds for its own seat only.
    let shut_out = ours.is_some_and(|ours| !ours.evaluated && (!ours.listed || seat == Seat::Uid(ours.uid)));
    let hashed = context.store.read::<deval_model::WeightsDigest>(Step::Hash.name()).and_then(|report| report.result);
    Own {
        commit: arguments.block.map_or(Commit::Kept, Commit::At),
        model_hash: hashed.map(|digest| digest.model_hash),
        score: arguments.score,
        evaluated: !arguments.not_evaluated && !shut_out,
        ..Own::new(seat, reward)
    }
}
