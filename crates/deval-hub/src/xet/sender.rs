//! From chunks to what the content store keeps: xorbs that hold them, and shards that tell which chunks make up which file.
//!
//! A chunk is copied once, from the block that was just read into the xorb that goes over the wire, and forgotten. In memory are the xorb
//! that is being filled and those on their way; filling waits while too many are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::{JoinError, JoinSet};
use xet_client::ClientError;
use xet_core_structures::CoreError;
use xet_core_structures::merklehash::{MerkleHash, file_hash, xorb_hash};
use xet_core_structures::metadata_shard::chunk_verification::range_hash_from_chunks;
use xet_core_structures::metadata_shard::file_structs::{
    FileDataSequenceEntry, FileDataSequenceHeader, FileMetadataExt, FileVerificationEntry, MDBFileInfo,
};
use xet_core_structures::metadata_shard::shard_in_memory::MDBInMemoryShard;
use xet_core_structures::metadata_shard::xorb_structs::{MDBXorbInfo, XorbChunkSequenceEntry, XorbChunkSequenceHeader};
use xet_core_structures::metadata_shard::{
    ChunkIndexSizeEnforcement, MDB_SHARD_LOCAL_CACHE_EXPIRATION, MDB_SHARD_TARGET_SIZE, MDBShardFile, Sha256,
    ShardFileManager, hash_is_global_dedup_eligible,
};
use xet_core_structures::xorb_object::constants::MAX_XORB_CHUNKS;
use xet_core_structures::xorb_object::{CompressionScheme, SerializedXorbObject, serialize_chunk};
use xet_data::DataError;
use xet_data::processing::configurations::TranslatorConfig;
use xet_data::processing::{CasClient, create_remote_client};

use super::SESSION;
use super::chunks::{self, Block};
use crate::upload::UploadEvent;
use crate::{HubError, LocalFile};

/// Bytes of chunks in a xorb. The store takes 64 MiB; half keeps memory low, and below 32 MiB the allocator uses the same memory again.
const XORB: usize = 31 << 20;

/// What a chunk's header takes.
const CHUNK_HEADER: usize = 8;

/// Chunks that are packed in the way that suits the first of them.
const ALIKE: usize = 32;

/// Chunks of a file between two questions what others have sent.
const SPACING: usize = 256;

/// How many chunks the pieces of a file must have on average: below, chunks that are known are sent once more, because a file in many
/// pieces is slow to download. The first pieces are not counted.
const CHUNKS_PER_PIECE: usize = 8;
const FREE_PIECES: usize = 16;

/// The part of the store that all clients use.
const PREFIX: &str = "default";

/// Sends files one after the other.
pub(super) struct Sender {
    store: Arc<dyn CasClient>,
    session: TranslatorConfig,
    /// What the store was found to have before.
    records: Arc<ShardFileManager>,
    /// What this transfer adds to it.
    shards: Vec<MDBInMemoryShard>,
    files: Vec<Listing>,
    xorb: Xorb,
    scheme: CompressionScheme,
    uploads: JoinSet<Result<u64, ClientError>>,
    /// Bytes.
    sent: u64,
    progress: Arc<Progress>,
}

/// The chunks of a file, and where they lie.
struct Listing {
    sha256: Sha256,
    /// Hash and length of each.
    chunks: Vec<(MerkleHash, u64)>,
    /// Those in the xorb that is being filled are marked: it has no name yet.
    pieces: Vec<FileDataSequenceEntry>,
    /// Index of the first chunk that may be asked for.
    next_question: usize,
}

/// A xorb that is being filled.
#[derive(Default)]
struct Xorb {
    packed: Vec<u8>,
    /// Hash and length of each chunk.
    chunks: Vec<(MerkleHash, u64)>,
    places: HashMap<MerkleHash, usize>,
    /// Bytes of the chunks.
    length: usize,
    /// How the next chunks are packed.
    scheme: CompressionScheme,
}

/// Counts bytes of the files.
pub(super) struct Progress {
    total: u64,
    known: AtomicU64,
    stored: AtomicU64,
    /// Over the wire.
    sent: AtomicU64,
    started: Instant,
}

/// What ends a transfer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] HubError),
    #[error(transparent)]
    Store(#[from] ClientError),
    #[error(transparent)]
    Format(#[from] CoreError),
    #[error(transparent)]
    Session(#[from] DataError),
}

impl Sender {
    pub(super) async fn new(
        session: TranslatorConfig,
        scheme: CompressionScheme,
        progress: Arc<Progress>,
    ) -> Result<Self, Broken> {
        let store = create_remote_client(&session, SESSION, false).await?;
        let records = ShardFileManager::new_in_cache_directory(&session.ctx, &session.shard_cache_directory).await;
        Ok(Self {
            store,
            records: records?,
            session,
            shards: vec![MDBInMemoryShard::default()],
            files: Vec::new(),
            xorb: Xorb::default(),
            scheme,
            uploads: JoinSet::new(),
            sent: 0,
            progress,
        })
    }

    pub(super) async fn send(&mut self, file: &LocalFile) -> Result<(), Broken> {
        let sha256 = Sha256::from_hex(&file.sha256).map_err(DataError::from)?;
        let mut listing = Listing { sha256, chunks: Vec::new(), pieces: Vec::new(), next_question: 0 };
        let mut blocks = chunks::of(file.source.clone());
        while let Some(block) = blocks.recv().await {
            self.take(&block?, &mut listing).await?;
        }
        self.files.push(listing);
        Ok(())
    }

    async fn take(&mut self, block: &Block, listing: &mut Listing) -> Result<(), Broken> {
        let hashes = block.hashes();
        self.ask(&hashes, listing).await?;
        let mut at = 0;
        while at < hashes.len() {
            let known = self.known(&hashes[at..]).await?.or_else(|| self.xorb.holds(&hashes[at..]));
            let (count, piece) = match known.filter(|(count, piece)| listing.welcomes(*count, piece)) {
                Some((count, piece)) => {
                    self.progress.known.fetch_add(piece.unpacked_segment_bytes.into(), Ordering::Relaxed);
                    (count, piece)
                }
                None => (1, self.pack(hashes[at], block.chunk(at), listing).await?),
            };
            listing.add(piece);
            listing.chunks.extend((at..at + count).map(|index| (hashes[index], block.chunk(index).len() as u64)));
            at += count;
        }
        Ok(())
    }

    /// How many of these chunks lie in a row in a xorb of the store, and where; or none, if it has not the first.
    async fn known(&self, hashes: &[MerkleHash]) -> Result<Option<(usize, FileDataSequenceEntry)>, Broken> {
        match self.shards.iter().find_map(|shard| shard.chunk_hash_dedup_query(hashes)) {
            None => Ok(self.records.chunk_hash_dedup_query(hashes).await?),
            found => Ok(found),
        }
    }

    /// Asks what others have sent: for the chunks that the store answers for, and not too often.
    async fn ask(&self, hashes: &[MerkleHash], listing: &mut Listing) -> Result<(), Broken> {
        for (at, hash) in hashes.iter().enumerate() {
            let index = listing.chunks.len() + at;
            let answered = index == 0 || hash_is_global_dedup_eligible(hash);
            if index < listing.next_question || !answered || self.known(&hashes[at..]).await?.is_some() {
                continue;
            }
            listing.next_question = index + SPACING;
            // A store that cannot tell gets the chunks.
            if let Ok(Some(shard)) = self.store.query_for_global_dedup_shard(PREFIX, hash).await {
                self.records.import_shard_from_bytes(&shard, ChunkIndexSizeEnforcement::Eviction).await?;
            }
        }
        Ok(())
    }

    /// Puts a chunk into the xorb that is being filled; where it lies there.
    async fn pack(
        &mut self,
        hash: MerkleHash,
        chunk: &[u8],
        listing: &mut Listing,
    ) -> Result<FileDataSequenceEntry, Broken> {
        if self.xorb.length + chunk.len() > XORB || self.xorb.chunks.len() == *MAX_XORB_CHUNKS {
            self.cut(Some(listing)).await?;
        }
        Ok(self.xorb.push(hash, chunk, self.scheme)?)
    }

    /// Sends the xorb that is being filled off, as soon as there is room on the way.
    async fn cut(&mut self, current: Option<&mut Listing>) -> Result<(), Broken> {
        let xorb = std::mem::take(&mut self.xorb);
        if xorb.chunks.is_empty() {
            return Ok(());
        }
        let hash = xorb_hash(&xorb.chunks);
        self.files.iter_mut().chain(current).for_each(|listing| listing.name(hash));
        if self.shards.last().is_some_and(|shard| shard.shard_file_size() > *MDB_SHARD_TARGET_SIZE) {
            self.shards.push(MDBInMemoryShard::default());
        }
        let shard = self.shards.last_mut().expect("there is one from the start");
        shard.add_xorb_block(xorb.info(hash))?;
        while let Some(ended) = self.uploads.try_join_next() {
            self.ended(ended)?;
        }
        let store = self.store.clone();
        let permit = store.acquire_upload_permit().await?;
        let meter =
            Arc::new(Meter { progress: self.progress.clone(), length: xorb.length as u64, stored: AtomicU64::new(0) });
        let object = SerializedXorbObject {
            serialized_data: xorb.packed,
            hash,
            raw_num_bytes: xorb.length as u64,
            num_chunks: xorb.chunks.len(),
            footer_start: None,
        };
        self.uploads.spawn(async move {
            let told = meter.clone();
            let tell = move |delta, completed, total| told.sent(delta, completed, total);
            let sent = store.upload_xorb(PREFIX, object, Some(Arc::new(tell)), permit).await?;
            meter.ended(sent);
            Ok(sent)
        });
        Ok(())
    }

    fn ended(&mut self, upload: Result<Result<u64, ClientError>, JoinError>) -> Result<(), Broken> {
        self.sent += upload.map_err(DataError::from)??;
        Ok(())
    }

    /// Waits until the store has all xorbs, and tells it the files. Bytes sent in all.
    pub(super) async fn finish(mut self) -> Result<u64, Broken> {
        self.cut(None).await?;
        while let Some(ended) = self.uploads.join_next().await {
            self.ended(ended)?;
        }
        let last = self.shards.last_mut().expect("there is one from the start");
        for listing in std::mem::take(&mut self.files) {
            last.add_file_reconstruction_info(listing.info())?;
        }
        for shard in std::mem::take(&mut self.shards) {
            self.tell(&shard).await?;
        }
        Ok(self.sent)
    }

    /// Sends a shard, and from then on counts on what it tells.
    async fn tell(&mut self, shard: &MDBInMemoryShard) -> Result<(), Broken> {
        let (staged, records) = (&self.session.shard_session_directory, &self.records);
        std::fs::create_dir_all(staged).map_err(HubError::disk(staged))?;
        let path = shard.write_to_directory(staged, None)?;
        let file = MDBShardFile::load_from_file(&path, records.shard_file_cache())?;
        let bytes = file.read_shard_to_bytes_remove_footer()?;
        self.sent += bytes.len() as u64;
        self.store.upload_shard(bytes, self.store.acquire_upload_permit().await?, None).await?;
        let directory = records.shard_directory();
        let kept =
            file.export_with_expiration(directory, *MDB_SHARD_LOCAL_CACHE_EXPIRATION, records.shard_file_cache())?;
        records.register_shards(&[kept], ChunkIndexSizeEnforcement::Eviction).await?;
        Ok(std::fs::remove_file(&path).map_err(HubError::disk(&path))?)
    }
}

impl Listing {
    /// Whether the last piece goes on with this one.
    fn is_continued_by(&self, piece: &FileDataSequenceEntry) -> bool {
        self.pieces
            .last()
            .is_some_and(|last| last.xorb_hash == piece.xorb_hash && last.chunk_index_end == piece.chunk_index_start)
    }

    /// Whether so many chunks that are known may be taken from where they are.
    fn welcomes(&self, count: usize, piece: &FileDataSequenceEntry) -> bool {
        let pieces = self.pieces.len() + 1;
        let are_long = self.chunks.len() + count >= CHUNKS_PER_PIECE * pieces;
        self.is_continued_by(piece) || pieces <= FREE_PIECES || are_long
    }

    fn add(&mut self, piece: FileDataSequenceEntry) {
        let continued = self.is_continued_by(&piece);
        match self.pieces.last_mut() {
            Some(last) if continued => {
                last.chunk_index_end = piece.chunk_index_end;
                last.unpacked_segment_bytes += piece.unpacked_segment_bytes;
            }
            _ => self.pieces.push(piece),
        }
    }

    /// The xorb that was being filled has a name.
    fn name(&mut self, xorb: MerkleHash) {
        let marked = self.pieces.iter_mut().filter(|piece| piece.xorb_hash == MerkleHash::marker());
        marked.for_each(|piece| piece.xorb_hash = xorb);
    }

    fn info(self) -> MDBFileInfo {
        let hashes: Vec<MerkleHash> = self.chunks.iter().map(|(hash, _)| *hash).collect();
        let mut rest = &hashes[..];
        let verification = self.pieces.iter().map(|piece| {
            let (of_piece, others) = rest.split_at((piece.chunk_index_end - piece.chunk_index_start) as usize);
            rest = others;
            FileVerificationEntry::new(range_hash_from_chunks(of_piece))
        });
        MDBFileInfo {
            verification: verification.collect(),
            metadata: FileDataSequenceHeader::new(file_hash(&self.chunks), self.pieces.len(), true, true),
            segments: self.pieces,
            metadata_ext: Some(FileMetadataExt::new(self.sha256)),
        }
    }
}

impl Xorb {
    /// As [`Sender::known`], of what is not sent yet.
    fn holds(&self, hashes: &[MerkleHash]) -> Option<(usize, FileDataSequenceEntry)> {
        let start = *self.places.get(hashes.first()?)?;
        let same = self.chunks[start..].iter().zip(hashes).take_while(|((held, _), hash)| held == *hash);
        let count = same.count();
        let bytes: u64 = self.chunks[start..start + count].iter().map(|(_, length)| length).sum();
        Some((count, FileDataSequenceEntry::new(MerkleHash::marker(), bytes as usize, start, start + count)))
    }

    fn push(
        &mut self,
        hash: MerkleHash,
        chunk: &[u8],
        scheme: CompressionScheme,
    ) -> Result<FileDataSequenceEntry, CoreError> {
        let place = self.chunks.len();
        if place == 0 {
            self.packed.reserve_exact(XORB + *MAX_XORB_CHUNKS * CHUNK_HEADER);
        }
        if place.is_multiple_of(ALIKE) {
            self.scheme = scheme.resolve_for_data(chunk);
        }
        serialize_chunk(chunk, &mut self.packed, self.scheme)?;
        self.chunks.push((hash, chunk.len() as u64));
        self.places.insert(hash, place);
        self.length += chunk.len();
        Ok(FileDataSequenceEntry::new(MerkleHash::marker(), chunk.len(), place, place + 1))
    }

    fn info(&self, hash: MerkleHash) -> MDBXorbInfo {
        let mut at = 0;
        let chunks = self.chunks.iter().map(|(hash, length)| {
            let entry = XorbChunkSequenceEntry::new(*hash, *length as usize, at);
            at += *length as usize;
            entry
        });
        MDBXorbInfo {
            chunks: chunks.collect(),
            metadata: XorbChunkSequenceHeader::new(hash, self.chunks.len(), self.length),
        }
    }
}

impl Progress {
    pub(super) fn of(files: &[&LocalFile]) -> Self {
        let [known, stored, sent] = [(); 3].map(|()| AtomicU64::new(0));
        Self { total: files.iter().map(|f| f.size).sum(), known, stored, sent, started: Instant::now() }
    }

    pub(super) fn event(&self) -> UploadEvent {
        let [known, stored, sent] = [&self.known, &self.stored, &self.sent].map(|count| count.load(Ordering::Relaxed));
        let done = (known + stored).min(self.total);
        let rate = Some(done as f64 / self.started.elapsed().as_secs_f64().max(1e-3));
        UploadEvent::Transfer { done, total: self.total, sent, known: known as f64 / done.max(1) as f64, rate }
    }
}

/// Counts the bytes of a xorb, each once, however often it is sent.
struct Meter {
    progress: Arc<Progress>,
    /// Bytes of its chunks.
    length: u64,
    stored: AtomicU64,
}

impl Meter {
    /// `delta` bytes more, `completed` of `total` of the packed ones.
    fn sent(&self, delta: u64, completed: u64, total: u64) {
        self.progress.sent.fetch_add(delta, Ordering::Relaxed);
        self.stored((u128::from(self.length) * u128::from(completed) / u128::from(total.max(1))) as u64);
    }

    fn stored(&self, now: u64) {
        let before = self.stored.fetch_max(now, Ordering::Relaxed);
        self.progress.stored.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    }

    /// What was never sent was known.
    fn ended(&self, sent: u64) {
        if sent == 0 {
            self.progress.known.fetch_add(self.length, Ordering::Relaxed);
        } else {
            self.stored(self.length);
        }
    }
}
