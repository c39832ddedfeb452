#!/usr/bin/env bash
# Builds the engine for NVIDIA GPUs: ci/gpu/build.sh rust|check|example|xtask [cargo's arguments]
#   rust   compiles the Rust code for GPUs, with a stand-in for nvcc that makes empty kernels: minutes, no downloads, nothing that runs
#   check  compiles the CUDA kernels and type-checks the crate that calls them: minutes, 100 MB of downloads; a part of .ci/run
#   example  builds and links `answer`, which ci/gpu/measure.sh measures with: 680 MB of downloads
#   xtask  builds `xtask`, which answers with `evaluate --device cuda:0`
# Takes the nvcc in PATH; where there is none, NVIDIA's compiler and libraries come from PyPI into target/deval/cuda. No GPU is needed.
# CUDA_COMPUTE_CAP says for which GPUs: 75 T4, 80 A100, 89 L40S (default), 90 H100; a newer GPU compiles older kernels anew when it
# loads them. CUDA 13 runs with drivers from 580 on.
set -euo pipefail

what=${1:-}
case $what in rust | check | example | xtask) shift ;; *) echo "usage: $0 rust|check|example|xtask [cargo's arguments]" >&2; exit 2 ;; esac
root=$(cd "$(dirname "$0")/../.." && pwd)
cuda=$root/target/deval/cuda
version=13.0.88
compiler="nvidia-cuda-nvcc==$version nvidia-nvvm==$version nvidia-cuda-crt==$version nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
    nvidia-curand==10.4.0.35"
libraries="nvidia-cublas==13.0.2.14 nvidia-cuda-nvrtc==$version"

# The linker and cudarc look for lib64 and for names without versions.
name_libraries() {
    ln -sfn lib "$1/lib64"
    for library in "$1"/lib/lib*.so.*; do
        [ "${library%.alt.so.*}" = "$library" ] || continue
        ln -sfn "${library##*/}" "${library%%.so.*}.so"
    done
}

# libcuda.so comes with the driver. Where there is none, the linker is content with a library that has its names.
stand_in_for_the_driver() {
    [ -z "$(ldconfig -p | grep 'libcuda\.so$')" ] || return 0
    mkdir -p "$cuda/stubs"
    echo '#include <cuda.h>' | cc -E -I"$1/include" - | grep -oE '\bcu[A-Z][A-Za-z0-9_]*\(' | tr -d '(' | sort -u |
        sed 's/.*/void &(void) {}/' | cc -shared -x c - -Wl,-soname,libcuda.so.1 -o "$cuda/stubs/libcuda.so"
    export LIBRARY_PATH="$cuda/stubs:${LIBRARY_PATH:-}"
    export RUSTFLAGS="${RUSTFLAGS:-} -L native=$cuda/stubs"
}

# What cargo's build scripts ask of nvcc, answered with empty files.
stand_in_for_nvcc() {
    mkdir -p "$cuda-stand-in"
    cat >"$cuda-stand-in/nvcc" <<'END'
#!/bin/sh
out= dir= last=
for argument; do
    case $last in -o) out=$argument ;; --output-directory) dir=$argument ;; esac
    last=$argument
done
case " $* " in
    *" --version "*) printf 'stand-in\n\n\nCuda compilation tools, release 13.0, V13.0.88\n' ;;
    *" --ptx "*) : >"$dir/$(basename "$last" .cu).ptx" ;;
    *" --lib "*) rm -f "$out" && ar cr "$out" ;;
    *" -c "*) cc -c -x c /dev/null -o "$out" ;;
esac
END
    chmod +x "$cuda-stand-in/nvcc"
    export PATH="$cuda-stand-in:$PATH" CUDA_HOME="$cuda-stand-in"
}

if [ "$what" = rust ]; then
    stand_in_for_nvcc
    # Apart, so that no build ever takes its kernels.
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/cuda-stand-in
elif ! command -v nvcc >/dev/null; then
    [ "$what" = check ] || compiler="$compiler $libraries"
    [ -x "$cuda/bin/python" ] || python3 -m venv "$cuda"
    # shellcheck disable=SC2086
    "$cuda/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps $compiler
    toolkit=$(echo "$cuda"/lib/python3.*/site-packages/nvidia/cu13)
    name_libraries "$toolkit"
    export CUDA_HOME=$toolkit PATH="$toolkit/bin:$PATH" LIBRARY_PATH="$toolkit/lib:${LIBRARY_PATH:-}"
    [ "$what" = check ] || stand_in_for_the_driver "$toolkit"
fi
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-89}
# Kernels at a time; left alone, half as many.
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}
nvcc --version | sed -n 4p
cd "$root"
case $what in
    rust) cargo build --locked --package deval-llama --lib --features cuda "$@" ;;
    check) cargo check --locked --package deval-llama --lib --features cuda "$@" ;;
    example) cargo build --locked --package deval-llama --example answer --features cuda "$@" ;;
    xtask) cargo build --locked --package xtask --features cuda "$@" ;;
esac
