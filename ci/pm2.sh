#!/usr/bin/env bash
# Installs pm2, which a test runs the axon with, into target/deval/pm2. Does nothing where it is there. Needs npm, or apt to get it.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=target/deval/pm2
[ ! -x "$dir/node_modules/.bin/pm2" ] || exit 0
if ! command -v npm >/dev/null; then
  sudo=$(command -v sudo || true)
  $sudo apt-get update -qq
  $sudo apt-get install -y --no-install-recommends npm
fi
npm install --prefix "$dir" --no-audit --no-fund --loglevel=error pm2@7.0.4
