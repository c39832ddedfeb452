"""The peer of `cargo xtask bench upload`: upload.py ENDPOINT REPO_ID FOLDER

Publishes the folder with one call of huggingface_hub's `upload_folder`. The cache is a new folder, so nothing is known of the
contents. Prints one line of JSON: seconds of the call, peak memory of the process in bytes, version.
"""

import json
import os
import resource
import sys
import tempfile
import time


def main(endpoint, repo_id, folder):
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(HF_ENDPOINT=endpoint, HF_HOME=home, HF_TOKEN="hf_localnet", HF_HUB_DISABLE_TELEMETRY="1")
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
        import huggingface_hub

        api = huggingface_hub.HfApi()
        started = time.perf_counter()
        api.create_repo(repo_id, private=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak, "version": huggingface_hub.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
