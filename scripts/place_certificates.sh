#!/bin/sh
# Takes a certificate and its key from a folder, checks that they serve, and puts them where the stack expects them.
#
# Usage: scripts/place_certificates.sh FOLDER TARGET
#   FOLDER holds one of: fullchain.pem and privkey.pem (certbot), tls.crt and tls.key, server.crt and server.key
#   TARGET gets tls.crt (mode 644) and tls.key (mode 600), and is open to its owner only (700)
# Exit code: 0 done, 2 the certificate cannot be used; TARGET is then as it was.
set -eu
umask 077

fail() {
    printf 'place_certificates.sh: %s\n' "$1" >&2
    exit 2
}

[ "$#" -eq 2 ] || fail "usage: place_certificates.sh FOLDER TARGET"
command -v openssl >/dev/null || fail "openssl is needed and was not found"
[ -d "$1" ] || fail "there is no folder $1"
certificate=''
for pair in fullchain.pem:privkey.pem tls.crt:tls.key server.crt:server.key; do
    [ -e "$1/${pair%:*}" ] && [ -e "$1/${pair#*:}" ] || continue
    certificate=$1/${pair%:*}
    key=$1/${pair#*:}
    break
done
[ -n "$certificate" ] || fail "$1 has no fullchain.pem with privkey.pem, tls.crt with tls.key, or server.crt with server.key"
for file in "$certificate" "$key"; do
    [ -r "$file" ] || fail "$file cannot be read by $(id -un)"
done

public=$(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null) || fail "$certificate is no certificate in PEM form"
# An empty pass phrase: a key that needs another one would make nginx wait for somebody to type it.
of_key=$(openssl pkey -in "$key" -passin pass: -pubout 2>/dev/null) || fail "$key is no key in PEM form, or has a pass phrase"
[ "$public" = "$of_key" ] || fail "$key is not the key of $certificate"
openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null || fail "$certificate has expired"
openssl x509 -in "$certificate" -noout -checkend 1209600 >/dev/null ||
    echo "place_certificates.sh: $certificate ends within 14 days" >&2

mkdir -p "$2"
chmod 700 "$2"
# In place of what is there, never into a file that somebody else may have open.
cp "$certificate" "$2/tls.crt.new"
cp "$key" "$2/tls.key.new"
chmod 644 "$2/tls.crt.new"
chmod 600 "$2/tls.key.new"
mv "$2/tls.key.new" "$2/tls.key"
mv "$2/tls.crt.new" "$2/tls.crt"
openssl x509 -in "$2/tls.crt" -noout -subject -enddate
