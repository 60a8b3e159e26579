#!/bin/sh
# Uploads every picture of test_images/input/ and compares the answers with test_images/expected.json.
#
# Usage: test_curl_upload.sh [BASE_URL]        default http://127.0.0.1:8000
#   CURL_OPTS   more options for curl, for example CURL_OPTS=-k for a self-signed certificate
#   API_KEY     sent as x-api-key
# Exit code: 0 all as expected, 1 something differs, 2 the server cannot be reached or the call is wrong.

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
[ -r "$pictures/expected.json" ] || fail "$pictures/expected.json is missing"

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

# Prints one line "path=value" for every value of a JSON document, such as ".detections[0].box.x=177".
# An array also prints its length: ".detections=[1]". Exit code 1 when the document is not whole.
json_paths() {
    awk '
        function blanks() { while (index(" \t\r\n", substr(text, at, 1)) && at <= size) at++ }
        function wrong() { exit 1 }
        function string(    from, c) {
            if (substr(text, at, 1) != "\"") wrong()
            from = ++at
            while ((c = substr(text, at, 1)) != "\"") {
                if (at > size) wrong()
                at += (c == "\\") ? 2 : 1
            }
            at++
            return substr(text, from, at - 1 - from)
        }
        function value(path,    c) {
            blanks()
            c = substr(text, at, 1)
            if (c == "{") object(path)
            else if (c == "[") array(path)
            else if (c == "\"") print path "=" string()
            else literal(path)
            blanks()
        }
        function object(path,    key) {
            at++
            blanks()
            if (substr(text, at, 1) == "}") { at++; return }
            do {
                blanks()
                key = string()
                blanks()
                if (substr(text, at++, 1) != ":") wrong()
                value(path "." key)
            } while (substr(text, at++, 1) == ",")
            if (substr(text, at - 1, 1) != "}") wrong()
        }
        function array(path,    count) {
            count = 0
            at++
            blanks()
            if (substr(text, at, 1) == "]") at++
            else {
                do value(path "[" count++ "]")
                while (substr(text, at++, 1) == ",")
                if (substr(text, at - 1, 1) != "]") wrong()
            }
            print path "=[" count "]"
        }
        function literal(path,    from, word) {
            from = at
            while (at <= size && !index(" \t\r\n,]}", substr(text, at, 1))) at++
            word = substr(text, from, at - from)
            if (word !~ /^(true|false|null|-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]+)?)$/) wrong()
            print path "=" word
        }
        { text = text $0 "\n" }
        END {
            at = 1
            size = length(text)
            value("")
            if (at <= size) exit 1
        }
    ' "$1"
}

# Compares the lines of json_paths of one entry (file 1) with those of the answer (file 2).
# Prints: id, expected, found, lowest best IoU, ok or what is wrong.
judge() {
    awk -v name="$3" '
        { path = substr($0, 1, index($0, "=") - 1); value = substr($0, index($0, "=") + 1) }
        FNR == NR { wanted[path] = value; next }
        { answer[path] = value }
        function iou(e, f,    a, b, width, height, both) {
            a = ".boxes[" e "]"
            b = ".detections[" f "].box."
            width = least(wanted[a "[0]"] + wanted[a "[2]"], answer[b "x"] + answer[b "width"]) \
                - most(wanted[a "[0]"], answer[b "x"])
            height = least(wanted[a "[1]"] + wanted[a "[3]"], answer[b "y"] + answer[b "height"]) \
                - most(wanted[a "[1]"], answer[b "y"])
            if (width <= 0 || height <= 0) return 0
            both = width * height
            return both / (wanted[a "[2]"] * wanted[a "[3]"] + answer[b "width"] * answer[b "height"] - both)
        }
        # Escaped characters are not decoded: such a name cannot be compared here.
        function other_name(given) { return given != name && !index(given, "\\") }
        function least(a, b) { return a + 0 < b + 0 ? a + 0 : b + 0 }
        function most(a, b) { return a + 0 > b + 0 ? a + 0 : b + 0 }
        function count(text) { return text ~ /^\[[0-9]+\]$/ ? substr(text, 2, length(text) - 2) + 0 : -1 }
        END {
            expected = count(wanted[".boxes"])
            found = count(answer[".detections"])
            id = answer[".image.id"]
            lowest = 1
            for (e = 0; e < expected; e++) {
                best = 0
                partner = -1
                for (f = 0; f < found; f++)
                    if (!(f in used) && iou(e, f) > best) { best = iou(e, f); partner = f }
                if (partner >= 0) used[partner] = 1
                if (best < lowest) lowest = best
            }
            verdict = "ok"
            if (answer[".status"] != "OK" || found < 0) verdict = "MISS (the answer is not of the agreed form)"
            else if (length(id) != 32 || id !~ /^[0-9a-f]+$/) verdict = "MISS (the id is not of 32 hexadecimal digits)"
            else if (other_name(answer[".image.filename"])) verdict = "MISS (the answer is about another file)"
            else if (found != expected) verdict = "MISS (not the expected number of boxes)"
            else if (lowest < wanted[".min_iou"] + 0) verdict = "MISS (a box lies elsewhere)"
            printf "%s\t%d\t%d\t%s\t%s\n", (id == "" ? "-" : id), expected, found, \
                (expected ? sprintf("%.2f", lowest) : "-"), verdict
        }
    ' "$1" "$2"
}

row() { printf '%-26s %-6s %-32s %8s %5s %8s  %s\n' "$@"; }

json_paths "$pictures/expected.json" >"$work/expected" || fail "$pictures/expected.json is not valid JSON"
request --output /dev/null "$base/healthz" || fail "no server answers at $base: $(sed 's/^curl: //;q' "$work/error")"

row file status id expected found 'best IoU' ''
total=0
missed=0
for file in "$pictures"/input/*; do
    [ -f "$file" ] || fail "there is no picture in $pictures/input"
    name=${file##*/}
    total=$((total + 1))
    index=$(name=$name awk 'substr($0, index($0, "=") + 1) == ENVIRON["name"] && /^\[[0-9]+\]\.file=/ {
        sub(/\.file=.*/, ""); print; exit }' "$work/expected")
    if [ -z "$index" ]; then
        missed=$((missed + 1))
        row "$name" - - - - - 'MISS (no entry in expected.json)'
        continue
    fi
    entry=$index awk 'index($0, ENVIRON["entry"]) == 1 { print substr($0, length(ENVIRON["entry"]) + 1) }' \
        "$work/expected" >"$work/entry"
    query=$(sed -n 's/^\.query=//p' "$work/entry")
    quoted=$(printf '%s' "$file" | sed 's/[\\"]/\\&/g')
    if ! status=$(request --output "$work/answer" --write-out '%{http_code}' --header 'Accept: application/json' \
        --form "image=@\"$quoted\"" "$base/api/v1/objectdetection/image?$query"); then
        missed=$((missed + 1))
        row "$name" - - - - - "MISS ($(sed 's/^curl: //;q' "$work/error"))"
        continue
    fi
    if [ "$status" != 200 ]; then
        missed=$((missed + 1))
        row "$name" "$status" - - - - MISS
        printf '    %.300s\n' "$(tr -cd '[:print:]' <"$work/answer")"
        continue
    fi
    if ! json_paths "$work/answer" >"$work/paths"; then
        missed=$((missed + 1))
        row "$name" "$status" - - - - 'MISS (the answer is not JSON)'
        continue
    fi
    judge "$work/entry" "$work/paths" "$name" >"$work/verdict"
    tab=$(printf '\t')
    IFS=$tab read -r id expected found iou verdict <"$work/verdict"
    [ "$verdict" = ok ] || missed=$((missed + 1))
    row "$name" "$status" "$id" "$expected" "$found" "$iou" "$verdict"
done

# An entry whose picture is gone would otherwise pass unnoticed.
entries=$(sed -n 's/^=\[\([0-9]*\)\]$/\1/p' "$work/expected")
if [ "$entries" != "$total" ]; then
    missed=$((missed + 1))
    printf 'expected.json has %s entries for %s pictures: MISS\n' "$entries" "$total"
fi
printf '%s pictures, %s missed\n' "$total" "$missed"
[ "$missed" -eq 0 ]
