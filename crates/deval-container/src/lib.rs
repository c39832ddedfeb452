//! The validator's container, here: image, run, questions. The only crate that knows testcontainers.
//!
//! [`Engine`] is the container engine, [`Recipe`] builds the [`Image`], [`Lane`] runs it and answers the harness of deval-eval as a validator
//! would hear it. Everything mirrors upstream's `deval/api` and the parts of `deval/contest.py` that talk to it.

mod client;
pub mod conformance;
mod engine;
mod error;
mod forward;
mod gpu;
mod image;
mod journal;
mod lane;
mod logs;
mod observed;
mod owner;
mod ready;
mod record;
mod run;
mod tar;

pub use engine::{Engine, EngineInfo, podman_socket};
pub use error::ContainerError;
pub use gpu::Gpu;
pub use image::{Image, Recipe};
pub use lane::{Lane, LaneOptions, Refused};
pub use logs::Phase;
pub use observed::{Observed, ObservedMistakes, ObservedScore};
pub use owner::remove_leftovers;
pub use ready::{Event, Expected, Limits};
pub use run::{RunOptions, Source};
