//! Index of the end-to-end tests.
