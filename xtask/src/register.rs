//! `cargo xtask register`: a uid for the hotkey, paid by the coldkey.

use deval_chain::{RegistrationPlan, parse_tao, tao};
use deval_report::{Diagnostic, Inputs, Network, Report, Section};
use serde::{Deserialize, Serialize};

use crate::{chain, cli::RegisterArgs, confirm::confirm, context::Context, findings::Findings, steps::Watch, wallet};

/// What an account must keep, in rao; the registration's own rule of the chain is stricter nowhere.
const EXISTENTIAL_RAO: u64 = 500;

/// What was registered, or would be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RegisterReceipt {
    /// False when this is only the plan.
    executed: bool,
    network: Network,
    /// Hash of the chain's first block.
    genesis: String,
    netuid: u16,
    hotkey: String,
    coldkey: String,
    /// Absent in the plan of a hotkey that is not registered yet.
    uid: Option<u16>,
    /// `Pallet.call`.
    call: String,
    /// What it burned, or would burn now.
    cost_rao: u64,
    /// The most it may burn.
    limit_rao: u64,
    /// Whether the chain itself holds the limit; else the cost is read right before.
    limit_on_chain: bool,
    fee_rao: Option<u64>,
    /// The coldkey's balance before.
    balance_rao: u64,
    /// Hash and block of the extrinsic; absent when nothing was sent.
    extrinsic: Option<String>,
    block: Option<u64>,
}

/// Shows the plan; with `--execute`, registers, on finney after a typed confirmation, unless the hotkey is registered already.
pub(crate) fn register(context: &Context, arguments: &RegisterArgs) -> anyhow::Result<Report<RegisterReceipt>> {
    let watch = Watch::start();
    let wallet = wallet::open(context)?;
    let (netuid, hotkey, coldkey) = (context.network().netuid(), wallet.hotkey_ss58(), wallet.coldkey_ss58());
    let chain = chain::client(context)?;
    let plan = context.runtime.block_on(chain.registration_plan(netuid, coldkey, &hotkey))?;
    let limit = limit(arguments, &plan)?;
    let mut receipt = planned(context, &plan, limit);
    (receipt.genesis, receipt.hotkey, receipt.coldkey) = (chain.genesis_hash(), hotkey, coldkey.to_owned());
    let mut diagnostics = wallet::exposed(context);
    diagnostics.extend(owned(&receipt, &plan));
    if receipt.uid.is_none() {
        diagnostics.extend(refused(&receipt, &plan));
    }
    let ready = !diagnostics.iter().any(Diagnostic::is_error);
    let execute = arguments.effect.execute;
    if execute && receipt.uid.is_none() && ready {
        confirm(context, &arguments.effect, &receipt.sections(), &format!("register on netuid {netuid}"))?;
        let key = wallet::coldkey_secret(context, &wallet)?;
        let outcome = context.runtime.block_on(chain.register(netuid, &key, &receipt.hotkey, limit))?;
        receipt.uid = Some(outcome.uid);
        receipt.block = outcome.submitted.as_ref().map(|submitted| submitted.block_number);
        receipt.extrinsic = outcome.submitted.map(|submitted| submitted.extrinsic_hash);
    }
    receipt.executed = execute && ready;
    let mut report = Report::new("register", Inputs::default(), diagnostics, Some(receipt));
    report.run = watch.stop(Vec::new(), serde_json::Value::Null);
    if execute && ready {
        context.store.write(&report)?;
    }
    Ok(report)
}

/// The flag's, else what it costs now.
fn limit(arguments: &RegisterArgs, plan: &RegistrationPlan) -> Result<u64, Findings> {
    let Some(text) = &arguments.limit else { return Ok(plan.subnet.burn) };
    parse_tao(text).ok_or_else(|| {
        let finding = Diagnostic::error("register.limit", "`--limit` is no amount of TAO").found(text);
        finding.expected("digits with at most nine decimals").help("for example `--limit 0.1`").into()
    })
}

fn planned(context: &Context, plan: &RegistrationPlan, limit_rao: u64) -> RegisterReceipt {
    RegisterReceipt {
        executed: false,
        network: context.network(),
        genesis: String::new(),
        netuid: plan.subnet.netuid,
        hotkey: String::new(),
        coldkey: String::new(),
        uid: plan.uid,
        call: plan.call.clone(),
        cost_rao: plan.subnet.burn,
        limit_rao,
        limit_on_chain: plan.limit_on_chain,
        fee_rao: plan.fee,
        balance_rao: plan.balance,
        extrinsic: None,
        block: None,
    }
}

/// The hotkey is not this wallet's to register, or is registered for somebody else.
fn owned(receipt: &RegisterReceipt, plan: &RegistrationPlan) -> Option<Diagnostic> {
    let finding = Diagnostic::error("register.owner", "the hotkey belongs to another coldkey");
    let finding = finding.found(plan.other_owner.as_ref()?).expected(&receipt.coldkey);
    Some(finding.help("take the wallet of that coldkey (it earns what the hotkey earns), or another hotkey"))
}

/// Why the chain would refuse, as far as it is known before.
fn refused(receipt: &RegisterReceipt, plan: &RegistrationPlan) -> Vec<Diagnostic> {
    let closed = Diagnostic::error("register.closed", "the subnet takes no registrations now")
        .found("its owner has closed it")
        .expected("`NetworkRegistrationAllowed`");
    let needed = receipt.cost_rao + receipt.fee_rao.unwrap_or(0) + EXISTENTIAL_RAO;
    let poor = Diagnostic::error("register.balance", "the coldkey cannot pay the registration")
        .found(tao(receipt.balance_rao))
        .expected(format!("{} with fee and what an account must keep", tao(needed)))
        .help(format!("send TAO to {}", receipt.coldkey));
    let dear = Diagnostic::error("register.limit", "registering costs more than the limit")
        .found(tao(receipt.cost_rao))
        .expected(format!("at most {}", tao(receipt.limit_rao)))
        .help("wait until it is cheaper, or raise `--limit`");
    let findings = [
        (!plan.subnet.registration_allowed).then(|| closed.help("ask its owner, or wait")),
        (receipt.balance_rao < needed).then_some(poor),
        (receipt.cost_rao > receipt.limit_rao).then_some(dear),
    ];
    findings.into_iter().flatten().collect()
}

impl RegisterReceipt {
    pub(crate) fn sections(&self) -> Vec<Section> {
        let already = self.uid.is_some() && self.extrinsic.is_none();
        let title = if self.executed { "Registered" } else { "Plan of register" };
        let mut section = Section::new(title)
            .row("network", format!("{}, netuid {}", self.network, self.netuid))
            .row("hotkey", &self.hotkey)
            .row("coldkey", &self.coldkey);
        if let Some(uid) = self.uid {
            section = section.row("uid", uid);
        }
        if already {
            return vec![section.note("The hotkey is registered already: nothing to do.")];
        }
        let held = if self.limit_on_chain { "held by the chain" } else { "read again right before it is sent" };
        section = section
            .row("call", &self.call)
            .row("burns", tao(self.cost_rao))
            .row("at most", format!("{}, {held}", tao(self.limit_rao)))
            .row("fee", self.fee_rao.map_or("the chain does not tell".to_owned(), tao))
            .row("balance", tao(self.balance_rao));
        if let (Some(extrinsic), Some(block)) = (&self.extrinsic, self.block) {
            section = section.row("extrinsic", format!("{extrinsic} in block {block}"));
        }
        if !self.executed {
            section = section
                .note("Nothing was changed. `--execute` registers; on finney you are asked to type a confirmation.");
        }
        vec![section]
    }
}
