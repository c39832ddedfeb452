//! `cargo xtask forecast`: tier and weight to expect in the contest.

use std::fs;

use anyhow::Context as _;
use deval_eval::forecast::{Commit, Forecast, ForecastOptions, Leaderboard, Measured, Own, Seat, forecast};
use deval_report::{Diagnostic, Inputs, Report, Step};

use crate::{Verdict, cli::ForecastArgs, compare, context::Context, findings::Findings};

pub(crate) fn run(context: &Context, arguments: &ForecastArgs) -> anyhow::Result<Verdict> {
    let path = &arguments.leaderboard;
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the leaderboard {}", path.display()))?;
    let (board, findings) = Leaderboard::read(&path.to_string_lossy(), &text);
    if findings.iter().any(Diagnostic::is_error) {
        return Err(Findings(findings).into());
    }
    let report = arguments.report.clone().unwrap_or_else(|| context.store.path(Step::Evaluate.name()));
    let evaluated = compare::read(&report)?;
    let mut inputs = Inputs::default();
    inputs.add_need(Step::Evaluate, &evaluated.fingerprint);
    inputs.add("leaderboard", deval_model::file_sha256(path)?);
    let evaluation = compare::evaluation(&report, evaluated)?;
    let own = own(context, arguments, Measured::by_task(&evaluation.rewards).map_err(Findings::from)?)?;
    let options =
        ForecastOptions { rounds: arguments.rounds, draws: arguments.draws, seed: arguments.seed, noise: None };
    let made = forecast(&board, &own, &options).map_err(Findings)?;
    let sections = made.sections();
    context.ui.report(&Report::<Forecast>::new("forecast", inputs, findings, Some(made)), &sections);
    Ok(Verdict::Ok)
}

/// Our submission as the flags and the reports tell it.
fn own(context: &Context, arguments: &ForecastArgs, reward: Measured) -> anyhow::Result<Own> {
    let seat = match (arguments.uid, arguments.replaces) {
        (Some(uid), _) => Seat::Uid(uid),
        (None, Some(uid)) => Seat::Replaces(uid),
        (None, None) => Seat::New,
    };
    let hashed = context.store.read::<deval_model::WeightsDigest>(Step::Hash.name()).and_then(|report| report.result);
    Ok(Own {
        commit: arguments.block.map_or(Commit::Kept, Commit::At),
        model_hash: hashed.map(|digest| digest.model_hash),
        score: arguments.score,
        evaluated: !arguments.not_evaluated,
        ..Own::new(seat, reward)
    })
}
