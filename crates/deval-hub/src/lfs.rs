//! Git LFS: asking a Hub how it wants file contents, and sending them to one without Xet (`basic` and `multipart`).

use std::collections::HashMap;
use std::io::SeekFrom;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use reqwest::{Body, Method, RequestBuilder, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::http::{build, shown};
use crate::plan::LocalFile;
use crate::upload::{Upload, UploadEvent};
use crate::{HubError, Transferred};

/// Objects of one batch call.
const BATCH: usize = 100;
const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// Parts on their way at the same time. Each is in memory.
const PARALLEL_PARTS: usize = 3;
/// Bytes of all parts that may be in memory; a Hub with larger parts gets fewer at a time.
const PARTS_IN_MEMORY: u64 = 192 << 20;

#[derive(Deserialize)]
struct Batch {
    transfer: Option<String>,
    #[serde(default)]
    objects: Vec<Object>,
}

/// What the LFS server says of one object.
#[derive(Deserialize)]
pub(crate) struct Object {
    oid: String,
    error: Option<ObjectError>,
    actions: Option<Actions>,
}

#[derive(Deserialize)]
struct ObjectError {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: HashMap<String, Value>,
}

/// Asks how the contents are to be sent: `None` for Xet, else what to do with each object. Nothing is sent yet.
pub(crate) async fn ask(upload: &Upload<'_>, files: &[&LocalFile]) -> Result<Option<Vec<Object>>, HubError> {
    let mut objects = Vec::new();
    let mut is_xet = false;
    for files in files.chunks(BATCH) {
        let (url, batch) = ask_batch(upload, files).await?;
        refused(files, &batch.objects)?;
        match batch.transfer.as_deref().unwrap_or("basic") {
            "xet" => is_xet = true,
            "basic" | "multipart" => objects.extend(batch.objects),
            other => return Err(HubError::Transfer { url: shown(&url), transfer: other.to_owned() }),
        }
    }
    Ok((!is_xet).then_some(objects))
}

async fn ask_batch(upload: &Upload<'_>, files: &[&LocalFile]) -> Result<(Url, Batch), HubError> {
    let name = format!("{}.git", upload.repo.name());
    let url = upload.api.url([upload.repo.namespace(), &name, "info", "lfs", "objects", "batch"]);
    let objects: Vec<Value> = files.iter().map(|f| json!({"oid": f.sha256, "size": f.size})).collect();
    let body = json!({
        "operation": "upload", "transfers": ["basic", "multipart", "xet"], "objects": objects,
        "hash_algo": "sha256", "ref": {"name": "main"},
    });
    let batch = upload.send(lfs_json(upload.api.request(Method::POST, url.clone()), &body)).await?.json()?;
    Ok((url, batch))
}

fn refused(files: &[&LocalFile], objects: &[Object]) -> Result<(), HubError> {
    let Some((oid, error)) = objects.iter().find_map(|object| Some((&object.oid, object.error.as_ref()?))) else {
        return Ok(());
    };
    let path = files.iter().find(|f| f.sha256 == *oid).map_or(oid, |f| &f.path).clone();
    Err(HubError::Lfs { path, code: error.code, message: error.message.clone() })
}

/// Sends what the server does not have, file by file.
pub(crate) async fn send(
    upload: &Upload<'_>,
    files: &[&LocalFile],
    objects: Vec<Object>,
) -> Result<Transferred, HubError> {
    let objects: HashMap<String, Object> = objects.into_iter().map(|object| (object.oid.clone(), object)).collect();
    let meter = Meter { total: files.iter().map(|f| f.size).sum(), ..Meter::new() };
    for file in files {
        let object = objects.get(&file.sha256);
        let object =
            object.ok_or_else(|| upload.unexpected(&format!("the LFS server is silent on `{}`", file.path)))?;
        match object.actions.as_ref().and_then(|actions| Some((actions.upload.as_ref()?, &actions.verify))) {
            None => meter.known(upload, file.size),
            Some((action, verify)) => {
                match action.number("chunk_size") {
                    Some(size) if size > 0 => multipart(upload, file, action, size, &meter).await?,
                    _ => basic(upload, file, action, &meter).await?,
                }
                if let Some(verify) = verify {
                    let body = json!({"oid": file.sha256, "size": file.size});
                    upload.send(lfs_json(verify.request(upload, Method::POST, &verify.href)?, &body)).await?;
                }
            }
        }
    }
    Ok(Transferred { total: meter.total, sent: meter.sent.load(Ordering::Relaxed) })
}

/// One request with the whole file, read while it is sent.
async fn basic(upload: &Upload<'_>, file: &LocalFile, action: &Action, meter: &Meter) -> Result<(), HubError> {
    let call = || async {
        let opened = tokio::fs::File::open(&file.source).await.map_err(HubError::disk(&file.source))?;
        let request = action.request(upload, Method::PUT, &action.href)?.header(CONTENT_LENGTH, file.size);
        upload.api.once(build(request.body(Body::from(opened)))?).await
    };
    upload.api.repeat(&|error, pause| upload.waiting(error, pause), call).await?;
    meter.sent(upload, file.size);
    Ok(())
}

/// A part is repeated by itself.
async fn multipart(
    upload: &Upload<'_>,
    file: &LocalFile,
    action: &Action,
    part: u64,
    meter: &Meter,
) -> Result<(), HubError> {
    let mut parts: Vec<(u64, &str)> = action.parts();
    parts.sort_unstable();
    let wanted = file.size.div_ceil(part);
    if parts.len() as u64 != wanted || parts.iter().map(|(number, _)| *number).ne(1..=wanted) {
        let what = format!("{} addresses for the {wanted} parts of `{}`", parts.len(), file.path);
        return Err(upload.unexpected(&what));
    }
    let parallel = usize::try_from(PARTS_IN_MEMORY / part).unwrap_or(PARALLEL_PARTS).clamp(1, PARALLEL_PARTS);
    let sending = stream::iter(parts).map(async |(number, href)| {
        let bytes = read(file, (number - 1) * part, part).await?;
        let size = bytes.len() as u64;
        let answer = upload.send(bare(upload, Method::PUT, href)?.body(bytes)).await?;
        meter.sent(upload, size);
        let etag = answer.headers.get(ETAG).and_then(|value| value.to_str().ok());
        let etag = etag.ok_or_else(|| upload.unexpected("a part was stored without an ETag"))?;
        Ok::<_, HubError>(json!({"partNumber": number, "etag": etag}))
    });
    let parts: Vec<Value> = sending.buffered(parallel).try_collect().await?;
    let body = json!({"oid": file.sha256, "parts": parts});
    let Err(error) = upload.send(lfs_json(bare(upload, Method::POST, &action.href)?, &body)).await else {
        return Ok(());
    };
    // A completion whose answer was lost cannot be repeated: its parts are gone. Whether the file is there, the batch call tells.
    let (_, batch) = ask_batch(upload, &[file]).await?;
    let is_stored = |object: &Object| object.oid == file.sha256 && object.error.is_none() && object.actions.is_none();
    if batch.objects.iter().any(is_stored) { Ok(()) } else { Err(error) }
}

async fn read(file: &LocalFile, offset: u64, length: u64) -> Result<Vec<u8>, HubError> {
    let reading = async {
        let mut opened = tokio::fs::File::open(&file.source).await?;
        opened.seek(SeekFrom::Start(offset)).await?;
        let mut bytes = Vec::new();
        opened.take(length).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    reading.await.map_err(HubError::disk(&file.source))
}

fn lfs_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request.json(body).header(ACCEPT, LFS_JSON).header(CONTENT_TYPE, LFS_JSON)
}

fn bare(upload: &Upload<'_>, method: Method, href: &str) -> Result<RequestBuilder, HubError> {
    let url = upload.api.endpoint().join(href);
    let url = url.map_err(|e| upload.unexpected(&format!("the LFS server names no address: {e}")))?;
    Ok(upload.api.request(method, url))
}

impl Action {
    /// The request with the headers that the server asks for.
    fn request(&self, upload: &Upload<'_>, method: Method, href: &str) -> Result<RequestBuilder, HubError> {
        let asked = self.header.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
        Ok(asked.fold(bare(upload, method, href)?, |request, (name, value)| request.header(name, value)))
    }

    fn number(&self, name: &str) -> Option<u64> {
        let value = self.header.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }

    /// Number and address of each part.
    fn parts(&self) -> Vec<(u64, &str)> {
        let parts = self.header.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.as_str()?)));
        parts.collect()
    }
}

/// Counts bytes for the progress.
struct Meter {
    total: u64,
    done: AtomicU64,
    sent: AtomicU64,
    started: Instant,
}

impl Meter {
    fn new() -> Self {
        Self { total: 0, done: AtomicU64::new(0), sent: AtomicU64::new(0), started: Instant::now() }
    }

    fn sent(&self, upload: &Upload<'_>, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.known(upload, bytes);
    }

    fn known(&self, upload: &Upload<'_>, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let sent = self.sent.load(Ordering::Relaxed);
        let known = 1.0 - sent as f64 / done.max(1) as f64;
        let rate = Some(done as f64 / self.started.elapsed().as_secs_f64().max(1e-3));
        (upload.progress)(UploadEvent::Transfer { done, total: self.total, sent, known, rate });
    }
}
