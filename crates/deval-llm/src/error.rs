//! Why no examples could be written: every variant names the place (URL without query and credentials) and, where there is one, the remedy.

use std::time::Duration;

/// Work with a language model's endpoint could not be done.
///
/// No variant carries a key or a request header.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// An endpoint is not a usable URL.
    #[error("`{url}` is no endpoint: {reason}")]
    Endpoint {
        /// The endpoint, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A key would travel unencrypted.
    #[error(
        "{url} is not encrypted, so the key could be read on the way: use https, or allow plain http if that network is yours"
    )]
    Unencrypted {
        /// The endpoint.
        url: String,
    },

    /// A key cannot be used. The key itself is not shown.
    #[error("the key {name} is unusable: {reason}")]
    Secret {
        /// The environment variable, or what else the key is called.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// There are no credentials for AWS.
    #[error(
        "there are no AWS credentials: set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN where they are temporary)"
    )]
    NoAwsCredentials,

    /// Nothing answers at the endpoint.
    #[error("{url} is down or unreachable ({reason}); check the address and the network")]
    Down {
        /// URL of the request.
        url: String,
        /// The innermost cause, such as `Connection refused`.
        reason: String,
    },

    /// A connection broke before the whole answer had arrived.
    #[error("the connection broke at {url}: {reason}")]
    Dropped {
        /// URL of the request.
        url: String,
        /// The innermost cause.
        reason: String,
    },

    /// An answer did not come in time.
    #[error("{url} did not answer within {after:?}; allow more time per request, or ask a smaller model")]
    TimedOut {
        /// URL of the request.
        url: String,
        /// How long it had.
        after: Duration,
    },

    /// The endpoint wants fewer requests.
    #[error("{url} limits the rate{}: {message}; lower the requests or tokens per minute", asked(*.wait))]
    RateLimited {
        /// URL of the request.
        url: String,
        /// The wait it asks for.
        wait: Option<Duration>,
        /// What it says, shortened.
        message: String,
    },

    /// The endpoint failed.
    #[error("{url} failed with status {status}: {message}")]
    Failed {
        /// URL of the request.
        url: String,
        /// HTTP status.
        status: u16,
        /// The wait it asks for.
        wait: Option<Duration>,
        /// What it says, shortened.
        message: String,
    },

    /// The endpoint refused a request; asking again would not help.
    #[error("{url} refused the request with status {status}: {message}{}", remedy(*.status))]
    Refused {
        /// URL of the request.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says, shortened.
        message: String,
    },

    /// The endpoint answered something else than it should.
    #[error("{url} answered something unexpected: {what}")]
    Answer {
        /// URL of the request.
        url: String,
        /// What is wrong with the answer.
        what: String,
    },

    /// A price is not written as it should be.
    #[error(
        "`{found}` is no price; expected USD per million prompt tokens and per million answer tokens, like `0.15/0.60`"
    )]
    Price {
        /// The price as given.
        found: String,
    },

    /// A cost limit needs a price.
    #[error(
        "the price of `{model}` is not known, so the cost cannot be limited: give it with `--price IN/OUT` (USD per million tokens)"
    )]
    PriceUnknown {
        /// The model.
        model: String,
    },

    /// The next request could exceed the cost limit.
    #[error(
        "the next request could cost up to {next:.4} USD; {spent:.4} of {limit} USD are spent or promised: raise the cost limit to go on"
    )]
    Budget {
        /// The limit in USD.
        limit: f64,
        /// USD spent, and held back for requests under way.
        spent: f64,
        /// The most that the next request can cost, in USD.
        next: f64,
    },

    /// Nothing can be made from the plan.
    #[error("there is nothing to write: {reason}")]
    Nothing {
        /// Why.
        reason: String,
    },
}

impl LlmError {
    /// Whether asking again may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Down { .. }
                | Self::Dropped { .. }
                | Self::TimedOut { .. }
                | Self::RateLimited { .. }
                | Self::Failed { .. }
        )
    }

    /// Whether only this request is at fault, so that another one may succeed.
    pub(crate) fn is_about_the_request(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 413 | 422, .. } | Self::Answer { .. })
    }

    /// The wait that the endpoint asks for.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait, .. } | Self::Failed { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// The wait that is asked for, as the rest of a sentence.
fn asked(wait: Option<Duration>) -> String {
    wait.map(|wait| format!(" and asks to wait {wait:?}")).unwrap_or_default()
}

/// What can be done about a status; starts with a separator when there is something to say.
fn remedy(status: u16) -> &'static str {
    match status {
        300..=399 => "; the endpoint has moved, use its new address",
        400 | 422 => {
            "; check the model's name and what it supports (tools, temperature beside top_p, length of the answer)"
        }
        401 => "; set a valid key",
        402 | 429 => "; the account has no credit left",
        403 => "; the key or role needs access to this model",
        404 => "; check the base URL and the model's name",
        413 => "; use shorter articles",
        _ => "",
    }
}
