#!/bin/sh
# Asks a gateway with a signature instead of the token: call.sh KEYS ID METHOD URL [BODY]; see README.md. Needs openssl, curl.
# The secret is visible in the list of processes while openssl runs: for trying out, or on a machine of your own.
set -eu
keys=$1 id=$2 method=$(printf '%s' "$3" | tr '[:lower:]' '[:upper:]') url=$4 body=${5-}
prefix=X-Mailweir
secret=$(awk -v id="$id" '$1 == id { print $2; exit }' "$keys")
[ -n "$secret" ] || { echo "no key $id in $keys" >&2; exit 1; }
rest=${url#*://}
case $rest in */*) path=/${rest#*/} ;; *) path=/ ;; esac
timestamp=$(date +%s)
nonce=$(openssl rand -hex 16)
digest=$(printf '%s' "$body" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
signature=$(printf '%s\n' mailweir-v1 "$timestamp" "$nonce" "$method" "$path" "$digest" |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$secret" -r | cut -d ' ' -f 1)
set -- -sS --fail-with-body -X "$method" -H "$prefix-Signature: v1=$signature" -H "$prefix-Timestamp: $timestamp" \
  -H "$prefix-Nonce: $nonce" -H "$prefix-Body-SHA256: $digest" -H "$prefix-Key-Id: $id"
[ -z "$body" ] || set -- "$@" -H 'Content-Type: application/json' --data-binary "$body"
exec curl "$@" "$url"
