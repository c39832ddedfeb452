//! How this process becomes the server: a small program in its place, with the same process id, so that whoever supervises it does not
//! notice.

use std::{
    convert::Infallible, fs::File, io::Seek as _, os::unix::process::CommandExt as _, path::Path, process::Command,
};

use anyhow::{Context as _, anyhow};
use deval_axon::start::{Reload, Start};
use deval_report::Step;

use super::keeper::text;
use crate::{
    cargo,
    cli::{ExternalArgs, Global},
    context::Context,
    ui::Ui,
};

/// Goes over to the server. It comes back only with an error.
pub(super) fn become_server(start: &Start, ui: Ui) -> anyhow::Result<Infallible> {
    // A file without a name, which nobody else can open; beside the reports, because a container may have no other place to write to.
    let dir = start.stored.parent().context("a report has a folder")?;
    let mut told = tempfile::tempfile_in(dir).with_context(|| format!("cannot write in {}", dir.display()))?;
    serde_json::to_writer(&told, start)?;
    told.rewind().context("cannot read a temporary file again")?;
    let mut server = server(told, ui)?;
    let error = server.exec();
    Err(anyhow!("cannot start {}: {error}", Path::new(server.get_program()).display()))
}

/// The server's program, which is told what to serve by this file.
pub(crate) fn server(told: File, ui: Ui) -> anyhow::Result<Command> {
    let mut server = Command::new(cargo::program("deval-axon", ui)?);
    // glibc else gives each thread a heap of its own, and the chain's metadata, read anew after an upgrade, leaves a hole in all of them.
    server.env("MALLOC_ARENA_MAX", "1").stdin(told);
    Ok(server)
}

/// How the server reads its settings again: this program with the flags of now prints them.
pub(super) fn reload(context: &Context, global: &Global, flags: &ExternalArgs, hotkey: &str) -> anyhow::Result<Reload> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let manifest = std::path::absolute(&global.manifest).context("the manifest was just read")?;
    let mut command = vec![text(&program)?, "--manifest", text(&manifest)?, "--format", "json"];
    command.extend(["serve", "--settings-for", hotkey]);
    let external = [
        ("--external-ip", flags.external_ip.map(|address| address.to_string())),
        ("--external-interface", flags.external_interface.clone()),
        ("--ask-external-ip", flags.ask_external_ip.clone()),
    ];
    let external = external.iter().filter_map(|(flag, value)| Some([*flag, value.as_deref()?]));
    let command = command.into_iter().chain(external.flatten()).map(str::to_owned).collect();
    Ok(Reload { command, files: vec![manifest.clone(), context.store.path(Step::Commit.name())] })
}
