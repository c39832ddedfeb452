//! AWS Signature Version 4, for requests without a query.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// All but the unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const RESERVED_BUT_SLASH: &AsciiSet = &RESERVED.remove(b'/');

/// Who signs and for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signer<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) secret_access_key: &'a Secret,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    /// The path as it is sent; what is encoded in it already is encoded once more.
    pub(crate) path: &'a str,
    /// Names in lower case and values, sorted by name; `host` and `x-amz-date` are among them.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

impl Signer<'_> {
    /// The value of the `Authorization` header. `date` is what `x-amz-date` holds.
    pub(crate) fn authorization(&self, date: &str, signed: &Signed<'_>) -> String {
        let scope = format!("{}/{}/{}/aws4_request", &date[..8], self.region, self.service);
        let request = hex::encode(Sha256::digest(signed.canonical()));
        let signature = hmac(&self.key(&date[..8]), &format!("{ALGORITHM}\n{date}\n{scope}\n{request}"));
        format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={}",
            self.access_key_id,
            signed.header_names(),
            hex::encode(signature)
        )
    }

    /// The key of one day, region and service.
    fn key(&self, day: &str) -> Vec<u8> {
        let secret = format!("AWS4{}", self.secret_access_key.expose()).into_bytes();
        [day, self.region, self.service, "aws4_request"].into_iter().fold(secret, |key, part| hmac(&key, part))
    }
}

impl Signed<'_> {
    fn header_names(&self) -> String {
        self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
    }

    fn canonical(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let path = utf8_percent_encode(self.path, RESERVED_BUT_SLASH);
        let (names, body) = (self.header_names(), hex::encode(Sha256::digest(self.body)));
        format!("{}\n{path}\n\n{headers}\n{names}\n{body}", self.method)
    }
}

/// One segment of a path, encoded.
pub(crate) fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, RESERVED).to_string()
}

/// A time as `x-amz-date` holds it: `20150830T123600Z`.
pub(crate) fn amz_date(time: SystemTime) -> String {
    let date = httpdate::fmt_http_date(time); // Sun, 30 Aug 2015 12:36:00 GMT
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(&date[8..11]).unwrap_or_default() / 3 + 1;
    format!("{}{month:02}{}T{}Z", &date[12..16], &date[5..7], date[17..25].replace(':', ""))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(text.as_bytes());
    hmac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "20150830T123600Z";

    fn signature(signed: &Signed<'_>) -> String {
        let secret_access_key = &Secret::new("", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").unwrap();
        let signer =
            Signer { access_key_id: "AKIDEXAMPLE", secret_access_key, region: "us-east-1", service: "service" };
        let header = signer.authorization(DATE, signed);
        assert!(
            header.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ")
        );
        header.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    /// Cases of AWS's signature test suite: `get-vanilla`, `post-vanilla`, `get-space`, `post-x-www-form-urlencoded`.
    #[test]
    fn the_published_vectors_come_out() {
        let plain: &[_] = &[("host", "example.amazonaws.com"), ("x-amz-date", DATE)];
        let form: &[_] = &[("content-type", "application/x-www-form-urlencoded"), plain[0], plain[1]];
        for (method, path, headers, body, expected) in [
            ("GET", "/", plain, "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", plain, "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            ("GET", "/example space/", plain, "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
            ("POST", "/", form, "Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        ] {
            let signed = Signed { method, path, headers, body: body.as_bytes() };
            assert_eq!(signature(&signed), expected, "{method} {path}");
        }
    }

    #[test]
    fn encoded_paths_are_signed_encoded_twice() {
        let path = format!("/model/{}/converse", encoded("arn:aws:bedrock:us-east-1:1:inference-profile/us.a-v1:0"));
        assert!(path.starts_with("/model/arn%3Aaws%3A") && path.contains("profile%2Fus.a-v1%3A0/converse"), "{path}");
        let signed = Signed { method: "POST", path: &path, headers: &[], body: b"" };
        assert!(signed.canonical().starts_with("POST\n/model/arn%253Aaws%253A"), "{}", signed.canonical());
    }

    #[test]
    fn dates_are_written_as_aws_reads_them() {
        let date = |text| amz_date(httpdate::parse_http_date(text).unwrap());
        assert_eq!(date("Sun, 30 Aug 2015 12:36:00 GMT"), DATE);
        assert_eq!(date("Thu, 01 Jan 2026 00:00:09 GMT"), "20260101T000009Z");
    }
}
