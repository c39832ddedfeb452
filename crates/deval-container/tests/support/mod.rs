//! The test double in its image, and lanes over it.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests, which say when they skip")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use deval_container::{Engine, Expected, Image, Lane, LaneOptions, Limits, Recipe, Refused, RunOptions};
use deval_eval::{Backend as _, Reply, Request, Task};
use tempfile::TempDir;

const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const COLDKEY: &str = "5Cold";

/// The engine; says why there is none, and fails where `DEVAL_TEST_REQUIRE` asks for it.
pub(crate) fn engine() -> Option<Engine> {
    match Engine::connect() {
        Ok(engine) => Some(engine),
        Err(error) => {
            let required = std::env::var("DEVAL_TEST_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name.trim() == "docker"), "`docker` is required: {error}");
            eprintln!("skipped, needs docker: {error}");
            None
        }
    }
}

/// The double's recipe: one static binary and nothing else.
pub(crate) fn recipe() -> Recipe {
    static COMPILED: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let binary = compiled.get_or_insert_with(|| {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/double.rs");
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let status = Command::new(rustc)
            .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
            .args([&dir.path().join("double"), &source])
            .status()
            .unwrap();
        assert!(status.success(), "the double does not compile");
        fs::read(dir.path().join("double")).unwrap()
    });
    let dockerfile = b"FROM scratch\nCOPY double /double\nEXPOSE 8000\nENTRYPOINT [\"/double\"]\n".to_vec();
    let files = vec![("Dockerfile".to_owned(), dockerfile, 0o644), ("double".to_owned(), binary.clone(), 0o755)];
    Recipe::of_files("deval/double", files)
}

pub(crate) fn image(engine: &Engine) -> Image {
    recipe().ensure(engine, &mut |_| {}).unwrap()
}

/// A package folder, the locks' folder, and options to run the double on them.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) image: Image,
    _dir: TempDir,
    pub(crate) options: LaneOptions,
}

impl Bench {
    pub(crate) fn new() -> Option<Self> {
        let engine = engine()?;
        let image = image(&engine);
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        Some(Self { engine, image, _dir: dir, options })
    }

    /// Starts in a given way; see the double.
    pub(crate) fn starting(mut self, start: &str) -> Self {
        self.options.run.environment.push(("DOUBLE_START".to_owned(), start.to_owned()));
        self
    }

    pub(crate) fn open(&self) -> Result<Lane, Refused> {
        Lane::open(&self.engine, &self.image, self.options.clone(), &mut |_| {})
    }

    pub(crate) fn lane(&self) -> Lane {
        self.open().unwrap_or_else(|refused| panic!("{refused:?}"))
    }

    /// The one finding that keeps the lane closed: code and everything it says.
    pub(crate) fn finding(&self) -> (String, String) {
        match self.open() {
            Err(Refused::Findings(findings)) => {
                let finding = findings.first().expect("a reason");
                let texts = [Some(finding.message.clone()), finding.found.clone(), finding.help.clone()];
                (finding.code.clone(), texts.into_iter().flatten().collect::<Vec<_>>().join("\n"))
            }
            Err(Refused::Failed(error)) => panic!("{error}"),
            Ok(_) => panic!("it became ready"),
        }
    }
}

pub(crate) fn options(dir: &Path) -> LaneOptions {
    let package = dir.join("package");
    fs::create_dir_all(&package).unwrap();
    fs::write(package.join("coldkey.txt"), COLDKEY).unwrap();
    let mut run = RunOptions::new("demo/double", &package, &dir.join("owners"));
    run.memory = 64 << 20;
    run.pids = 64;
    run.scratch = 8 << 20;
    run.has_firewall = false;
    run.environment.push(("DOUBLE_HASH".to_owned(), HASH.to_owned()));
    LaneOptions {
        run,
        expected: Expected { model_hash: HASH.to_owned(), coldkey: COLDKEY.to_owned() },
        package_bytes: 15 << 30,
        evidence: BTreeMap::new(),
        journal: Some((dir.join("journal"), String::new())),
        is_serial_exact: true,
        limits: Limits { ready: Duration::from_secs(20), hash: Duration::from_secs(5), answer: Duration::from_secs(2) },
        on_interrupt: None,
    }
}

/// Asks a question that tells the double what to do.
pub(crate) fn ask(lane: &mut Lane, what: &str) -> Reply {
    let request = Request {
        task: Task::Hallucination,
        rag_context: format!("double:{what}"),
        query: String::new(),
        llm_response: "A claim.".to_owned(),
    };
    lane.answer(&request, 0).unwrap_or_else(|error| panic!("{what}: {error}"))
}
