#!/bin/sh
# Installs the programs that the tests start. Nothing happens where they are there already.
set -eu
missing=""
command -v nginx >/dev/null 2>&1 || [ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
[ -n "$(find /usr/lib/postgresql -name initdb 2>/dev/null)" ] || command -v initdb >/dev/null 2>&1 ||
    missing="$missing postgresql"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
# The node that comes with playwright is linked against it.
[ -n "$(find /usr/lib /usr/lib64 -name libatomic.so.1 2>/dev/null)" ] || missing="$missing libatomic1"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
command -v curl >/dev/null 2>&1 || missing="$missing curl"
command -v npx >/dev/null 2>&1 || missing="$missing npm"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need these programs, and there is no apt-get to install them with:$missing" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "The tests need these programs; install them as root: apt-get install$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi
echo "installing$missing"
$as_root apt-get -qq update
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $as_root apt-get -qq install -y --no-install-recommends $missing >/dev/null
