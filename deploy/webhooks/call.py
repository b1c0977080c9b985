#!/usr/bin/env python3
"""Asks a gateway with a signature instead of the token: call.py KEYS ID METHOD URL [BODY]; see README.md."""
import hashlib
import hmac
import secrets
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def sign(key_id, secret, method, path, body, prefix="X-Mailweir"):
    """The headers of a request, good for one request.

    secret: hexadecimal digits; path: with query, as in the request line; body: bytes as they are sent.
    """
    timestamp, nonce, digest = str(int(time.time())), secrets.token_hex(16), hashlib.sha256(body).hexdigest()
    lines = ["mailweir-v1", timestamp, nonce, method.upper(), path, digest]
    text = "".join(line + "\n" for line in lines).encode()
    signature = "v1=" + hmac.new(bytes.fromhex(secret), text, hashlib.sha256).hexdigest()
    values = {"Signature": signature, "Timestamp": timestamp, "Nonce": nonce, "Body-SHA256": digest, "Key-Id": key_id}
    return {f"{prefix}-{name}": value for name, value in values.items()}


def main(key_file, key_id, method, url, body=""):
    with open(key_file, encoding="ascii") as file:
        secret = dict(line.split() for line in file if line.strip())[key_id]
    parts, body = urllib.parse.urlsplit(url), body.encode()
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = sign(key_id, secret, method, path, body)
    if body:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data=body or None, headers=headers, method=method.upper())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.exit(f"{error.code}: {error.read().decode()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
