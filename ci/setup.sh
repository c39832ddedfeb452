#!/usr/bin/env bash
# What a fresh Debian or Ubuntu machine needs beside Rust: a C compiler and Python 3.11 with venv. Does nothing where they are there.
set -euo pipefail
missing=()
command -v cc >/dev/null || missing+=(build-essential)
command -v git >/dev/null || missing+=(git)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-pip python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  sudo=$(command -v sudo || true)
  $sudo apt-get update -qq
  $sudo apt-get install -y --no-install-recommends "${missing[@]}"
fi
command -v cargo >/dev/null || { echo "Rust is missing: https://rustup.rs"; exit 2; }
