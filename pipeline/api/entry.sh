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
    echo "the firewall could not be raised: DEVAL_FETCH=1 and DEVAL_FIREWALL=1 take root and the capability NET_ADMIN" >&2
    exit 1
}

# With a network that cannot be closed otherwise: nothing leaves but what answers a question from outside.
close_network() {
    rule -o lo -j ACCEPT
    rule -m conntrack --ctstate ESTABLISHED -j ACCEPT
    rule -j DROP
    [ -z "$(ip -6 route show default)" ] || ip6tables -P OUTPUT DROP || refuse
}

# Lets through the addresses of a name on one port, and writes them down, because no name server is reached afterwards.
allow() {
    for address in $(RES_OPTIONS='timeout:3 attempts:1' getent ahostsv4 "$1" | cut -d' ' -f1 | sort -u); do
        rule -p tcp -d "$address" --dport "$2" -j ACCEPT
        [ "$address" = "$1" ] || grep -q "[[:space:]]$1\$" /etc/hosts || echo "$address $1" >>/etc/hosts
    done
}

# Another Hub than the real one, as tests have it: its host, on its port.
allow_endpoint() {
    authority=${1#*://}
    authority=${authority%%/*}
    case $authority in
    *:*) allow "${authority%:*}" "${authority##*:}" ;;
    *) case $1 in https:*) allow "$authority" 443 ;; *) allow "$authority" 80 ;; esac ;;
    esac
}

# Nothing leaves but to the gateway, to the container itself, and to the Hub's names on port 443 at the addresses that they
# have now. Upstream resolves them behind the rule that drops everything, name servers included, and waits in vain for each
# on some networks; here they are resolved first. A network without names costs 3 s for each; `--add-host` spares that.
raise_firewall() {
    rule -o lo -j ACCEPT
    rule -m conntrack --ctstate ESTABLISHED -j ACCEPT
    for gateway in $(ip -4 route show default | sed -n 's/.* via \([0-9.]*\).*/\1/p'); do
        rule -d "$gateway" -j ACCEPT
    done
    for name in $names; do
        allow "$name" 443
    done
    [ -z "${HF_ENDPOINT:-}" ] || allow_endpoint "$HF_ENDPOINT"
    rule -j DROP
}

root=$([ "$(id -u)" != 0 ] || echo yes)
: "${DEVAL_FETCH:=$([ -z "$root" ] && echo 0 || echo 1)}"
export DEVAL_FETCH
: "${DEVAL_FIREWALL:=$DEVAL_FETCH}"

[ "$DEVAL_FETCH$DEVAL_FIREWALL" = 00 ] || [ -n "$root" ] || refuse
if [ "$DEVAL_FETCH" = 1 ]; then
    raise_firewall
    export HOME=/home/miner HF_HOME="${HF_HOME:-/app/eval_llm/.cache/huggingface}"
else
    [ "$DEVAL_FIREWALL" = 0 ] || close_network
    export HOME=/tmp HF_HOME="${HF_HOME:-/tmp/huggingface}"
fi

cd /app
if [ -n "$root" ]; then
    exec gosu miner env HOME="$HOME" python3 -m api
fi
exec python3 -m api
