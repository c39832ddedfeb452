//! What a validator, or whoever reviews a submission, does not expect of a pipeline: network, other programs, code from elsewhere.

use deval_report::Diagnostic;
use ruff_python_ast::visitor::{Visitor, walk_body, walk_expr};
use ruff_python_ast::{Expr, ExprCall, ModModule};
use ruff_text_size::{Ranged, TextSize};

use super::Source;
use super::module::Module;

/// One kind of conduct: its code, the names that stand for it (a star ends a beginning), what it means, and the remedy.
struct Conduct {
    code: &'static str,
    names: &'static [&'static str],
    means: &'static str,
    help: &'static str,
}

const NETWORK: Conduct = Conduct {
    code: "python.network",
    names: &[
        "aiohttp.*",
        "asyncio.open_connection",
        "asyncio.start_server",
        "ftplib.*",
        "http.client.*",
        "http.server.*",
        "httpx.*",
        "huggingface_hub.HfApi",
        "huggingface_hub.InferenceClient",
        "huggingface_hub.hf_hub_download",
        "huggingface_hub.login",
        "huggingface_hub.snapshot_download",
        "huggingface_hub.upload*",
        "imaplib.*",
        "nntplib.*",
        "poplib.*",
        "requests.*",
        "smtplib.*",
        "socket.*",
        "socketserver.*",
        "ssl.*",
        "telnetlib.*",
        "torch.hub.*",
        "urllib.request.*",
        "urllib3.*",
        "webbrowser.*",
        "websockets.*",
        "xmlrpc.*",
    ],
    means: "reaches for the network, which the validator's container closes to all but the Hub's download hosts",
    help: "read what it needs from model_dir, and ship it there",
};

const PROCESS: Conduct = Conduct {
    code: "python.subprocess",
    names: &[
        "asyncio.create_subprocess*",
        "concurrent.futures.ProcessPoolExecutor",
        "multiprocessing.Pool",
        "multiprocessing.Process",
        "multiprocessing.get_context",
        "os.exec*",
        "os.fork*",
        "os.popen*",
        "os.posix_spawn*",
        "os.spawn*",
        "os.startfile",
        "os.system",
        "pty.*",
        "subprocess.*",
        "torch.multiprocessing.*",
    ],
    means: "starts another program or process, which a pipeline has no need of and the container may not have",
    help: "do it in Python, or leave it out",
};

const CODE: Conduct = Conduct {
    code: "python.dynamic-code",
    names: &[
        "builtins.compile",
        "builtins.eval",
        "builtins.exec",
        "code.*",
        "ctypes.*",
        "importlib.machinery.*",
        "importlib.util.module_from_spec",
        "importlib.util.spec_from_file_location",
        "marshal.load*",
        "pickle.load*",
        "pickle.Unpickler",
        "runpy.*",
        "torch.load",
        "types.CodeType",
    ],
    means: "runs code that is not in the source, so nobody can tell beforehand what it does",
    help: "write it out; read data as JSON or safetensors",
};

/// Modules by which everything above can be done.
const POWERFUL: [&str; 6] = ["builtins", "importlib", "os", "socket", "subprocess", "sys"];

/// Puts warnings about one source into `findings`.
pub(super) fn check(tree: &ModModule, module: &Module, source: &Source, findings: &mut Vec<Diagnostic>) {
    walk_body(&mut Walker { module, source, findings }, &tree.body);
}

struct Walker<'a> {
    module: &'a Module,
    source: &'a Source,
    findings: &'a mut Vec<Diagnostic>,
}

impl<'a> Visitor<'a> for Walker<'_> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Some(origin) = self.module.origin(expression) {
            return self.judge(&origin, expression.start());
        }
        if let Expr::Call(call) = expression {
            self.hub_name(call);
            self.made_name(call);
        }
        walk_expr(self, expression);
    }
}

impl Walker<'_> {
    fn judge(&mut self, origin: &str, at: TextSize) {
        let stands = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(beginning) => origin.starts_with(beginning),
            None => origin == *pattern || origin.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('.')),
        };
        for Conduct { code, names, means, help } in [&NETWORK, &PROCESS, &CODE] {
            if names.iter().any(stands) {
                let shown = origin.strip_prefix("builtins.").unwrap_or(origin);
                let finding = Diagnostic::warning(*code, format!("`{shown}` {means}")).help(*help);
                self.findings.push(self.source.at(finding, at));
            }
        }
    }

    /// `getattr(builtins, name)` with a name that the source does not tell.
    fn made_name(&mut self, call: &ExprCall) {
        let [object, _name, ..] = &*call.arguments.args else { return };
        let is_getattr = self.module.origin(&call.func).is_some_and(|origin| origin == "builtins.getattr");
        let Some(module) =
            self.module.origin(object).filter(|origin| is_getattr && POWERFUL.contains(&origin.as_str()))
        else {
            return;
        };
        let Conduct { code, means, help, .. } = CODE;
        let finding =
            Diagnostic::warning(code, format!("`getattr({module}, …)` with a name made while it runs {means}"));
        self.findings.push(self.source.at(finding.help(help), call.start()));
    }

    /// `….from_pretrained("name")` with a name in place of the model folder.
    fn hub_name(&mut self, call: &ExprCall) {
        let method = call.func.as_attribute_expr().map(|attribute| attribute.attr.as_str());
        let Some(Expr::StringLiteral(name)) = call.arguments.args.first() else { return };
        let name = name.value.to_str();
        let is_path = name.starts_with(['.', '/', '~']);
        if method == Some("from_pretrained") && !is_path {
            let Conduct { code, means, help, .. } = NETWORK;
            let finding = Diagnostic::warning(code, format!("`from_pretrained(\"{name}\")` {means}")).help(help);
            self.findings.push(self.source.at(finding, call.start()));
        }
    }
}
