//! Task examples, requests and responses, rewards, penalties and statistics; a harness over the Backend trait. Pure.
