//! Articles from a live MediaWiki.

use serde_json::Value;

use crate::LlmError;
use crate::http::{Settings, Wire, endpoint, shown};

/// The English Wikipedia.
pub const WIKIPEDIA: &str = "https://en.wikipedia.org";

/// So many random articles as JSON texts, one `action=query` answer each: `query.pages.*.{title, extract}`, the extract in plain text with
/// headings as `== Heading ==`. MediaWiki gives whole extracts one at a time, and wants no requests side by side.
///
/// # Errors
/// [`LlmError::Endpoint`]; what the requests end with after their retries; [`LlmError::Answer`] with what MediaWiki objects to.
pub async fn random_articles(count: usize, base: &str, settings: Settings) -> Result<Vec<String>, LlmError> {
    let mut url = endpoint(base)?;
    url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(["w", "api.php"]);
    let query = "action=query&format=json&generator=random&grnnamespace=0&grnlimit=1&prop=extracts&explaintext=1";
    url.set_query(Some(query));
    let wire = Wire::new(&url, Vec::new(), settings)?;
    let mut articles = Vec::new();
    for _ in 0..count {
        let answer = wire.call(&url, 0, |client| client.get(url.clone())).await?;
        // Errors come with status 200.
        if let Some(error) = answer.get("error") {
            let info = error.get("info").and_then(Value::as_str).unwrap_or("an error without explanation");
            return Err(LlmError::Answer { url: shown(&url), what: info.chars().take(300).collect() });
        }
        articles.push(answer.to_string());
    }
    Ok(articles)
}
