#!/bin/sh
# Downloads the processed picture of every file of test_images/input/ into test_images/output/, same name.
# A file name in the id's place means the newest upload of that name, so run test_curl_upload.sh first.
#
# Usage: test_curl_download.sh [BASE_URL]      default http://127.0.0.1:8000
#   CURL_OPTS   more options for curl, for example CURL_OPTS=-k for a self-signed certificate
#   API_KEY     sent as x-api-key
# Exit code: 0 all are there, 1 something is missing, 2 the server cannot be reached or the call is wrong.

set -eu
LC_ALL=C
export LC_ALL

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 2
}

[ "$#" -le 1 ] || fail "usage: ${0##*/} [BASE_URL]"
command -v curl >/dev/null || fail "curl is needed and was not found"
base=${1:-http://127.0.0.1:8000}
base=${base%/}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
pictures=$here/test_images

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM

# The key goes into a private file: on the command line every user of the machine could read it.
(umask 077 && : >"$work/curlrc")
if [ -n "${API_KEY:-}" ]; then
    printf 'header = "x-api-key: %s"\n' "$(printf '%s' "$API_KEY" | sed 's/[\\"]/\\&/g')" >"$work/curlrc"
fi

# curl with the caller's options; 429 and 503 are tried again when the server says it is worth it.
request() {
    eval "set -- ${CURL_OPTS:-} \"\$@\""
    curl --silent --show-error --config "$work/curlrc" --connect-timeout 10 --max-time 120 \
        --retry 3 --retry-max-time 60 "$@" 2>"$work/error"
}

# A file name as one segment of a URL.
encoded() {
    name=$1 awk 'BEGIN {
        for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
        name = ENVIRON["name"]
        for (i = 1; i <= length(name); i++) {
            c = substr(name, i, 1)
            if (c ~ /[A-Za-z0-9._~-]/) printf "%s", c
            else printf "%%%02X", code[c]
        }
    }'
}

# The media type of a file by its first bytes.
type_of() {
    case $(od -A n -t x1 -N 12 "$1" | tr -d ' \n') in
        ffd8ff*) echo image/jpeg ;;
        89504e470d0a1a0a*) echo image/png ;;
        52494646????????57454250) echo image/webp ;;
        *) echo unknown ;;
    esac
}

row() { printf '%-26s %-6s %-12s %9s  %s\n' "$@"; }

request --output /dev/null "$base/healthz" || fail "no server answers at $base: $(sed 's/^curl: //;q' "$work/error")"
mkdir -p -- "$pictures/output"

row file status type bytes ''
total=0
missed=0
for file in "$pictures"/input/*; do
    [ -f "$file" ] || fail "there is no picture in $pictures/input"
    name=${file##*/}
    total=$((total + 1))
    # The type that the name promises; the server makes JPEG, PNG and WebP only.
    case $name in
        *.[Pp][Nn][Gg]) accept=image/png ;;
        *.[Ww][Ee][Bb][Pp]) accept=image/webp ;;
        *) accept=image/jpeg ;;
    esac
    rm -f -- "$work/picture" "$pictures/output/$name"
    : >"$work/picture"
    if ! status=$(request --output "$work/picture" --write-out '%{http_code} %{content_type}' \
        --header "Accept: $accept" "$base/api/v1/objectdetection/image/$(encoded "$name")/processed"); then
        missed=$((missed + 1))
        row "$name" - - - "MISS ($(sed 's/^curl: //;q' "$work/error"))"
        continue
    fi
    declared=${status#* }
    declared=${declared%%;*}
    status=${status%% *}
    bytes=$(($(wc -c <"$work/picture")))
    if [ "$status" != 200 ]; then
        missed=$((missed + 1))
        row "$name" "$status" - - MISS
        printf '    %.300s\n' "$(tr -cd '[:print:]' <"$work/picture")"
    elif [ "$declared" != "$accept" ] || [ "$(type_of "$work/picture")" != "$accept" ]; then
        missed=$((missed + 1))
        row "$name" "$status" "$(type_of "$work/picture")" "$bytes" "MISS (sent as '$declared', asked for $accept)"
    else
        mv -- "$work/picture" "$pictures/output/$name"
        row "$name" "$status" "$accept" "$bytes" ok
    fi
done

printf '%s pictures, %s missed\n' "$total" "$missed"
[ "$missed" -eq 0 ]
