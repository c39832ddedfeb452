#!/usr/bin/env bash
# Makes sure that a container engine answers: ci/engine.sh
# Does nothing where one does. Else installs Docker from Debian or Ubuntu and starts it; the engine goes on running.
# DOCKER_HOST is the user's choice: nothing is started in its place. Exit 2 when no engine could be had.
set -euo pipefail

answers() { docker info >/dev/null 2>&1; }
fail() { echo "engine: $*" >&2; exit 2; }

! answers || exit 0
[ -z "${DOCKER_HOST:-}" ] || fail "nothing answers at DOCKER_HOST=$DOCKER_HOST; start that engine, or unset DOCKER_HOST"
[ "$(uname -s)" = Linux ] || fail "no engine answers; start Docker Desktop, colima or Podman and call this again"

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "no engine answers, and only root (or sudo) can start one"
    sudo=sudo
fi
log=/var/log/dockerd.log

install_packages() {
    command -v apt-get >/dev/null || fail "no engine answers, and there is no apt-get to install one with"
    echo "engine: installing $*"
    $sudo apt-get update -qq
    $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# A machine without systemd often has no control groups mounted, and dockerd ends at once without them.
mount_control_groups() {
    if [ ! -e /sys/fs/cgroup/cgroup.controllers ] && ! mountpoint -q /sys/fs/cgroup/devices; then
        command -v cgroupfs-mount >/dev/null || install_packages cgroupfs-mount
        $sudo cgroupfs-mount
    fi
}

start() {
    echo "engine: starting dockerd, log in $log"
    if [ -d /run/systemd/system ]; then
        $sudo systemctl start docker || fail "systemd cannot start it: journalctl -u docker"
        return
    fi
    mount_control_groups
    # A process id that outlived its dockerd keeps the next one from starting.
    [ "$(cat "/proc/$(cat /var/run/docker.pid 2>/dev/null)/comm" 2>/dev/null)" = dockerd ] || $sudo rm -f /var/run/docker.pid
    $sudo setsid bash -c "exec dockerd >$log 2>&1" </dev/null >/dev/null 2>&1 &
    pid=$!
}

command -v dockerd >/dev/null || install_packages docker.io iptables
command -v docker >/dev/null || fail "dockerd is installed, its client \`docker\` is not"
pid=
$sudo docker info >/dev/null 2>&1 || start
for _ in $(seq 150); do
    if $sudo docker info >/dev/null 2>&1; then
        answers || fail "the engine answers root only: sudo usermod -aG docker $(id -un), then log in again"
        echo "engine: Docker $(docker version --format '{{.Server.Version}}') answers"
        exit 0
    fi
    [ -z "$pid" ] || [ -d "/proc/$pid" ] || fail "dockerd ended. The end of its log:
$($sudo tail -n 20 "$log")"
    sleep 0.2
done
fail "dockerd did not answer within 30 s. The end of its log:
$($sudo tail -n 20 "$log" 2>&1)"
