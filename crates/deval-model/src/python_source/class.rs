//! The class that the validator's container imports, followed through the pipeline's own modules.

use deval_report::Diagnostic;

use super::module::{At, Class, Constructor, Module, Package};
use super::{CLASS, FILE, FOLDER};

/// What transformers' `Pipeline` leaves to its subclasses; Python makes no object of a class that lacks one (transformers 4.47.1,
/// `pipelines/base.py`).
const ABSTRACT: [&str; 4] = ["_sanitize_parameters", "preprocess", "_forward", "postprocess"];

/// The call that the container makes.
const CALL: &str = "DeValPipeline(\"de_val\", model_dir=…)";

/// Most classes that are followed.
const LONGEST: usize = 64;

/// Findings of gate G35 about `DeValPipeline` in `pipeline.py`.
pub(super) fn check(package: &Package) -> Vec<Diagnostic> {
    let main = Package::module_name(FILE);
    let Some(module) = package.get(&main).filter(|module| !module.hidden) else { return Vec::new() };
    let mut line = Line::default();
    line.follow(package, &main, CLASS);
    if line.own.is_empty() {
        return absent(module, &line).into_iter().collect();
    }
    line.findings()
}

/// The class with all its bases, in the order in which Python mostly looks: depth first.
#[derive(Default)]
struct Line<'a> {
    own: Vec<(&'a Module, &'a Class)>,
    /// Dotted names of bases from elsewhere.
    foreign: Vec<String>,
    /// Whether some base could not be followed.
    unclear: bool,
}

impl<'a> Line<'a> {
    fn follow(&mut self, package: &'a Package, module_name: &str, name: &str) {
        let Some(module) = package.get(module_name).filter(|_| self.own.len() < LONGEST) else {
            self.unclear = true;
            return;
        };
        match (module.classes.get(name), module.imported(name)) {
            (Some(class), _) => {
                self.own.push((module, class));
                for base in &class.bases {
                    match base {
                        Some(base) if base.contains('.') => self.follow_origin(package, base),
                        Some(base) => self.follow(package, module_name, base),
                        None => self.unclear = true,
                    }
                }
            }
            (None, Some(origin)) => self.follow_origin(package, origin),
            (None, None) if module.defines(name) || module.open => self.unclear = true,
            (None, None) => self.foreign.push(format!("builtins.{name}")),
        }
    }

    fn follow_origin(&mut self, package: &'a Package, origin: &str) {
        let inner = origin.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('.'));
        match inner.map(|inner| inner.rsplit_once('.').unwrap_or(("__init__", inner))) {
            Some((module, name)) => self.follow(package, module, name),
            None if origin.contains('.') => self.foreign.push(origin.to_owned()),
            None => self.unclear = true,
        }
    }

    fn findings(&self) -> Vec<Diagnostic> {
        self.base().into_iter().chain(self.constructor()).chain(self.abstract_methods()).collect()
    }

    /// Whether some base is one of transformers' pipelines.
    fn is_pipeline(&self) -> bool {
        self.foreign.iter().any(|origin| origin.starts_with("transformers.") && origin.ends_with("Pipeline"))
    }

    fn has(&self, member: &str) -> bool {
        self.own.iter().any(|(_, class)| class.members.contains(member))
    }

    /// A transformers `Pipeline`, or a `__call__` of its own: the service calls the object.
    fn base(&self) -> Option<Diagnostic> {
        if self.is_pipeline() {
            return None;
        }
        let finding = if self.has("__call__") {
            Diagnostic::warning("G35", format!("{CLASS} has no transformers Pipeline as its base"))
                .help("works as long as __call__ takes the same arguments")
        } else if self.unclear || !self.foreign.iter().all(|origin| origin.starts_with("builtins.")) {
            Diagnostic::warning(
                "G35",
                format!("whether {CLASS} has a transformers Pipeline as its base cannot be seen"),
            )
            .help("derive it from `transformers.Pipeline` directly")
        } else {
            let message = "has neither a transformers Pipeline as its base nor __call__, so it cannot be called";
            Diagnostic::error("G35", format!("{CLASS} {message}")).help("derive it from `transformers.Pipeline`")
        };
        Some(self.at_class(finding.expected(format!("class {CLASS}(Pipeline)"))))
    }

    /// Whether the first constructor in line can be called with one positional argument and `model_dir`.
    fn constructor(&self) -> Option<Diagnostic> {
        let own = self.own.iter().find_map(|(module, class)| Some((*module, class.constructor.as_ref()?)));
        let Some((module, Constructor { fault, at })) = own else { return self.no_constructor() };
        let message = format!("the constructor cannot be called with model_dir: {}", fault.as_ref()?);
        let finding = Diagnostic::error("G35", message).expected(CALL);
        Some(placed(finding.help("`def __init__(self, *args, model_dir=None, **kwargs)`"), module, *at))
    }

    fn no_constructor(&self) -> Option<Diagnostic> {
        let message = format!("{CLASS} has no constructor of its own that takes model_dir");
        let may_have_one = self.unclear || self.own.iter().any(|(_, class)| class.altered);
        let finding = if may_have_one {
            Diagnostic::warning("G35", message)
        } else {
            Diagnostic::error("G35", format!("{message}; that of its base wants a loaded model"))
        };
        let help = "load the model in `def __init__(self, *args, model_dir=None, **kwargs)`";
        Some(self.at_class(finding.expected(CALL).help(help)))
    }

    fn abstract_methods(&self) -> Option<Diagnostic> {
        let plain =
            self.foreign.iter().all(|origin| origin.starts_with("transformers.") && origin.ends_with(".Pipeline"));
        let altered = self.own.iter().any(|(_, class)| class.altered);
        if self.foreign.is_empty() || !plain || self.unclear || altered {
            return None;
        }
        let missing: Vec<_> = ABSTRACT.into_iter().filter(|name| !self.has(name)).collect();
        let message =
            format!("{CLASS} does not define {}, without which Python makes no object of it", missing.join(", "));
        let finding = Diagnostic::error("G35", message).expected(ABSTRACT.join(", "));
        let help = "transformers' Pipeline leaves these to the class; see this project's pipeline/model";
        (!missing.is_empty()).then(|| self.at_class(finding.help(help)))
    }

    fn at_class(&self, finding: Diagnostic) -> Diagnostic {
        let (module, class) = self.own[0];
        placed(finding, module, class.at)
    }
}

fn placed(finding: Diagnostic, module: &Module, (line, column): At) -> Diagnostic {
    finding.at(&module.file, line, column)
}

fn absent(module: &Module, line: &Line<'_>) -> Option<Diagnostic> {
    if let Some(at) = module.value {
        let finding = Diagnostic::error("G35", format!("{CLASS} is given a plain value, which cannot be called"));
        return Some(placed(finding.expected(CALL).help("leave the assignment out"), module, at));
    }
    if module.defines(CLASS) || module.open {
        let origin = line.foreign.first().map_or(String::new(), |origin| format!(" (`{origin}`)"));
        let message = format!("{CLASS} is no class of these sources{origin}, so its constructor is not checked here");
        return Some(Diagnostic::note("G35", message).in_file(&module.file));
    }
    let near = module.classes.iter().find(|(name, _)| name.to_lowercase().contains("pipeline"));
    let finding =
        Diagnostic::error("G35", format!("there is no class {CLASS}")).expected(format!("class {CLASS}(Pipeline)"));
    Some(match near {
        Some((name, class)) => {
            placed(finding.found(name).help(format!("rename the class to {CLASS}")), module, class.at)
        }
        None => finding.in_file(&module.file).help("define it at the top level of the file"),
    })
}
