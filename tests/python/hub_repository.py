"""What a real huggingface_hub does with a repository: hub_repository.py upload|check ENDPOINT REPO_ID[,REPO_ID…] FOLDER

`upload` creates the repository and publishes the folder in one call of `upload_folder`. `check` verifies that the repository is
exactly the folder: the set of files, sizes, LFS sha256 or git sha1, the bytes of a fresh download, and the digest of the weights as
the validator computes it. Works with every release from 0.25.1 on; the token is HF_TOKEN's. Prints one line of JSON for each
repository; fails with a traceback or with what differs. In FOLDER, `{}` stands for the repository.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path


def digests(path):
    """sha256, and git's blob sha1."""
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            sha256.update(piece)
            sha1.update(piece)
    return sha256.hexdigest(), sha1.hexdigest()


def files(folder):
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and ".cache" not in path.relative_to(folder).parts:
            found[path.relative_to(folder).as_posix()] = path
    return found


def model_hash(folder):
    """deval/model/utils.py: one digest over all root weights, by code point."""
    digest = hashlib.sha256()
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".safetensors")):
        with open(Path(folder) / name, "rb") as file:
            while piece := file.read(4096):
                digest.update(piece)
    return digest.hexdigest()


def upload(api, repo_id, folder):
    api.create_repo(repo_id, private=True, exist_ok=True)
    commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="by huggingface_hub")
    return {"commit": commit.oid}


def difference(path, entry, local):
    if entry is None or local is None:
        return f"{path}: is only {'in the folder' if entry is None else 'on the Hub'}"
    sha256, sha1 = digests(local)
    lfs = getattr(entry, "lfs", None)
    listed = (lfs.sha256, lfs.size) if lfs else (entry.blob_id, entry.size)
    expected = (sha256 if lfs else sha1, local.stat().st_size)
    return None if listed == expected else f"{path}: the Hub lists {listed}, the folder has {expected}"


def check(api, repo_id, folder):
    from huggingface_hub import snapshot_download
    from huggingface_hub.hf_api import RepoFile

    local = files(folder)
    remote = {entry.path: entry for entry in api.list_repo_tree(repo_id, recursive=True) if isinstance(entry, RepoFile)}
    # The Hub's own, unless it was published.
    attributes = remote if ".gitattributes" in local else {**remote}
    if ".gitattributes" not in local:
        attributes.pop(".gitattributes", None)
    wrong = [difference(path, attributes.get(path), local.get(path)) for path in sorted({*attributes, *local})]
    with tempfile.TemporaryDirectory() as target:
        copy = Path(snapshot_download(repo_id, local_dir=target, revision="main"))
        for path, source in local.items():
            if not (copy / path).is_file() or digests(copy / path) != digests(source):
                wrong.append(f"{path}: the downloaded bytes differ")
        hashes = [model_hash(target), model_hash(folder)]
    if hashes[0] != hashes[1]:
        wrong.append(f"the weights hash to {hashes[0]} when downloaded, to {hashes[1]} in the folder")
    wrong = [what for what in wrong if what]
    if wrong:
        sys.exit("\n".join([repo_id, *wrong]))
    info, commits = api.model_info(repo_id), api.list_repo_commits(repo_id)
    return {
        "sha": info.sha,
        "private": info.private,
        "files": sorted(remote),
        "commits": [commit.title for commit in commits],
        "model_hash": hashes[0],
    }


def main(action, endpoint, repo_ids, folder):
    # The libraries read these when they are imported; caches of one Hub mislead at another.
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(HF_ENDPOINT=endpoint, HF_HOME=home, HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
        import huggingface_hub

        act, api = {"upload": upload, "check": check}[action], huggingface_hub.HfApi()
        for repo_id in repo_ids.split(","):
            print(json.dumps({"huggingface_hub": huggingface_hub.__version__, **act(api, repo_id, folder.replace("{}", repo_id))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
