//! What a device has to be able to compute. Everything else about the decoder is the same for all devices.

use crate::LlamaError;
use crate::step::{Heads, Step};
use crate::weights::Weights;

/// A device's arithmetic. Rows are tokens.
pub(crate) trait Kernels: Send {
    /// One or more weight matrices of the same inputs.
    type Matrix: Send + Sync;
    /// Weights of a norm.
    type Vector: Send + Sync;
    /// The residual stream.
    type Stream;
    /// Rows that a matrix is multiplied with.
    type Input;
    /// Their products with each matrix.
    type Output;
    /// Keys and values of all sequences.
    type Cache: Send;
    /// What all layers of a step share.
    type Plan;

    /// Does the work of a step where the device's threads are at hand.
    fn inside<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// Loads matrices `(outputs, inputs)`, which are multiplied together.
    fn matrix(&self, weights: &Weights, inputs: usize, parts: &[(String, usize)]) -> Result<Self::Matrix, LlamaError>;

    /// Loads the weights of a norm.
    fn vector(&self, weights: &Weights, name: &str, len: usize) -> Result<Self::Vector, LlamaError>;

    /// An empty cache.
    fn cache(&self, layers: usize, heads: Heads) -> Self::Cache;

    /// Blocks that the cache has memory for.
    fn blocks(&self, cache: &Self::Cache) -> usize;

    /// Takes memory for some more blocks.
    ///
    /// # Errors
    /// [`LlamaError::OutOfMemory`]; the cache is then as it was.
    fn grow(&self, cache: &mut Self::Cache) -> Result<(), LlamaError>;

    /// Makes block `to` hold what block `from` holds.
    fn copy_block(&self, cache: &mut Self::Cache, from: u32, to: u32) -> Result<(), LlamaError>;

    /// Prepares a step, for which the cache has memory.
    fn plan(&self, step: &Step, cache: &Self::Cache) -> Result<Self::Plan, LlamaError>;

    /// Rows of the embedding.
    fn embed(&self, table: &Self::Matrix, tokens: &[u32]) -> Result<Self::Stream, LlamaError>;

    /// Root mean square norm.
    fn norm(&self, stream: &Self::Stream, weight: &Self::Vector, epsilon: f32) -> Result<Self::Input, LlamaError>;

    /// Products with every matrix.
    fn multiply(&self, input: &Self::Input, matrix: &Self::Matrix) -> Result<Self::Output, LlamaError>;

    /// Keeps the keys and values (parts 1 and 2) in the cache and mixes values for the queries (part 0).
    fn attend(
        &self,
        product: &Self::Output,
        layer: usize,
        step: (&Step, &Self::Plan),
        cache: &mut Self::Cache,
    ) -> Result<Self::Input, LlamaError>;

    /// `silu(part 0) * part 1`
    fn gate(&self, product: &Self::Output) -> Result<Self::Input, LlamaError>;

    /// Adds a product to the stream.
    fn add(&self, stream: &mut Self::Stream, product: &Self::Output) -> Result<(), LlamaError>;

    /// Some rows of the stream.
    fn pick(&self, stream: &Self::Stream, rows: &[usize]) -> Result<Self::Stream, LlamaError>;

    /// Part 0 of a product row by row, in f32 on the host.
    fn rows(&self, product: &Self::Output) -> Result<Vec<f32>, LlamaError>;
}
