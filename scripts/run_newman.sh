#!/bin/sh
# Runs the Postman collection against a server: every request of the contract, with its tests.
#
# Usage: scripts/run_newman.sh [BASE_URL]      default http://127.0.0.1:8000
#   API_KEY       sent as x-api-key
#   NEWMAN_OPTS   more options for newman, for example NEWMAN_OPTS=--insecure for a self-signed certificate
# Needs npx (Node.js 16 or later); newman itself is fetched at the version named here.
# Exit code: 0 all tests passed, 1 one did not, 2 the call is wrong or npx is missing.

set -eu
newman=newman@6.2.1

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 2
}

[ "$#" -le 1 ] || fail "usage: ${0##*/} [BASE_URL]"
command -v npx >/dev/null || fail "npx is needed and was not found: install Node.js with npm"
base=${1:-http://127.0.0.1:8000}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

# The key goes in by a private file: on the command line every user of the machine could read it.
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM
key=$(printf '%s' "${API_KEY:-}" | sed 's/[\\"]/\\&/g')
(umask 077 && printf '{"name": "run", "values": [{"key": "apiKey", "value": "%s"}]}\n' "$key" >"$work/environment.json")

# shellcheck disable=SC2086 # options are a list of words
npx --yes "$newman" run "$root/postman/imgdetect.postman_collection.json" \
    --environment "$work/environment.json" --env-var "baseUrl=${base%/}" --working-dir "$root" \
    --reporters cli --reporter-cli-no-banner --disable-unicode --color off ${NEWMAN_OPTS:-}
