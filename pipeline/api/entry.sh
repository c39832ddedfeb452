#!/bin/sh
# Entry of the container: the firewall where the package is pulled, then the API as user `miner`. api/__init__.py says when
# which. Mirrors upstream's api/docker_init.sh; where this differs, a comment says so.
set -eu

names='huggingface.co cdn-lfs-us-1.hf.co cdn-lfs-eu-1.hf.co cdn-lfs.hf.co'

# Upstream goes on with an open network when a rule cannot be set.
rule() {
    iptables -A OUTPUT "$@" || refuse
}

refuse() {
    echo "the firewall could not be raised: DEVAL_FETCH=1 takes root and the capability NET_ADMIN" >&2
    exit 1
}

# Nothing leaves but to the gateway, to the container itself, and to the Hub's names on port 443 at the addresses that they
# have now. Upstream resolves them behind the rule that drops everything, name servers included, and waits in vain for each
# on some networks; here they are resolved first, and written down, because no name server is reached afterwards. A network
# without names costs 3 s for each; `--add-host` spares that.
raise_firewall() {
    rule -o lo -j ACCEPT
    rule -m conntrack --ctstate ESTABLISHED -j ACCEPT
    for gateway in $(ip -4 route show default | sed -n 's/.* via \([0-9.]*\).*/\1/p'); do
        rule -d "$gateway" -j ACCEPT
    done
    for name in $names; do
        for address in $(RES_OPTIONS='timeout:3 attempts:1' getent ahostsv4 "$name" | cut -d' ' -f1 | sort -u); do
            rule -p tcp -d "$address" --dport 443 -j ACCEPT
            grep -q "[[:space:]]$name\$" /etc/hosts || echo "$address $name" >>/etc/hosts
        done
    done
    rule -j DROP
}

root=$([ "$(id -u)" != 0 ] || echo yes)
: "${DEVAL_FETCH:=$([ -z "$root" ] && echo 0 || echo 1)}"
export DEVAL_FETCH

if [ "$DEVAL_FETCH" = 1 ]; then
    [ -n "$root" ] || refuse
    raise_firewall
    export HOME=/home/miner HF_HOME="${HF_HOME:-/app/eval_llm/.cache/huggingface}"
else
    export HOME=/tmp HF_HOME="${HF_HOME:-/tmp/huggingface}"
fi

cd /app
if [ -n "$root" ]; then
    exec gosu miner env HOME="$HOME" python3 -m api
fi
exec python3 -m api
