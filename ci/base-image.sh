#!/usr/bin/env bash
# Imports a Debian base image where no image registry can be reached: base=$(ci/base-image.sh NAME)
# Prints the image's full name, `NAME:<hash of this script>`, and makes it only where it is missing. Needs an engine
# (ci/engine.sh), apt, and root or sudo or unprivileged user namespaces. Talk goes to standard error; exit 2 on failure.
#
# What is inside is what pipeline/Dockerfile expects of a base: Python 3.11 with pip. The tools of the firewall are there
# too, so that a build has nothing left to fetch by apt.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 NAME" >&2; exit 2; }
suite=bookworm
packages=ca-certificates,python3,python3-pip,iptables,iproute2,gosu
image=$1:$(sha256sum "$0" | cut -c1-12)

if docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image"
    exit 0
fi

docker version >/dev/null 2>&1 || { echo "base-image: no engine answers; ci/engine.sh starts one" >&2; exit 2; }
command -v mmdebstrap >/dev/null || {
    sudo=$(command -v sudo || true)
    $sudo apt-get update -qq >&2
    $sudo apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring >/dev/null
} || { echo "base-image: mmdebstrap is missing and could not be installed" >&2; exit 2; }

options=()
for left_out in doc man info locale; do
    options+=("--dpkgopt=path-exclude=/usr/share/$left_out/*")
done
# Behind a proxy that signs with its own certificate, pip in a build trusts what this machine trusts.
bundle=$(python3 -c 'import ssl; print(ssl.get_default_verify_paths().cafile or "")')
if [ -n "$bundle" ]; then
    trusted='chroot "$1" python3 -c "from pip._vendor import certifi; print(certifi.where())"'
    options+=("--customize-hook=cat '$bundle' >\"\$1\$($trusted)\"")
fi

echo "base-image: making $image (Debian $suite; some minutes)" >&2
started=$(date +%s)
# mmdebstrap ends its whole process group when it fails; with one of its own, that is nobody else.
setsid --wait mmdebstrap --quiet --variant=minbase --include="$packages" "${options[@]}" "$suite" - | docker import - "$image" >/dev/null ||
    { docker image rm "$image" >/dev/null 2>&1; echo "base-image: could not make $image" >&2; exit 2; }
echo "base-image: $image is ready after $(($(date +%s) - started)) s" >&2
echo "$image"
