#!/bin/sh
# Checks the settings, makes a certificate if there is none, writes nginx.conf and becomes nginx.
# Arguments are passed on to nginx (`start.sh -t` only tests the configuration). Exit code 2: a setting is wrong.
set -eu

fail() {
    printf 'nginx: %s\n' "$1" >&2
    exit 2
}

# set_default NAME VALUE PATTERN MEANING: gives the variable its default, and compares it with a regular expression.
set_default() {
    value=$(printenv "$1") || value=
    value=${value:-$2}
    # One line only: grep would be content if one of several fitted.
    line=$(printf '%s' "$value" | tr '\n' '?')
    printf '%s\n' "$line" | grep -Eqx -- "$3" || fail "$1 must be $4 (given: $line)"
    export "$1=$value"
}

number='[1-9][0-9]{0,14}'
port='[1-9][0-9]{0,4}'
path='/[A-Za-z0-9._/-]*'

set_default UPSTREAM restapi:8000 '[A-Za-z0-9._-]+:[1-9][0-9]*' 'HOST:PORT of the service'
set_default LISTEN 0.0.0.0 '[0-9.]+|\[[0-9a-f:.]+\]' 'an IP address'
set_default TLS_PORT 8443 "$port" 'a port'
set_default HTTP_PORT 8080 "$port" 'a port'
set_default LOCAL_PORT 8000 "$port" 'a port'
set_default HTTP_REDIRECT on 'on|off' 'on or off'
set_default HTTPS_PORT 443 "$port" 'the port at which clients reach TLS'
set_default HSTS_SECONDS 31536000 "$number|off" 'a number of seconds, or off'
set_default RATE_LIMIT 50 "$number|off" 'requests a second from one address, or off'
set_default RATE_BURST 100 "$number" 'a number of requests'
set_default CONNECTIONS 64 "$number" 'a number of requests under way'
set_default IMGDETECT_MAX_UPLOAD_BYTES 25000000 "$number" 'a number of bytes'
set_default IMGDETECT_MAX_BATCH_BYTES 500000000 "$number" 'a number of bytes'
set_default IMGDETECT_MAX_BATCH_IMAGES 1000 "$number" 'a number of images'
set_default IMGDETECT_MAX_VIDEO_BYTES 500000000 "$number" 'a number of bytes'
set_default CLIENT_SECONDS 15 "$number" 'a number of seconds'
set_default UPSTREAM_SECONDS 75 "$number" 'a number of seconds'
set_default LARGE_SECONDS 300 "$number" 'a number of seconds'
set_default SHUTDOWN_SECONDS 35 "$number" 'a number of seconds'
set_default WORKER_PROCESSES 2 'auto|[1-9][0-9]?' 'a number, or auto'
set_default FILES_DIR /data/images "$path" 'an absolute path'
set_default CERT_DIR /certs "$path" 'an absolute path'
set_default RUN_DIR /tmp/nginx "$path" 'an absolute path'
set_default SPOOL_DIR /spool "$path" 'an absolute path'
set_default ACCESS_LOG /dev/stdout "$path|off" 'an absolute path, or off'
set_default ERROR_LOG /dev/stderr "$path" 'an absolute path'
set_default TLS_NAMES localhost '[A-Za-z0-9.*_ -]+' 'host names, separated by blanks'
# Docker's own name server, or the cluster's: the one that this container was given.
nameserver=$(awk '$1 == "nameserver" { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' /etc/resolv.conf)
set_default RESOLVER "${nameserver:-127.0.0.11}" '[0-9.]+|\[[0-9a-f:.]+\]' 'the IP address of a name server'

MAX_UPLOAD_BYTES=$IMGDETECT_MAX_UPLOAD_BYTES
MAX_BATCH_BYTES=$IMGDETECT_MAX_BATCH_BYTES
MAX_VIDEO_BYTES=$IMGDETECT_MAX_VIDEO_BYTES
# A form is a little larger than the files in it.
MAX_BODY_BYTES=$((MAX_UPLOAD_BYTES + 65536))
MAX_BATCH_BODY_BYTES=$((MAX_BATCH_BYTES + 65536 + 1024 * IMGDETECT_MAX_BATCH_IMAGES))
MAX_VIDEO_BODY_BYTES=$((MAX_VIDEO_BYTES + 65536 + 1024))
PUBLIC_PORT=:$HTTPS_PORT
[ "$HTTPS_PORT" != 443 ] || PUBLIC_PORT=
RATE_PER_SECOND=$RATE_LIMIT
[ "$RATE_LIMIT" != off ] || RATE_PER_SECOND=1
export MAX_UPLOAD_BYTES MAX_BODY_BYTES MAX_BATCH_BYTES MAX_BATCH_BODY_BYTES MAX_VIDEO_BYTES MAX_VIDEO_BODY_BYTES
export PUBLIC_PORT RATE_PER_SECOND

# A certificate of our own, for as long as nobody has put another one in its place.
own=self-signed.imgdetect
make_certificate() {
    names=DNS:$(printf '%s' "$TLS_NAMES" | sed 's/  */,DNS:/g'),IP:127.0.0.1,IP:0:0:0:0:0:0:0:1
    new=$(mktemp -d "$CERT_DIR/new.XXXXXX") || fail "cannot write a certificate to $CERT_DIR"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 397 -subj "/CN=$own" \
        -addext "subjectAltName=$names" -addext 'extendedKeyUsage=serverAuth' \
        -keyout "$new/tls.key" -out "$new/tls.crt" 2>"$new/log" || fail "openssl made no certificate: $(cat "$new/log")"
    chmod 600 "$new/tls.key"
    mv "$new/tls.key" "$CERT_DIR/tls.key"
    mv "$new/tls.crt" "$CERT_DIR/tls.crt"
    rm -r "$new"
    echo "nginx: made a self-signed certificate for $TLS_NAMES in $CERT_DIR" >&2
}

if [ ! -e "$CERT_DIR/tls.crt" ] && [ ! -e "$CERT_DIR/tls.key" ]; then
    make_certificate
fi
for file in tls.crt tls.key; do
    [ -r "$CERT_DIR/$file" ] || fail "cannot read $CERT_DIR/$file as user $(id -u)"
done
if ! openssl x509 -in "$CERT_DIR/tls.crt" -noout -checkend 2592000 >/dev/null; then
    case $(openssl x509 -in "$CERT_DIR/tls.crt" -noout -issuer) in
        *"$own") make_certificate ;;
        *) echo "nginx: the certificate $CERT_DIR/tls.crt ends within 30 days" >&2 ;;
    esac
fi

mkdir -p "$RUN_DIR" "$SPOOL_DIR" || fail "cannot make the folders $RUN_DIR and $SPOOL_DIR"
[ -w "$SPOOL_DIR" ] || fail "cannot write to $SPOOL_DIR as user $(id -u)"
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
awk '{
    while (match($0, /[$][{][A-Z_]+[}]/)) {
        name = substr($0, RSTART + 2, RLENGTH - 3)
        if (!(name in ENVIRON)) { print "nginx: " name " has no value" >"/dev/stderr"; exit 2 }
        printf "%s%s", substr($0, 1, RSTART - 1), ENVIRON[name]
        $0 = substr($0, RSTART + RLENGTH)
    }
    print
}' "$here/nginx.conf.template" >"$RUN_DIR/nginx.conf"
exec nginx -e "$ERROR_LOG" -c "$RUN_DIR/nginx.conf" "$@"
