//! AWS Bedrock's converse API.

use std::time::SystemTime;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};
use serde_json::{Map, Value, json};

use crate::chat::{dumped, spoken, unwrapped};
use crate::http::{endpoint, is_loopback, sensitive, shown};
use crate::sigv4::{Signed, Signer, amz_date, encoded};
use crate::{ChatRequest, Completion, LlmError, Secret, Usage};

/// The content type of requests, which is signed.
pub(crate) const JSON: &str = "application/json";
const DATE: &str = "x-amz-date";
const TOKEN: &str = "x-amz-security-token";

/// How Bedrock knows its user.
#[derive(Debug, Clone)]
pub enum AwsAuth {
    /// A Bedrock API key.
    Bearer(Secret),
    /// Requests signed with an access key (Signature Version 4).
    Signed {
        /// Id of the access key.
        access_key_id: Secret,
        /// The access key.
        secret_access_key: Secret,
        /// What temporary credentials have beside the key.
        session_token: Option<Secret>,
    },
}

impl AwsAuth {
    /// `AWS_BEARER_TOKEN_BEDROCK`, else `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, where it is set, `AWS_SESSION_TOKEN`.
    ///
    /// # Errors
    /// [`LlmError::NoAwsCredentials`]; [`LlmError::Secret`].
    pub fn from_env() -> Result<Self, LlmError> {
        Self::from_variables(Secret::from_env)
    }

    /// The same from wherever the caller keeps variables.
    ///
    /// # Errors
    /// As [`AwsAuth::from_env`].
    pub fn from_variables(get: impl Fn(&str) -> Result<Option<Secret>, LlmError>) -> Result<Self, LlmError> {
        if let Some(token) = get("AWS_BEARER_TOKEN_BEDROCK")? {
            return Ok(Self::Bearer(token));
        }
        let keys = get("AWS_ACCESS_KEY_ID")?.zip(get("AWS_SECRET_ACCESS_KEY")?);
        let (access_key_id, secret_access_key) = keys.ok_or(LlmError::NoAwsCredentials)?;
        Ok(Self::Signed { access_key_id, secret_access_key, session_token: get("AWS_SESSION_TOKEN")? })
    }

    pub(crate) fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Bearer(token) => vec![token.clone()],
            Self::Signed { access_key_id, secret_access_key, session_token } => {
                [access_key_id, secret_access_key].into_iter().chain(session_token).cloned().collect()
            }
        }
    }
}

/// A model on AWS Bedrock.
#[derive(Debug, Clone)]
pub struct Bedrock {
    pub(crate) url: Url,
    pub(crate) auth: AwsAuth,
    pub(crate) model: String,
    region: String,
}

impl Bedrock {
    /// `model` is a model id, an inference profile or an ARN of either. `endpoint_url` takes the place of the region's own endpoint.
    ///
    /// # Errors
    /// [`LlmError::Endpoint`] for a region or an endpoint that cannot be one; [`LlmError::Unencrypted`] for plain http to another machine.
    pub fn new(region: &str, model: &str, auth: AwsAuth, endpoint_url: Option<&str>) -> Result<Self, LlmError> {
        if region.is_empty() || !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            let reason = "the region must be one like `us-east-1`".to_owned();
            return Err(LlmError::Endpoint { url: format!("bedrock-runtime.{region}"), reason });
        }
        let own = format!("https://bedrock-runtime.{region}.amazonaws.com");
        let base = endpoint(endpoint_url.unwrap_or(&own))?;
        if base.scheme() == "http" && !is_loopback(&base) {
            return Err(LlmError::Unencrypted { url: shown(&base) });
        }
        let url = endpoint(&format!("{}/model/{}/converse", shown(&base), encoded(model)))?;
        Ok(Self { url, auth, model: model.to_owned(), region: region.to_owned() })
    }

    /// What authorises a request with this body at this time.
    pub(crate) fn headers(&self, body: &[u8], now: SystemTime) -> HeaderMap {
        match &self.auth {
            AwsAuth::Bearer(token) => {
                HeaderMap::from_iter([(AUTHORIZATION, sensitive(&format!("Bearer {}", token.expose())))])
            }
            AwsAuth::Signed { access_key_id, secret_access_key, session_token } => {
                let signer = Signer {
                    access_key_id: access_key_id.expose(),
                    secret_access_key,
                    region: &self.region,
                    service: "bedrock",
                };
                self.signature(&signer, session_token.as_ref(), body, now)
            }
        }
    }

    fn signature(&self, signer: &Signer<'_>, token: Option<&Secret>, body: &[u8], now: SystemTime) -> HeaderMap {
        let date = amz_date(now);
        let mut signed = vec![("content-type", JSON), ("host", self.url.authority()), (DATE, &date)];
        signed.extend(token.map(|token| (TOKEN, token.expose())));
        let signed = Signed { method: "POST", path: self.url.path(), headers: &signed, body };
        let authorization = (AUTHORIZATION, sensitive(&signer.authorization(&date, &signed)));
        let mut headers = HeaderMap::from_iter([authorization, (HeaderName::from_static(DATE), sensitive(&date))]);
        headers.extend(token.map(|token| (HeaderName::from_static(TOKEN), sensitive(token.expose()))));
        headers
    }

    pub(crate) fn body(&self, request: &ChatRequest) -> Value {
        let sampling = request.sampling;
        let mut inference = Map::from_iter([("maxTokens".to_owned(), sampling.max_tokens.into())]);
        for (name, value) in [("temperature", sampling.temperature), ("topP", sampling.top_p)] {
            inference.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        let mut body = json!({
            "messages": [{ "role": "user", "content": [{ "text": request.user }] }],
            "inferenceConfig": inference,
        });
        if let Some(system) = &request.system {
            body["system"] = json!([{ "text": system }]);
        }
        if let Some(tool) = &request.tool {
            body["toolConfig"] = json!({ "tools": [tool.bedrock()] });
        }
        body
    }

    /// The first tool use's input, else the text.
    pub(crate) fn read(&self, answer: &Value, request: &ChatRequest) -> Result<Completion, String> {
        let content = answer.pointer("/output/message/content").and_then(Value::as_array);
        let content = content.ok_or("it has no `output.message.content`")?;
        let written: String = content.iter().filter_map(|block| block.get("text")?.as_str()).collect();
        let text = match content.iter().find_map(|block| block.pointer("/toolUse/input")) {
            Some(input) => dumped(input),
            None if request.tool.is_some() => unwrapped(&written),
            None => spoken(&written).to_owned(),
        };
        let count = |name: &str| answer.get("usage")?.get(name)?.as_u64();
        let usage = Usage::of_one(count("inputTokens").zip(count("outputTokens")), request, &text);
        Ok(Completion { text, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(variables: &[(&str, &str)]) -> Result<AwsAuth, LlmError> {
        AwsAuth::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| Secret::new(name, value)).transpose()
        })
    }

    #[test]
    fn credentials_come_in_two_kinds() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        assert!(matches!(auth(&keys).unwrap(), AwsAuth::Signed { session_token: None, .. }));
        let both = [keys[0], keys[1], ("AWS_BEARER_TOKEN_BEDROCK", "c")];
        assert!(matches!(auth(&both).unwrap(), AwsAuth::Bearer(_)));
        assert_eq!(auth(&keys[..1]).unwrap_err(), LlmError::NoAwsCredentials);
        assert!(auth(&[keys[0], ("AWS_SECRET_ACCESS_KEY", "")]).is_err());
        let secrets = auth(&[keys[0], keys[1], ("AWS_SESSION_TOKEN", "d")]).unwrap().secrets();
        assert_eq!(secrets.iter().map(Secret::expose).collect::<Vec<_>>(), ["a", "b", "d"]);
    }

    /// The signature that botocore 1.44.8 makes of the same request.
    #[test]
    fn botocore_signs_alike() {
        let access = ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let auth = auth(&[("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), access, ("AWS_SESSION_TOKEN", "TOKEN")]).unwrap();
        let bedrock = Bedrock::new("us-east-1", "us.anthropic.claude-3-haiku-20240307-v1:0", auth, None).unwrap();
        let now = httpdate::parse_http_date("Sun, 30 Aug 2015 12:36:00 GMT").unwrap();
        let headers = bedrock.headers(b"{}", now);
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/bedrock/aws4_request, \
                        SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
                        Signature=aa955e6c0dd712280df0010f5de9a8d98075cc78d59ac4029a21fae3d922ff29";
        assert_eq!(headers[AUTHORIZATION].to_str().unwrap(), expected);
        assert!(!format!("{headers:?}").contains("TOKEN"));
    }

    #[test]
    fn models_and_regions_make_the_url() {
        let url = |region, model, base| {
            let auth = auth(&[("AWS_BEARER_TOKEN_BEDROCK", "c")]).unwrap();
            Bedrock::new(region, model, auth, base).map(|bedrock| bedrock.url.to_string())
        };
        assert_eq!(
            url("eu-west-1", "anthropic.claude-3-haiku-20240307-v1:0", None).unwrap(),
            "https://bedrock-runtime.eu-west-1.amazonaws.com/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse"
        );
        assert!(url("us-east-1", "a/b", Some("http://127.0.0.1:1/")).unwrap().ends_with(":1/model/a%2Fb/converse"));
        assert!(matches!(url("evil.example/", "m", None), Err(LlmError::Endpoint { .. })));
        assert!(matches!(url("us-east-1", "m", Some("http://proxy.lan")), Err(LlmError::Unencrypted { .. })));
    }
}
