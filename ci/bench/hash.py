#!/usr/bin/env python3
"""Hashes a model folder as the validator does it in Python: the peer of the hash benchmark.

usage: hash.py FOLDER

SHA-256 over the files named *.safetensors at the folder's root, in the order of their names, in pieces of 4 KiB.

Prints one line of JSON: model_hash, bytes, seconds (wall clock), cpu_seconds (user and system).
"""

import hashlib
import json
import os
import sys
import time

PIECE = 4096


def model_hash(folder):
    """The hash and the number of bytes that entered it."""
    digest, count = hashlib.sha256(), 0
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".safetensors")):
        with open(os.path.join(folder, name), "rb") as file:
            while piece := file.read(PIECE):
                digest.update(piece)
                count += len(piece)
    return digest.hexdigest(), count


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    wall, cpu = time.perf_counter(), time.process_time()
    digest, count = model_hash(sys.argv[1])
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"model_hash": digest, "bytes": count, "seconds": seconds, "cpu_seconds": cpu_seconds}))


main()
