#!/bin/sh
# Switches between releases on the server. deploy.sh puts it there and runs it; an operator may as well.
#
# Usage: release.sh FOLDER COMMAND [RELEASE]
#   status             what serves, what served before
#   rollback           go back to the release that served before; a second time: forward again
#   logs [RELEASE]     the state and the last lines of the containers
# For deploy.sh:
#   prepare RELEASE    make room for its files
#   activate RELEASE   start it in the place of the one that serves, and wait until it is healthy
#   accept RELEASE     it passed the smoke test: from now on this is the one to go back to
#   cancel RELEASE     it did not: start the accepted one again; without one, stop everything. Volumes are kept.
#
# FOLDER holds releases/, the files current, previous and candidate (a release's name each), and settings.env, which is
# the operator's: it is read when a release is activated, and stays as it was then for that release.
# Exit code: 0 done, 1 the release is not healthy, 2 the call or the server is wrong.
set -eu
umask 077

kept=3
seconds_to_health=180
seconds_for_others=300

say() { printf '%s\n' "$1"; }

fail() {
    printf 'release.sh: %s\n' "$1" >&2
    exit 2
}

# What everybody has to hear of: the mail quotes standard output.
give_up() {
    say "$1"
    exit 1
}

# The name in one of the three files, or nothing.
name_in() { cat "$1" 2>/dev/null || true; }

write() {
    printf '%s\n' "$2" >"$1.new"
    mv "$1.new" "$1"
}

check_name() {
    case $1 in
        '' | -* | .* | *[!A-Za-z0-9._-]*) fail "a release's name has letters, digits, dots and dashes (given: $1)" ;;
    esac
}

compose() {
    release=$1
    shift
    docker compose --progress quiet --project-name imgdetect --env-file "releases/$release/.env" \
        --file "releases/$release/docker-compose.yml" "$@"
}

start() {
    compose "$1" up --detach --no-build --pull never --remove-orphans --wait --wait-timeout "$seconds_to_health"
}

# Both parts look at their settings, files and backends and end again: what cannot work is not put in the place of what
# does. They are heard when they find something.
fits() {
    found=$(
        compose "$1" run --rm --no-TTY --no-deps restapi sh -c 'imgdetect config >/dev/null && imgdetect check' 2>&1 &&
            compose "$1" run --rm --no-TTY --no-deps nginx -t 2>&1
    ) || {
        printf '%s\n' "$found" >&2
        return 1
    }
}

# The server's nginx runs as a user of its own, and nobody else has to read the key. A container can give a file away.
give_key_to_nginx() {
    [ -f "releases/$1/certs/tls.key" ] || return 0
    image=$(grep nginx "releases/$1/images" | head -n 1)
    owner=$(docker run --rm --network none --entrypoint id "$image" -u)
    docker run --rm --network none --user 0 --entrypoint sh --volume "$PWD/releases/$1/certs:/certs" "$image" -c "
        chown $owner /certs/tls.key && chmod 400 /certs/tls.key && chmod 444 /certs/tls.crt"
    chmod 755 "releases/$1/certs"
}

# A release without a certificate of its own keeps the one that serves, unless the operator has said where it is.
inherit_certificate() {
    ! grep -qs '^CERT_DIR=' settings.env || return 0
    from=$(name_in current)
    [ -n "$from" ] && [ ! -d "releases/$1/certs" ] && [ -d "releases/$from/certs" ] || return 0
    image=$(grep nginx "releases/$1/images" | head -n 1)
    mkdir "releases/$1/certs"
    docker run --rm --network none --user 0 --entrypoint sh --volume "$PWD/releases/$from/certs:/from:ro" \
        --volume "$PWD/releases/$1/certs:/to" "$image" -c 'cp /from/tls.crt /from/tls.key /to/'
}

prepare() {
    docker compose version >/dev/null 2>&1 || fail "docker with compose v2 is needed for $(id -un), and does not answer"
    for file in current previous candidate; do
        [ "$(name_in "$file")" != "$1" ] || fail "release $1 is there already"
    done
    rm -rf "releases/$1"
    mkdir -p "releases/$1"
    docker version --format '{{.Server.Arch}}'
}

activate() {
    [ -f "releases/$1/docker-compose.yml" ] || fail "release $1 was not delivered"
    inherit_certificate "$1"
    give_key_to_nginx "$1"
    {
        cat settings.env 2>/dev/null || true
        echo
        cat "releases/$1/release.env"
        [ ! -d "releases/$1/certs" ] || printf 'CERT_DIR=%s\n' "$PWD/releases/$1/certs"
    } >"releases/$1/.env"
    fits "$1" || give_up "Release $1 cannot work with the settings of this server; nothing was switched."
    write candidate "$1"
    start "$1" || give_up "Release $1 does not become healthy."
    say "Release $1 is healthy."
}

accept() {
    [ "$(name_in candidate)" = "$1" ] || fail "release $1 is not the one that was activated last"
    before=$(name_in current)
    [ -z "$before" ] || write previous "$before"
    write current "$1"
    rm candidate
    say "Release $1 serves${before:+; the one before was $before}."
    prune
}

cancel() {
    before=$(name_in current)
    if [ "$(name_in candidate)" != "$1" ]; then
        say "Release $1 was not started${before:+; $before goes on serving}."
        return 0
    fi
    if [ -z "$before" ]; then
        compose "$1" down --remove-orphans
        rm candidate
        say "Release $1 was stopped; there is none to go back to. Stored pictures are kept."
        return 0
    fi
    start "$before" || give_up "RELEASE $before DOES NOT COME BACK: somebody has to look at the server."
    rm candidate
    say "Rolled back: release $before serves again and is healthy; $1 was stopped."
}

rollback() {
    before=$(name_in previous)
    [ -n "$before" ] || fail "there is no release to go back to"
    start "$before" || give_up "Release $before does not become healthy."
    write previous "$(name_in current)"
    write current "$before"
    rm -f candidate
    say "Release $before serves; 'rollback' once more returns to $(name_in previous)."
}

# Old releases go, and their images with them; what serves or could serve again stays.
prune() {
    current=$(name_in current)
    previous=$(name_in previous)
    number=0
    # shellcheck disable=SC2045 # names are of letters, digits, dots and dashes, and a pattern knows no dates
    for name in $(ls -t releases); do
        number=$((number + 1))
        [ "$number" -gt "$kept" ] && [ "$name" != "$current" ] && [ "$name" != "$previous" ] || continue
        while read -r image; do
            docker image rm "$image" >/dev/null 2>&1 || true
        done <"releases/$name/images"
        rm -rf "releases/$name"
    done
}

status() {
    for file in current previous candidate; do
        say "$file: $(name_in "$file")"
    done
    name=$(name_in candidate)
    name=${name:-$(name_in current)}
    [ -z "$name" ] || compose "$name" ps --all
}

logs() {
    name=${1:-$(name_in current)}
    [ -n "$name" ] || fail "no release serves"
    [ -f "releases/$name/.env" ] || fail "release $name was never activated"
    compose "$name" ps --all
    # Some versions of compose clear the line before each line, terminal or not.
    compose "$name" logs --no-color --timestamps --tail 500 | sed "s/$(printf '\033')\[2K//g"
}

main() {
    [ "$#" -ge 2 ] && [ "$#" -le 3 ] || fail "usage: release.sh FOLDER COMMAND [RELEASE]"
    command=$2
    release_given=${3:-}
    case $command in
        prepare | activate | accept | cancel) check_name "$release_given" ;;
        rollback | status | logs) [ -z "$release_given" ] || check_name "$release_given" ;;
        *) fail "there is no command $command" ;;
    esac
    mkdir -p "$1/releases"
    cd "$1"
    case $command in
        status | logs) ;;
        # An aborted build may have left its own call at work here: wait for its end.
        *)
            exec 9>lock
            flock -w "$seconds_for_others" 9 || fail "another release is being switched"
            ;;
    esac
    case $command in
        prepare) prepare "$release_given" ;;
        activate) activate "$release_given" ;;
        accept) accept "$release_given" ;;
        cancel) cancel "$release_given" ;;
        rollback) rollback ;;
        status) status ;;
        logs) logs "$release_given" ;;
    esac
}

# Read whole before anything runs: the script may come through standard input, which no program may then take.
main "$@" </dev/null
exit
