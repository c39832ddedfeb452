#!/usr/bin/env bash
# Measures the engine on a GPU beside transformers: ci/gpu/measure.sh TOKENIZER [DIR]
#   TOKENIZER  folder of a model whose tokenizer has a chat template (`cargo xtask demo` leaves one in target/deval/demo)
#   DIR        where models and results go; default target/deval/gpu
# Logits against transformers first, then a round of 120 examples (210 answers), serial and batched, load time, decoding at batch 32
# against the bandwidth BANDWIDTH (GB/s, of the GPU's datasheet; default 864, L40S), most GPU memory used. Needs 17 GB of disk, a GPU with
# 40 GB, and PYTHON with torch for CUDA and transformers 4.47.1. SHAPE=tiny DEVICE=cpu tries the script itself on any machine.
set -euo pipefail

[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: $0 TOKENIZER [DIR]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
tokenizer=$1
dir=${2:-$root/target/deval/gpu}
python=${PYTHON:-python3}
device=${DEVICE:-cuda:0}
mkdir -p "$dir"
"$python" "$root/ci/gpu/measure.py" prepare "$tokenizer" "$dir" "${SHAPE:-8b}"

case $device in
    cuda:*)
        nvidia-smi --query-gpu=name,memory.used --format=csv,noheader --loop-ms=200 >"$dir/memory" &
        trap 'kill $!' EXIT
        "$root/ci/gpu/build.sh" example
        ;;
    *) cargo build --manifest-path "$root/Cargo.toml" --package deval-llama --example answer ;;
esac
answer=${CARGO_TARGET_DIR:-$root/target}/debug/examples/answer
"$answer" "$device" <"$dir/ours.json" >"$dir/ours.result"
[ ! -f "$dir/memory" ] || echo "GPU memory, ours: $(sort -t, -k2 -n "$dir/memory" | tail -n 1)"
"$python" "$root/ci/bench/generate.py" <"$dir/theirs.json" >"$dir/theirs.result"
"$python" "$root/ci/gpu/measure.py" compare "$dir" "${BANDWIDTH:-864}"
