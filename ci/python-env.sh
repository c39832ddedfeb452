#!/bin/sh
# Makes a Python environment that the tests need: ci/python-env.sh DIR [pipeline|bittensor|validator|newest]
#   pipeline   what the miner's pipeline and the Hub's client need (default)
#   bittensor  the SDK that De-Val's validators pin; apart, because its requirements exclude the others
#   validator  the Hub's client on the validator's host
#   newest     the newest client of the Hub, with its command line
# A second call does nothing unless the requirements or this script changed. Needs python3.11, PyPI and, for the pipeline on Linux, cc.
set -eu

[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: $0 DIR [pipeline|bittensor|validator|newest]" >&2; exit 2; }
env=$1
kind=${2:-pipeline}
here=$(cd "$(dirname "$0")" && pwd)
requirements=$here/../tests/python/requirements-$kind.txt
[ -f "$requirements" ] || { echo "$0: no requirements for \`$kind\`" >&2; exit 2; }
stamp=$(cat "$0" "$requirements" | cksum)

if [ -f "$env/.stamp" ] && [ "$(cat "$env/.stamp")" = "$stamp" ]; then
    echo "python-env: $env is up to date"
    exit 0
fi

# torch for Linux on x86-64 comes with CUDA alone, and its loader insists on 2.6 GB of libraries of which a CPU calls
# not one function. Empty libraries of the same names satisfy it, as long as their symbols are bound late.
stand_in_for_cuda() {
    packages=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    for library in libcublas.so.12 libcublasLt.so.12 libcudnn.so.9 libcufft.so.11 libcurand.so.10 \
        libcusolver.so.11 libcusparse.so.12 libnccl.so.2 libnvrtc.so.12; do
        cc -shared -nostdlib -x c /dev/null -Wl,-soname,"$library" -o "$packages/torch/lib/$library"
    done
    echo 'import os; os.environ.setdefault("TORCH_USE_RTLD_GLOBAL", "1")' >"$packages/late_binding.pth"
}

finish_pipeline() {
    [ "$(uname -sm)" != "Linux x86_64" ] || stand_in_for_cuda
    "$env/bin/python" -c 'import torch as t, transformers as f; print("python-env: torch", t.__version__, "transformers", f.__version__)'
}

finish_bittensor() {
    "$env/bin/python" -c 'import bittensor as b; print("python-env: bittensor", b.__version__)'
}

finish_validator() {
    "$env/bin/python" -c 'import huggingface_hub as h; print("python-env: huggingface_hub", h.__version__)'
}

finish_newest() { finish_validator; }

echo "python-env: making $env for $kind (torch is a download of 800 MB, bittensor of 80 MB, the Hub's clients of 10 MB)"
started=$(date +%s)
rm -rf "$env"
python3.11 -m venv "$env"
"$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r "$requirements"
"finish_$kind"
echo "$stamp" >"$env/.stamp"
echo "python-env: $env is ready after $(($(date +%s) - started)) s, $(du -sh "$env" | cut -f1)"
