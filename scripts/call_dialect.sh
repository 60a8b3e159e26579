#!/bin/sh
# Asks a server in the words of the image detection service (underscores) or the image analysis API (dashes).
#
# Usage: call_dialect.sh CALL       one of the calls at the end of this file
#   BASE_URL         of the server, http://127.0.0.1:8000
#   API_KEY          sent as x-api-key
#   CURL_OPTS        more options for curl, for example CURL_OPTS=-k for a self-signed certificate
#   IMAGE_ID         of a picture of the dataset, astronaut; SCALING_FACTOR, 0.25 to 1, null
#   FILENAME         of a picture of the dataset, astronaut.jpg; WIDTH and HEIGHT of the processed one, both or none
#   OUTPUT           folder of what comes, test_images/output
# Exit code: 0 done, 1 the server refused (its words are printed), 2 it cannot be reached or the call is wrong.

set -eu
base=${BASE_URL:-http://127.0.0.1:8000}
base=${base%/}
python=${PYTHON:-python3}
id=${IMAGE_ID:-astronaut}
name=${FILENAME:-astronaut.jpg}
output=${OUTPUT:-test_images/output}

fail() {
    printf '%s: %s\n' "${0##*/}" "$2" >&2
    exit "$1"
}

command -v curl >/dev/null || fail 2 "curl is needed and was not found"
command -v "$python" >/dev/null || fail 2 "$python is needed and was not found"
mkdir -p "$output"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM
# The key goes into a private file: on the command line every user of the machine could read it.
(umask 077 && : >"$work/curlrc")
if [ -n "${API_KEY:-}" ]; then
    printf 'header = "x-api-key: %s"\n' "$(printf '%s' "$API_KEY" | sed 's/[\\"]/\\&/g')" >"$work/curlrc"
fi

# Keeps what comes in a file, and says where; a refusal is printed. Arguments: the file, then curl's.
ask() {
    kept=$1
    shift
    eval "set -- ${CURL_OPTS:-} \"\$@\""
    status=$(curl --silent --show-error --config "$work/curlrc" --connect-timeout 10 --max-time 120 \
        --output "$work/answer" --write-out '%{http_code}' "$@") || fail 2 "$base cannot be reached"
    case $status in
    200) mv "$work/answer" "$kept" && printf '%s\n' "$kept" ;;
    *) fail 1 "$status $(cat "$work/answer")" ;;
    esac
}

# JSON of pairs: a name, and a value; ="text" is a text, =:value is JSON as it stands.
json() {
    "$python" -c '
import json, sys
pairs = (argument.partition("=")[::2] for argument in sys.argv[1:])
print(json.dumps({name: json.loads(value[1:]) if value.startswith(":") else value for name, value in pairs}))' "$@"
}

# Posts JSON and keeps what comes. Arguments: the file, the path, then the pairs.
post() {
    kept=$1 path=$2
    shift 2
    ask "$kept" --header 'Content-Type: application/json' --data-binary "$(json "$@")" "$base/$path"
}

# Decodes the picture of an answer. Arguments: the answer, the file; an empty list has none.
picture() {
    "$python" -c '
import base64, json, sys
answer = json.load(open(sys.argv[1], encoding="utf-8"))
image = answer.get("image") or next((entry["image"] for entry in answer["payload"]), None)
if image is None:
    sys.exit("nothing was found, so there is no picture")
with open(sys.argv[2], "wb") as file:
    file.write(base64.b64decode(image))
print(sys.argv[2])' "$1" "$2"
}

# Prints an answer, pictures as their length.
view() {
    "$python" -c '
import json, sys
def short(node):
    if isinstance(node, list):
        return [short(item) for item in node]
    if isinstance(node, dict):
        return {k: f"{len(v)} characters" if k == "image" else short(v) for k, v in node.items()}
    return node
print(json.dumps(short(json.load(open(sys.argv[1], encoding="utf-8"))), indent=2, ensure_ascii=False))' "$1"
}

escaped() {
    "$python" -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=""))' "$1"
}

# Files are named after the picture; a name with folders in it is none of the dataset anyway.
case $id$name in */*) fail 2 "IMAGE_ID and FILENAME are names without folders" ;; esac
answer=$output/$id.predict.json
detected=$output/$name.detection.json
case ${1:-} in
get_image) ask "$output/$id.jpg" "$base/get_image/$(escaped "$id")" ;;
process_image) post "$output/$id.processed.jpg" process_image image_id="$id" scaling_factor=:"${SCALING_FACTOR:-null}" ;;
predict) post "$answer" predict image_id="$id" ;;
save_detection_image) [ -f "$answer" ] || fail 2 "predict first" && picture "$answer" "$output/$id.predict.png" ;;
view_detection_json) [ -f "$answer" ] || fail 2 "predict first" && view "$answer" ;;
get-image) ask "$output/$name" "$base/get-image?filename=$(escaped "$name")" ;;
process-image)
    post "$output/$name.processed.jpg" process-image filename="$name" width=:"${WIDTH:-null}" height=:"${HEIGHT:-null}"
    ;;
run-image-object-detection) post "$detected" run-image-object-detection filename="$name" ;;
save-detection-image) [ -f "$detected" ] || fail 2 "detect first" && picture "$detected" "$output/$name.detection.png" ;;
view-detection-json) [ -f "$detected" ] || fail 2 "detect first" && view "$detected" ;;
*) fail 2 "there is no call ${1:-without a name}" ;;
esac
