#!/bin/sh
# Verifies a webhook of Mailweir: verify.sh KEYS METHOD PATH HEADERS BODY; see README.md. Needs openssl, awk, date.
# The secret is visible in the list of processes while openssl runs: for trying out, or on a machine of your own.
set -eu
keys=$1 method=$2 path=$3 headers=$4 body=$5
max_age=300
prefix=x-mailweir

fail() { echo "$1" >&2; exit 1; }
header() {
  value=$(awk -v name="$prefix-$1" '{
    at = index($0, ":"); if (at && tolower(substr($0, 1, at - 1)) == name) {
      value = substr($0, at + 1); gsub(/^[ \t]+|[ \t\r]+$/, "", value); print value; exit
    } }' "$headers")
  [ -n "$value" ] || fail "the header $prefix-$1 is missing"
  printf '%s' "$value"
}

timestamp=$(header timestamp)
nonce=$(header nonce)
digest=$(header body-sha256)
id=$(header key-id)
signature=$(header signature)
case $timestamp in *[!0-9]*) fail "the time is not understood" ;; esac
away=$(($(date +%s) - timestamp))
[ "${away#-}" -le "$max_age" ] || fail "too old"
secret=$(awk -v id="$id" '$1 == id { print $2; exit }' "$keys")
[ -n "$secret" ] || fail "the key is not known"
[ "$(openssl dgst -sha256 -r "$body" | cut -d ' ' -f 1)" = "$digest" ] || fail "the body is not the one that was signed"

mac() { openssl dgst -sha256 -mac HMAC -macopt "hexkey:$secret" -r | cut -d ' ' -f 1; }
method=$(printf '%s' "$method" | tr '[:lower:]' '[:upper:]')
expected=v1=$(printf '%s\n' mailweir-v1 "$timestamp" "$nonce" "$method" "$path" "$digest" | mac)
# Comparing codes of both instead of both themselves says nothing about where they differ.
[ "$(printf '%s' "$expected" | mac)" = "$(printf '%s' "$signature" | mac)" ] || fail "the signature does not fit"
