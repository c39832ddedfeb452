#!/bin/sh
# What the image installs: install.sh cpu|cuda, run as root in the build, beside requirements.lock.
set -eu
device=$1
lock=$(dirname "$0")/requirements.lock

python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "the base image needs Python 3.11, as the validator has; this is $(python3 --version 2>&1)" >&2
    exit 2
}

tools=
for tool in iptables:iptables ip:iproute2 gosu:gosu; do
    command -v "${tool%:*}" >/dev/null || tools="$tools ${tool#*:}"
done

with_apt() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# torch for x86-64 comes with CUDA alone, and its loader insists on libraries of which a CPU calls not one function. Empty
# libraries of the same names satisfy it, as long as their symbols are bound late.
stand_in_for_cuda() {
    packages=$(python3 -m pip show torch | sed -n 's/^Location: //p')
    as -o /tmp/empty.o /dev/null
    for library in libcublas.so.12 libcublasLt.so.12 libcudnn.so.9 libcufft.so.11 libcurand.so.10 \
        libcusolver.so.11 libcusparse.so.12 libnccl.so.2 libnvrtc.so.12; do
        ld -shared -soname "$library" -o "$packages/torch/lib/$library" /tmp/empty.o
    done
    echo 'import os; os.environ.setdefault("TORCH_USE_RTLD_GLOBAL", "1")' >"$packages/late_binding.pth"
    # Headers, tests and the linear algebra of a GPU.
    rm -rf "$packages/torch/include" "$packages/torch/test" "$packages/torch/lib/libtorch_cuda_linalg.so" /tmp/empty.o
}

case $device in
cuda)
    [ -z "$tools" ] || with_apt $tools
    python3 -m pip install --no-cache-dir --no-deps -r "$lock"
    ;;
cpu)
    with_apt $tools binutils
    sed '/^# --- cuda ---$/,$d' "$lock" >/tmp/cpu.lock
    python3 -m pip install --no-cache-dir --no-deps -r /tmp/cpu.lock
    [ "$(uname -m)" != x86_64 ] || stand_in_for_cuda
    apt-get purge -y -qq --auto-remove binutils >/dev/null
    ;;
*)
    echo "DEVICE is cpu or cuda, not \`$device\`" >&2
    exit 2
    ;;
esac
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /tmp/cpu.lock
python3 -c 'import torch, transformers as t; print("torch", torch.__version__, "transformers", t.__version__)'
