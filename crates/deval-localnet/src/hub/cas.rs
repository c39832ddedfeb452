//! The Xet store over HTTP, as hf-xet 1.8 speaks it (`remote_client.rs` of xet-client, and its `local_cas_server`).
//!
//! ```text
//! GET  /_cas/v1/chunks/{prefix}/{chunk}                        a shard that names the chunk, or 404
//! POST /_cas/v1/xorb-grants/{prefix}/{xorb}                    201 and where to send the xorb, or 200: it is there
//! PUT  /_cas/uploads/{xorb}/{grant}                            the xorb
//! POST /_cas/v1/xorb-commits/{prefix}/{xorb}/grant/{grant}     from now on it is there
//! POST /_cas/v2/shards                                         which chunks make up which file
//! GET  /_cas/v2/reconstructions/{file}                         where the bytes of a file, or of a range of it, are
//! GET  /_cas/xorbs/{xorb}                                      ranges of a xorb
//! POST /_cas/v1/telemetry                                      taken and thrown away; the journal shows that it came
//! ```
//! A grant says itself what it is for (length and CRC-64/NVME of the xorb), so that it outlives a restart. Addresses that a client is given
//! carry no token, as presigned ones of the Hub; the rest asks for the token that the Hub gave.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use crc_fast::{CrcAlgorithm, Digest};
use serde::Deserialize;
use serde_json::{Value, json};
use xet_core_structures::merklehash::MerkleHash;
use xet_core_structures::xorb_object::deserialize_chunk_to_writer;

use super::answer::{Refusal, base_url};
use super::download::{Asked, parse_range, send};
use super::lfs::{blocking, receive};
use super::xet::{Cas, Chunks, XetFile, chunk_range};
use super::{Hub, HubError};

/// What the Hub gives a client that may read.
pub(super) const READ_TOKEN: &str = "local-read";

/// What the Hub gives a client that may write.
pub(super) const WRITE_TOKEN: &str = "local-write";

/// The address of the store.
pub(super) fn url(headers: &HeaderMap) -> String {
    format!("{}/_cas", base_url(headers))
}

pub(super) fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/v1/chunks/{prefix}/{chunk}", get(chunk))
        .route("/v1/xorb-grants/{prefix}/{xorb}", post(grant))
        .route("/uploads/{xorb}/{grant}", put(upload))
        .route("/v1/xorb-commits/{prefix}/{xorb}/grant/{grant}", post(commit))
        .route("/v2/shards", post(shard))
        .route("/v2/reconstructions/{file}", get(reconstruction))
        .route("/xorbs/{xorb}", get(xorb))
        .route("/v1/telemetry", post(StatusCode::NO_CONTENT))
}

/// # Errors
/// 401 without one of these tokens.
fn require(headers: &HeaderMap, tokens: &[&str]) -> Result<(), Refusal> {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if token.is_some_and(|token| tokens.contains(&token)) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "the content store takes the token that the Hub gave for it"))
}

fn parse_hash(text: &str) -> Result<MerkleHash, Refusal> {
    MerkleHash::from_hex(text).map_err(|_| Refusal::bad_request(format!("{text:?} is no Xet hash")))
}

fn not_found(what: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, what)
}

async fn chunk(
    State(hub): State<Arc<Hub>>,
    Path((_, chunk)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Vec<u8>, Refusal> {
    require(&headers, &[WRITE_TOKEN])?;
    hub.cas.shard_with(&parse_hash(&chunk)?)?.ok_or_else(|| not_found("no shard names this chunk"))
}

#[derive(Deserialize)]
struct GrantRequest {
    length: u64,
    checksum: Checksum,
}

/// A decimal number, as text.
#[derive(Deserialize)]
#[serde(tag = "algo", content = "value", rename_all = "lowercase")]
enum Checksum {
    Crc64Nvme(String),
}

async fn grant(
    State(hub): State<Arc<Hub>>,
    Path((_, xorb)): Path<(String, String)>,
    headers: HeaderMap,
    Json(GrantRequest { length, checksum: Checksum::Crc64Nvme(checksum) }): Json<GrantRequest>,
) -> Result<Response, Refusal> {
    require(&headers, &[WRITE_TOKEN])?;
    let hash = parse_hash(&xorb)?;
    if hub.cas.xorb_path(&hash).is_file() {
        return Ok(StatusCode::OK.into_response());
    }
    let grant = Grant { length, checksum: checksum.parse().map_err(|_| Refusal::bad_request("no checksum"))? }.id();
    let href = format!("{}/uploads/{}/{grant}", url(&headers), hash.hex());
    let answer = json!({ "id": grant, "method": "PUT", "url": href, "headers": {} });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// What is to be sent.
struct Grant {
    length: u64,
    checksum: u64,
}

impl Grant {
    fn id(&self) -> String {
        format!("{}-{}", self.length, self.checksum)
    }

    fn parse(id: &str) -> Result<Self, Refusal> {
        let parsed = id.split_once('-').and_then(|(length, checksum)| {
            Some(Self { length: length.parse().ok()?, checksum: checksum.parse().ok()? })
        });
        parsed.ok_or_else(|| Refusal::bad_request(format!("{id:?} is no grant")))
    }
}

async fn upload(
    State(hub): State<Arc<Hub>>,
    Path((xorb, grant)): Path<(String, String)>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let (hash, wanted) = (parse_hash(&xorb)?, Grant::parse(&grant)?);
    let (mut checksum, mut length) = (Digest::new(CrcAlgorithm::Crc64Nvme), 0);
    let count = |bytes: &[u8]| {
        checksum.update(bytes);
        length += bytes.len() as u64;
    };
    let staged = receive(&hub, body, count).await?;
    let keep = move || {
        if (length, checksum.finalize()) != (wanted.length, wanted.checksum) {
            return Err(Refusal::bad_request(format!("{length} bytes came that are not those of the grant")));
        }
        let path = hub.cas.staged_path(&hash, &wanted.id());
        staged.persist(&path).map_err(|error| HubError::Io { path, source: error.error })?;
        Ok(StatusCode::OK)
    };
    blocking(keep).await
}

async fn commit(
    State(hub): State<Arc<Hub>>,
    Path((_, xorb, grant)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    require(&headers, &[WRITE_TOKEN])?;
    let hash = parse_hash(&xorb)?;
    let (staged, kept) = (hub.cas.staged_path(&hash, &Grant::parse(&grant)?.id()), hub.cas.xorb_path(&hash));
    if kept.is_file() {
        return Ok(StatusCode::OK);
    }
    if !staged.is_file() {
        return Err(not_found("nothing was sent for this grant"));
    }
    Chunks::read(&staged).map_err(|error| Refusal::bad_request(error.to_string()))?;
    std::fs::rename(&staged, &kept).map_err(HubError::io(&staged))?;
    Ok(StatusCode::OK)
}

async fn shard(State(hub): State<Arc<Hub>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    require(&headers, &[WRITE_TOKEN])?;
    let added = blocking(move || match hub.cas.add_shard(&hub.store, &body) {
        Err(error @ HubError::Cas { .. }) => Err(Refusal::bad_request(error.to_string())),
        added => Ok(added?),
    });
    added.await?;
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], "{\"type\":\"result\"}\n").into_response())
}

async fn reconstruction(
    State(hub): State<Arc<Hub>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    require(&headers, &[READ_TOKEN, WRITE_TOKEN])?;
    let file = hub.cas.find_by_hash(&parse_hash(&file)?)?.ok_or_else(|| not_found("no such file"))?;
    let range =
        match headers.get(RANGE).and_then(|range| range.to_str().ok()).map(|range| parse_range(range, file.size)) {
            None | Some(Asked::Whole) => 0..file.size,
            Some(Asked::Part(range)) => range,
            Some(Asked::Outside) => {
                return Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such bytes"));
            }
        };
    let base = url(&headers);
    let answer = blocking(move || Ok(Plan::of(&hub.cas, &file, &range)?.answer(&base)));
    Ok(Json(answer.await?))
}

/// How the bytes of a range are put together.
#[derive(Default)]
struct Plan {
    /// Bytes of the first chunk that lie before the range.
    offset: u64,
    terms: Vec<Term>,
}

/// Chunks of one xorb that follow each other in the file.
struct Term {
    xorb: MerkleHash,
    chunks: Range<usize>,
    /// Where they lie in the xorb.
    bytes: Range<u64>,
    /// Bytes they are of the file.
    length: u64,
}

/// Chunks of a xorb, and where they lie in it.
type Piece = (Range<usize>, Range<u64>);

/// A few bytes of a file, straight from the chunks that hold them.
///
/// # Errors
/// When a xorb cannot be read or does not hold the chunks that the shard names.
pub(super) fn read(cas: &Cas, file: &XetFile, range: &Range<u64>) -> Result<Vec<u8>, HubError> {
    let plan = Plan::of(cas, file, range)?;
    let mut bytes = Vec::new();
    for Term { xorb, chunks, bytes: lies, .. } in &plan.terms {
        let path = cas.xorb_path(xorb);
        let mut xorb = BufReader::new(File::open(&path).map_err(HubError::io(&path))?);
        xorb.seek(SeekFrom::Start(lies.start)).map_err(HubError::io(&path))?;
        for _ in chunks.clone() {
            deserialize_chunk_to_writer(&mut xorb, &mut bytes).map_err(HubError::cas(&path))?;
        }
    }
    let start = usize::try_from(plan.offset).unwrap_or(bytes.len()).min(bytes.len());
    let length = usize::try_from(range.end - range.start).unwrap_or(bytes.len());
    Ok(bytes.drain(start..).take(length).collect())
}

impl Plan {
    fn of(cas: &Cas, file: &XetFile, range: &Range<u64>) -> Result<Self, HubError> {
        let (mut plan, mut at) = (Self::default(), 0);
        for segment in &file.segments {
            let end = at + u64::from(segment.unpacked_segment_bytes);
            if end > range.start && at < range.end {
                let chunks = cas.chunks(&segment.xorb_hash)?;
                let term = Term::of(segment.xorb_hash, &chunks, chunk_range(segment), at, range);
                let (term, before) =
                    term.ok_or_else(|| HubError::NoSuchChunks { path: cas.xorb_path(&segment.xorb_hash) })?;
                plan.offset += before;
                plan.terms.push(term);
            }
            at = end;
        }
        Ok(plan)
    }

    fn answer(&self, base: &str) -> Value {
        let terms = self.terms.iter().map(|Term { xorb, chunks, length, .. }| {
            json!({ "hash": xorb.hex(), "unpacked_length": length, "range": { "start": chunks.start, "end": chunks.end } })
        });
        let fetch = |(xorb, ranges): (String, Vec<Piece>)| {
            let ranges = ranges.into_iter().map(|(chunks, bytes)| {
                json!({ "chunks": { "start": chunks.start, "end": chunks.end },
                        "bytes": { "start": bytes.start, "end": bytes.end - 1 } })
            });
            let fetch = json!([{ "url": format!("{base}/xorbs/{xorb}"), "ranges": ranges.collect::<Vec<_>>() }]);
            (xorb, fetch)
        };
        json!({
            "offset_into_first_range": self.offset,
            "terms": terms.collect::<Vec<_>>(),
            "xorbs": self.ranges().into_iter().map(fetch).collect::<serde_json::Map<_, _>>(),
        })
    }

    /// What is to be read of each xorb, in order; ranges that touch are one.
    fn ranges(&self) -> BTreeMap<String, Vec<Piece>> {
        let mut terms: Vec<&Term> = self.terms.iter().collect();
        terms.sort_by_key(|term| term.chunks.start);
        let mut xorbs: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
        for Term { xorb, chunks, bytes, .. } in terms {
            let ranges = xorbs.entry(xorb.hex()).or_default();
            match ranges.last_mut() {
                Some((before, lies)) if chunks.start <= before.end => {
                    before.end = before.end.max(chunks.end);
                    lies.end = lies.end.max(bytes.end);
                }
                _ => ranges.push((chunks.clone(), bytes.clone())),
            }
        }
        xorbs
    }
}

impl Term {
    /// Those of `segment`, which begins at `at` in the file, that have bytes of `range`, and how many bytes lie before it; none if the
    /// xorb has no such chunks.
    fn of(
        xorb: MerkleHash,
        chunks: &Chunks,
        segment: Range<usize>,
        at: u64,
        range: &Range<u64>,
    ) -> Option<(Self, u64)> {
        let (mut first, mut start) = (segment.start, at);
        while start + chunks.lengths.get(first)? <= range.start {
            start += chunks.lengths[first];
            first += 1;
        }
        let (mut last, mut end) = (first, start);
        while last < segment.end && end < range.end {
            end += chunks.lengths.get(last)?;
            last += 1;
        }
        let bytes = chunks.bytes(first..last)?;
        Some((Self { xorb, chunks: first..last, bytes, length: end - start }, range.start.saturating_sub(start)))
    }
}

async fn xorb(State(hub): State<Arc<Hub>>, Path(xorb): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    let path = hub.cas.xorb_path(&parse_hash(&xorb)?);
    if !path.is_file() {
        return Err(not_found("no such xorb"));
    }
    send(&path, &xorb, &headers, Response::builder()).await
}

#[cfg(test)]
mod tests {
    use xet_core_structures::merklehash::MerkleHash;

    use super::{Chunks, Plan, Term};

    /// Three chunks of 10, 20 and 30 bytes, packed into 18, 13 and 14.
    fn chunks() -> Chunks {
        Chunks { starts: vec![0, 18, 31, 45], lengths: vec![10, 20, 30] }
    }

    #[test]
    fn a_range_takes_the_chunks_that_have_bytes_of_it() {
        let cases = [
            (0..60, (0..3, 0..45, 60, 0)),
            (0..1, (0..1, 0..18, 10, 0)),
            (10..30, (1..2, 18..31, 20, 0)),
            (9..11, (0..2, 0..31, 30, 9)),
            (35..60, (2..3, 31..45, 30, 5)),
        ];
        for (range, (wanted, bytes, length, before)) in cases {
            let (term, offset) = Term::of(MerkleHash::default(), &chunks(), 0..3, 0, &range).unwrap();
            assert_eq!((term.chunks, term.bytes, term.length, offset), (wanted, bytes, length, before), "{range:?}");
        }
        assert!(Term::of(MerkleHash::default(), &chunks(), 3..4, 0, &(0..5)).is_none(), "no such chunk");
    }

    #[test]
    fn ranges_of_one_xorb_that_touch_are_read_at_once() {
        let term = |first: usize, last: usize| {
            let bytes = chunks().bytes(first..last).unwrap();
            Term { xorb: MerkleHash::default(), chunks: first..last, bytes, length: 1 }
        };
        let ranges = |terms| Plan { offset: 0, terms }.ranges().into_values().collect::<Vec<_>>();
        assert_eq!(ranges(vec![term(2, 3), term(0, 1)]), [vec![(0..1, 0..18), (2..3, 31..45)]]);
        assert_eq!(ranges(vec![term(1, 2), term(0, 1), term(0, 2)]), [vec![(0..2, 0..31)]]);
    }
}
