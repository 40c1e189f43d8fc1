#!/bin/sh
# What vagrant runs as root on each machine; it does for any Debian 12 host with the checkout in /stackyard.
#   provision.sh install          engine, etcd, Python, and Stackyard from the checkout
#   provision.sh init ADDRESS     the first host of a cluster
set -eu

case ${1-} in
install)
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install --no-install-recommends \
        docker.io iptables etcd-server python3-venv libnftables1 ca-certificates >/dev/null
    # the manager runs an etcd of its own; the service that the package brings is not needed
    if [ -d /run/systemd/system ]; then
        systemctl -q disable --now etcd
    fi
    "${STACKYARD:-/stackyard}/scripts/install"
    ;;
init)
    stack init --advertise "$2"
    ;;
*)
    echo "usage: provision.sh install | init ADDRESS" >&2
    exit 2
    ;;
esac
