//! What can keep an evaluation from being done.

/// Whatever kept a backend from answering; [`crate::evaluate`] adds which backend and which example.
pub type BackendError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The evaluation could not be done. A bad answer is no error: it earns what the validator would give it.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The backend gave up.
    #[error("backend `{backend}` could not answer example `{example}`: {source}")]
    Backend {
        /// Name of the backend.
        backend: String,
        /// Id of the example.
        example: String,
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
    #[error("the example set is empty")]
    NoExamples,
}
