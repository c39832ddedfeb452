"""Asks a Hub what De-Val's validator asks it, with the validator's own client.

usage: hub_client.py ENDPOINT REPO_ID OUTPUT_DIR

Needs huggingface_hub and fsspec: 0.25.1 and 2024.9.0 as on the validator's host, or 0.27.1 and 2024.12.0 as in the miner's
container. The calls before the download are those of upstream's `model_state.py`; the download is that of
the container. Anonymous unless HF_TOKEN is set. Prints one line of JSON; fails with a traceback.
"""

import hashlib
import json
import os
import sys
from pathlib import Path


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def ask(endpoint, repo_id, output_dir):
    # The libraries read these when they are imported.
    os.environ["HF_ENDPOINT"] = endpoint
    os.environ["HF_HOME"] = str(Path(output_dir).absolute().with_suffix(".hf-home"))
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import huggingface_hub
    from huggingface_hub import HfApi, HfFileSystem, snapshot_download

    api = HfApi()
    model = api.model_info(repo_id)
    commits = api.list_repo_commits(repo_id, revision="main")
    fs = HfFileSystem()
    safetensors = fs.glob(f"{repo_id}/*.safetensors")
    last_commits = [fs.ls(path)[0]["last_commit"] for path in safetensors]
    entries = [fs.info(path) for path in fs.glob(f"{repo_id}/**")]

    folder = Path(snapshot_download(repo_id, local_dir=output_dir, revision="main"))
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".cache" not in path.parts]
    return {
        "huggingface_hub": huggingface_hub.__version__,
        "id": model.id,
        "sha": model.sha,
        "private": model.private,
        "gated": model.gated,
        "last_modified": model.last_modified.isoformat(),
        "siblings": sorted(sibling.rfilename for sibling in model.siblings),
        "commits": [[commit.commit_id, commit.title, commit.created_at.isoformat()] for commit in commits],
        "safetensors": safetensors,
        "safetensors_last_commit": [commit.date.isoformat() for commit in last_commits],
        "size": sum(entry["size"] for entry in entries if entry["type"] == "file"),
        "size_gb": sum(entry["size"] * 1e-9 for entry in entries),
        "sha256": {str(path.relative_to(folder)): sha256(path) for path in files},
    }


if __name__ == "__main__":
    print(json.dumps(ask(*sys.argv[1:])))
