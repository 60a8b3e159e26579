#!/bin/sh
# Tries a deployed service as a client would: uploads every test picture, checks the answers, downloads the results,
# and deletes what it stored.
#
# Usage: scripts/smoke.sh
#   SMOKE_URL         address, https://DEPLOY_HOST when empty
#   SMOKE_CURL_OPTS   for curl; only -k, -4, -6, --cacert FILE, --resolve and --connect-to are taken
#   API_KEY           sent as x-api-key
#   SMOKE_SECONDS     how long the service may take until it answers at that address (60)
# Exit code: 0 all as expected, 1 not, 2 the call or a setting is wrong.
set -eu
umask 077

fail() {
    printf 'smoke.sh: %s\n' "$1" >&2
    exit 2
}

# The mail quotes this file.
lose() {
    echo "The smoke test failed: $1." | tee -a "$reports/deployment.txt"
    exit 1
}

url=${SMOKE_URL:-https://${DEPLOY_HOST:-}}
url=${url%/}
case $url in
    http://?*.?* | https://?*.?* | http://localhost* | https://localhost*) ;;
    *) fail "SMOKE_URL is not the address of a server (given: $url)" ;;
esac
case $url in
    *[!A-Za-z0-9.:/_-]*) fail "SMOKE_URL has characters that no address of a server has (given: $url)" ;;
esac

# The curl scripts evaluate CURL_OPTS as shell words: nothing goes there that could be more than an option.
set -f
# shellcheck disable=SC2086 # a list of words
set -- ${SMOKE_CURL_OPTS:-}
set +f
CURL_OPTS=''
while [ "$#" -gt 0 ]; do
    case $1 in
        -k | --insecure | -4 | -6) ;;
        --cacert | --resolve | --connect-to)
            [ "$#" -ge 2 ] || fail "SMOKE_CURL_OPTS: $1 needs a value"
            CURL_OPTS="$CURL_OPTS $1"
            shift
            ;;
        *) fail "SMOKE_CURL_OPTS: $1 is not taken" ;;
    esac
    case $1 in
        *[!A-Za-z0-9.:/_+-]*) fail "SMOKE_CURL_OPTS: $1 is not taken" ;;
    esac
    CURL_OPTS="$CURL_OPTS $1"
    shift
done
export CURL_OPTS

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname "$here")
reports=$root/build/reports
mkdir -p "$reports"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM
if [ -n "${API_KEY:-}" ]; then
    printf 'header = "x-api-key: %s"\n' "$(printf '%s' "$API_KEY" | sed 's/[\\"]/\\&/g')" >"$work/curlrc"
else
    : >"$work/curlrc"
fi

# shellcheck disable=SC2086 # a list of words, each looked at above
request() { curl --silent --show-error --config "$work/curlrc" --connect-timeout 5 --max-time 20 $CURL_OPTS "$@"; }

last=$(($(date +%s) + ${SMOKE_SECONDS:-60}))
until request --fail --output /dev/null "$url/readyz" 2>"$work/error"; do
    [ "$(date +%s)" -lt "$last" ] || lose "$url/readyz: $(sed 's/^curl: //;q' "$work/error")"
    sleep 1
done

# What the scripts print is on the screen at once and kept; their exit code comes through the pipe as a note.
try() {
    { "$@" 2>&1 || : >"$work/missed"; } | tee -a "$reports/smoke.log"
}
: >"$reports/smoke.log"
try "$root/test_curl_upload.sh" "$url"
[ -e "$work/missed" ] || try "$root/test_curl_download.sh" "$url"

deleted=0
# The table has file, status and id.
sed -n 's/.* 200  *\([0-9a-f]\{32\}\) .*/\1/p' "$reports/smoke.log" >"$work/ids"
while read -r id; do
    request --fail --output /dev/null --request DELETE "$url/api/v1/objectdetection/image/$id" &&
        deleted=$((deleted + 1))
done <"$work/ids"
echo "deleted $deleted test pictures"
[ ! -e "$work/missed" ] || lose "$url does not answer as it should; smoke.log says in what"
echo "The smoke test of $url passed." | tee -a "$reports/deployment.txt"
