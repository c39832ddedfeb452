//! Reports: what a step leaves behind, and every way to show it.
//!
//! Steps talk to each other only through reports ([`Report`]); every view (terminal, JSON, GitHub annotations, HTML) is a function
//! of reports. This crate is pure: it reads no disk, no network, no clock and no environment.

mod diagnostic;
mod envelope;
mod fingerprint;
pub mod gates;

mod network;
pub mod render;
mod step;
mod view;

pub use diagnostic::{Diagnostic, Place, Severity};
pub use envelope::{Report, Run, SCHEMA};
pub use fingerprint::{Inputs, Stale};
pub use network::Network;
pub use step::{Kind, Step};
pub use view::{Section, Table};
