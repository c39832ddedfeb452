//! What can keep an evaluation from being done.

/// Whatever kept a backend from answering; [`crate::evaluate`] adds which backend and which example.
pub type BackendError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The evaluation could not be done. A bad answer is no error: it earns what the validator would give it.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The backend gave up.
    #[error("backend `{backend}` could not answer example `{example}`")]
    Backend {
        /// Name of the backend.
        backend: String,
        /// Id of the example.
        example: String,
        /// Its own error.
        source: BackendError,
    },
    /// The backend could not tell what it saw.
    #[error("backend `{backend}` answered everything but could not end the run")]
    Finish {
        /// Name of the backend.
        backend: String,
        /// Its own error.
        source: BackendError,
    },
    /// The embedder of the relevance reward gave up.
    #[error("embedder `{embedder}` failed on example `{example}`: {why}")]
    Embedder {
        /// Name of the embedder.
        embedder: String,
        /// Id of the example.
        example: String,
        /// Its own message.
        why: String,
    },
    /// There is nothing to evaluate.
    #[error("{}", nothing(*left_out))]
    NoExamples {
        /// Examples that are there but cannot be rewarded.
        left_out: usize,
    },
    /// No answer was asked for.
    #[error("every example must be asked at least once, `samples` is 0")]
    NoSamples,
    /// An impossible share of wrong labels.
    #[error("the assumed share of wrong labels is {0}; it must be 0 or more and below 0.5")]
    LabelNoise(f64),
}

fn nothing(left_out: usize) -> String {
    match left_out {
        0 => "the example set is empty".to_owned(),
        n => format!("none of the {n} examples can be rewarded: their claims are not labelled (`mistakes_unknown`)"),
    }
}

/// Two evaluations cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// They were not made on the same examples.
    #[error(
        "A and B answered different examples: A {in_a} of `{a}`, B {in_b} of `{b}`, {common} in common; \
         evaluate both on one set, or compare the common ones only"
    )]
    OtherExamples {
        /// Set of A, with its digest.
        a: String,
        /// Set of B, with its digest.
        b: String,
        /// Examples that A answered.
        in_a: usize,
        /// Examples that B answered.
        in_b: usize,
        /// Examples that both answered.
        common: usize,
    },
    /// There is nothing to compare.
    #[error("A and B have no example in common")]
    NothingInCommon,
    /// One id stands for two examples.
    #[error("example `{example}` is not the same in A and in B: one of the sets was edited")]
    Edited {
        /// Its id.
        example: String,
    },
    /// The relevance rewards are of two kinds.
    #[error("the relevance rewards do not compare: A was embedded with `{a}`, B with `{b}`")]
    OtherEmbedder {
        /// Embedder of A.
        a: String,
        /// Embedder of B.
        b: String,
    },
}
