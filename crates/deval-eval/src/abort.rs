//! Where the reference validator raises: a value, never a zero.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Python exception classes that the reference code raises while it scores, validates or assembles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PythonException {
    /// `FileNotFoundError`.
    FileNotFoundError,
    /// `IsADirectoryError`.
    IsADirectoryError,
    /// `json.JSONDecodeError`.
    JSONDecodeError,
    /// `KeyError`.
    KeyError,
    /// `NotADirectoryError`.
    NotADirectoryError,
    /// `OSError` itself: too many symbolic links.
    OSError,
    /// `RecursionError`.
    RecursionError,
    /// `TypeError`.
    TypeError,
    /// `UnboundLocalError`.
    UnboundLocalError,
    /// `pydantic.ValidationError`.
    ValidationError,
    /// `ValueError`.
    ValueError,
}

/// The reference raises here. In the validator the exception leaves `run_step` and the miner's whole round is lost; in task
/// assembly only the task is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValidatorAborts {
    /// What was wrong, in a sentence.
    pub reason: String,
    /// What Python raises.
    pub python_exception: PythonException,
}

impl ValidatorAborts {
    /// An abort with its reason.
    pub fn new(python_exception: PythonException, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), python_exception }
    }

    /// A `TypeError`.
    pub(crate) fn type_error(reason: impl Into<String>) -> Self {
        Self::new(PythonException::TypeError, reason)
    }

    /// A `ValueError`.
    pub(crate) fn value_error(reason: impl Into<String>) -> Self {
        Self::new(PythonException::ValueError, reason)
    }
}

impl fmt::Display for ValidatorAborts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the validator would abort with {:?}: {}", self.python_exception, self.reason)
    }
}
