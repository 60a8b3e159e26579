#!/bin/sh
# Takes a release to the server and switches to it, over ssh. The pipeline calls it; it works the same by hand.
#
# Usage: scripts/deploy.sh COMMAND
#   deliver    send the images and files of $RELEASE; what serves is not touched
#   activate   start it on the server in the place of the one that serves, and wait until it is healthy
#   accept     keep it: from now on it is the one to go back to
#   cancel     start the accepted release again, if this one was activated
#   rollback   go back to the release that was accepted before
#   status, logs
#   tidy       remove from this machine what only the delivery needed
# Environment:
#   RELEASE        name of the release, and tag of its images
#   DEPLOY_HOST    server; DEPLOY_USER (ubuntu), DEPLOY_PORT (22), DEPLOY_DIR (imgdetect, in the user's home)
#   SSH_KEY        file with the private key
#   KNOWN_HOSTS    file with the server's host key, as in known_hosts; a server with another key is refused
#   SMOKE_URL, ALLOWED_HOSTS    host names that the service answers to, besides DEPLOY_HOST
# A certificate in certs/ (tls.crt, tls.key) goes along.
# Exit code: 0 done, 1 the release is not healthy, 2 the call or a setting is wrong, 255 no connection.
set -efu
umask 077

fail() {
    printf 'deploy.sh: %s\n' "$1" >&2
    exit 2
}

# check NAME VALUE: none of these may be taken for an option or for more than one word, here or on the server.
check() {
    case $2 in
        '') fail "$1 is not set" ;;
        -* | *[!A-Za-z0-9._/-]*) fail "$1 may have letters, digits, dots, dashes, underscores and slashes (given: $2)" ;;
    esac
}

there() {
    ssh -T -p "$DEPLOY_PORT" -i "$SSH_KEY" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=15 \
        -o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o StrictHostKeyChecking=yes -o UpdateHostKeys=no \
        -o "UserKnownHostsFile=\"$KNOWN_HOSTS\"" -o GlobalKnownHostsFile=/dev/null \
        "$DEPLOY_USER@$DEPLOY_HOST" "$@"
}

# release COMMAND [RELEASE]: what it says is kept for the mail.
release() {
    mkdir -p "$reports"
    {
        there sh -s -- "$DEPLOY_DIR" "$@" <"$here/release.sh" || echo "$?" >"$work/failed"
    } | tee -a "$reports/deployment.txt"
    [ ! -e "$work/failed" ] || exit "$(cat "$work/failed")"
}

# The host names of the parameters, without ports, each once.
host_names() {
    # shellcheck disable=SC2086 # a list of words
    printf '%s\n' "$(printf '%s' "$SMOKE_URL" | sed 's|^[a-z]*://||; s|[:/].*||')" "$DEPLOY_HOST" $ALLOWED_HOSTS |
        awk 'NF && !seen[$0]++' | tr '\n' ' ' | sed 's/ $//'
}

built_images() { IMGDETECT_TAG=$RELEASE docker compose --file "$root/docker-compose.yml" config --images | sort -u; }

deliver() {
    names=$(host_names)
    case $names in
        *[!A-Za-z0-9._*\ -]*) fail "ALLOWED_HOSTS, SMOKE_URL: these are no host names: $names" ;;
    esac
    files=$work/files
    mkdir "$files"
    cp "$root/docker-compose.yml" "$files/"
    built_images >"$files/images"
    # The loopback names are those of the health checks; TLS_NAMES is for the certificate that nginx makes itself.
    cat >"$files/release.env" <<EOT
IMGDETECT_TAG=$RELEASE
IMGDETECT_ALLOWED_HOSTS="$names localhost 127.0.0.1 [::1]"
TLS_NAMES="$names"
EOT
    [ ! -d "$root/certs" ] || cp -R "$root/certs" "$files/certs"

    theirs=$(there sh -s -- "$DEPLOY_DIR" prepare "$RELEASE" <"$here/release.sh")
    while read -r image; do
        ours=$(docker image inspect --format '{{.Architecture}}' "$image")
        [ "$ours" = "$theirs" ] || fail "$image is for $ours, the server is $theirs: build on an agent of that kind"
    done <"$files/images"

    tar -C "$files" -cf - . | there "tar -C '$DEPLOY_DIR/releases/$RELEASE' -xf -"
    there "cat >'$DEPLOY_DIR/release.sh' && chmod 700 '$DEPLOY_DIR/release.sh'" <"$here/release.sh"
    # A pipe ends well when its last part does: the first one leaves a note.
    {
        # shellcheck disable=SC2046 # a list of words
        docker save $(cat "$files/images") || : >"$work/not-saved"
    } | gzip -1 | there docker load
    [ ! -e "$work/not-saved" ] || fail "the images could not be read"
    # shellcheck disable=SC2046 # a list of words
    there docker image inspect --format '{{.Id}}' $(cat "$files/images") >/dev/null
    echo "Release $RELEASE is on $DEPLOY_HOST."
}

tidy() {
    rm -rf "$root/certs"
    [ -n "${RELEASE:-}" ] && command -v docker >/dev/null || return 0
    for image in $(built_images); do
        docker image rm "$image" >/dev/null 2>&1 || true
    done
}

[ "$#" -eq 1 ] || fail "usage: scripts/deploy.sh deliver | activate | accept | cancel | rollback | status | logs | tidy"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname "$here")
reports=$root/build/reports
case $1 in
    tidy)
        tidy
        exit 0
        ;;
    deliver | activate | accept | cancel | logs) check RELEASE "${RELEASE:-}" ;;
    rollback | status) ;;
    *) fail "there is no command $1" ;;
esac
DEPLOY_HOST=${DEPLOY_HOST:-}
DEPLOY_USER=${DEPLOY_USER:-ubuntu}
DEPLOY_PORT=${DEPLOY_PORT:-22}
DEPLOY_DIR=${DEPLOY_DIR:-imgdetect}
ALLOWED_HOSTS=${ALLOWED_HOSTS:-}
SMOKE_URL=${SMOKE_URL:-}
check DEPLOY_HOST "$DEPLOY_HOST"
check DEPLOY_USER "$DEPLOY_USER"
check DEPLOY_DIR "$DEPLOY_DIR"
case $DEPLOY_PORT in
    *[!0-9]*) fail "DEPLOY_PORT is no number: $DEPLOY_PORT" ;;
esac
[ -r "${SSH_KEY:-}" ] || fail "SSH_KEY names no file that can be read"
[ -r "${KNOWN_HOSTS:-}" ] || fail "KNOWN_HOSTS names no file that can be read"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM

case $1 in
    deliver) deliver ;;
    activate | accept | cancel) release "$1" "$RELEASE" ;;
    rollback) release rollback ;;
    logs) there sh -s -- "$DEPLOY_DIR" logs "$RELEASE" <"$here/release.sh" ;;
    status) there sh -s -- "$DEPLOY_DIR" status <"$here/release.sh" ;;
esac
