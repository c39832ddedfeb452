//! The validator's container, here: image, run, questions. The only crate that knows testcontainers.

use testcontainers as _;
