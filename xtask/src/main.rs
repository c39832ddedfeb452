//! `cargo xtask`: arguments, one library call, a report, and its exit code.
//!
//! Exit codes: 0 ok, 1 findings about the submission, 2 the work could not be done.

mod bench;
mod cargo;
mod chain;
mod ci;
mod cli;
mod compare;
mod confirm;
mod context;
mod demo;
mod embedder;
mod examples;
mod findings;
mod forecast;
mod hub;
mod inspect;
mod lineage;
mod localnet;
mod meter;
mod oracle;
mod python;
mod register;
mod schema;
mod secrets;
mod snapshot;
mod status;
mod steps;
mod store;
mod testing;
mod ui;
mod views;
mod wallet;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use deval_report::{Inputs, Report, Section};
use serde::Serialize;

use crate::{
    cli::{Cli, Command, Format, ServeArgs, WalletCommand},
    context::Context,
    findings::Findings,
    steps::Pure,
    ui::Ui,
};

/// Whether the submission is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Findings,
    /// Something could not be looked at.
    Unseen,
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let ui = Ui::new(&cli.global);
    match run(&cli, ui) {
        Ok(Verdict::Ok) => ExitCode::SUCCESS,
        Ok(Verdict::Findings) => ExitCode::from(1),
        Ok(Verdict::Unseen) => ExitCode::from(2),
        Err(error) => failed(&error, matches.subcommand_name().unwrap_or_default(), cli.global.format, ui),
    }
}

fn run(cli: &Cli, ui: Ui) -> anyhow::Result<Verdict> {
    let open = || Context::open(&cli.global, ui);
    match &cli.command {
        Command::Validate => pure::<steps::Validate>(&open()?),
        Command::Package => pure::<steps::Package>(&open()?),
        Command::Hash(arguments) => steps::hash(&open()?, *arguments),
        Command::Evaluate(flags) => steps::evaluate(&open()?.with_flags(flags.clone())?),
        Command::Compare { a, b, common, lead } => compare::run(a, b, *common, *lead, ui),
        Command::Forecast(arguments) => forecast::run(&open()?, arguments),
        Command::Examples(command) => examples::run(command, ui),
        Command::Publish(arguments) => shown(ui, steps::publish(&open()?, arguments)?, steps::PublishReceipt::sections),
        Command::Commit(effect) => shown(ui, steps::commit(&open()?, effect)?, steps::CommitReceipt::sections),
        Command::Register(flags) => {
            shown(ui, register::register(&open()?, flags)?, register::RegisterReceipt::sections)
        }
        Command::Wallet(WalletCommand::Show) => shown(ui, wallet::show(&open()?)?, wallet::Addresses::sections),
        Command::Serve(ServeArgs { print: Some(keeper), .. }) => steps::print_keeper(&open()?, &cli.global, *keeper),
        Command::Serve(flags @ ServeArgs { settings_for: Some(hotkey), .. }) => {
            steps::print_settings(&open()?, flags, hotkey)
        }
        Command::Serve(flags) => shown(ui, steps::serve(&open()?, &cli.global, flags)?, steps::ServeReceipt::sections),
        Command::Status(flags) => status::run(&cli.global, flags, ui),
        Command::Plan => shown(ui, views::plan(&open()?)?, views::Plan::sections),
        Command::Verdict { online } => shown(ui, views::verdict(&open()?, *online)?, views::Verdict::sections),
        Command::Report => shown(ui, views::report(&open()?)?, views::Page::sections),
        Command::Lineage { against } => lineage::run(&open()?, against),
        Command::Inspect(arguments) => shown(ui, inspect::inspect(&open()?, arguments)?, inspect::Inspection::sections),
        Command::Fetch(arguments) => shown(ui, hub::fetch(&open()?, arguments)?, hub::Copied::sections),
        Command::Explain { gate } => views::explain(gate, ui),
        Command::Demo => demo::run(&open()?),
        Command::Localnet(arguments) => localnet::run(&open()?.out("localnet"), arguments, ui).map(|()| Verdict::Ok),
        Command::Test => testing::run(ui),
        Command::Oracle { files } => oracle::run(files, ui),
        Command::Schema { write } => schema::run(*write, ui),
        Command::Bench { what, axon, generate } => bench::run(*what, *axon, generate, ui),
        Command::UploadForBench(arguments) => bench::upload::upload_once(arguments, ui).map(|()| Verdict::Ok),
        Command::AssertSnapshot(assertion) => snapshot::assert(assertion).map(|()| Verdict::Ok),
        Command::Ci { job } => ci::run(*job, ui),
    }
}

fn pure<S: Pure>(context: &Context) -> anyhow::Result<Verdict> {
    shown(context.ui, steps::ensure::<S>(context)?, S::sections)
}

fn shown<T: Serialize>(ui: Ui, report: Report<T>, sections: impl Fn(&T) -> Vec<Section>) -> anyhow::Result<Verdict> {
    let sections = report.result.as_ref().map(sections).unwrap_or_default();
    ui.report(&report, &sections);
    Ok(if report.is_ok() { Verdict::Ok } else { Verdict::Findings })
}

/// Findings end with 1, everything else with 2; `--format json` gets an envelope in both cases.
fn failed(error: &anyhow::Error, step: &str, format: Format, ui: Ui) -> ExitCode {
    let findings = error.downcast_ref::<Findings>();
    let diagnostics = findings
        .map(|findings| findings.0.clone())
        .unwrap_or_else(|| vec![deval_report::Diagnostic::error("run.failed", format!("{error:#}"))]);
    let report = Report::<()>::new(step, Inputs::default(), diagnostics, None);
    match format {
        Format::Human => ui.findings(&report.diagnostics),
        Format::Json | Format::Github => ui.report(&report, &[]),
    }
    ExitCode::from(if findings.is_some() { 1 } else { 2 })
}
