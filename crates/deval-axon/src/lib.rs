//! The miner's HTTP server that answers ModelQuerySynapse.
