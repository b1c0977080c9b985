#!/usr/bin/env python3
"""Verifies a webhook of Mailweir: verify.py KEYS METHOD PATH HEADERS BODY; see README.md."""
import hashlib
import hmac
import sys
import time

MAX_AGE = 300


def verify(keys, method, path, headers, body, now=None, prefix="x-mailweir"):
    """Raises ValueError unless the request is signed; gives the nonce, which must not have been used before.

    keys: {id: secret in hexadecimal digits}; headers: names in lower case; body: bytes as they came.
    """
    def header(name):
        value = headers.get(f"{prefix}-{name}")
        if not value:
            raise ValueError(f"the header {prefix}-{name} is missing")
        return value

    timestamp, nonce, digest = header("timestamp"), header("nonce"), header("body-sha256")
    if not timestamp.isascii() or not timestamp.isdigit():
        raise ValueError("the time is not understood")
    if abs((time.time() if now is None else now) - int(timestamp)) > MAX_AGE:
        raise ValueError("too old")
    secret = keys.get(header("key-id"))
    if secret is None:
        raise ValueError("the key is not known")
    if not hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), digest.encode()):
        raise ValueError("the body is not the one that was signed")
    lines = ["mailweir-v1", timestamp, nonce, method.upper(), path, digest]
    text = "".join(line + "\n" for line in lines).encode()
    expected = "v1=" + hmac.new(bytes.fromhex(secret), text, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), header("signature").encode()):
        raise ValueError("the signature does not fit")
    return nonce


def main(key_file, method, path, header_file, body_file):
    with open(key_file, encoding="ascii") as file:
        keys = dict(line.split() for line in file if line.strip())
    with open(header_file, encoding="latin-1") as file:
        pairs = (line.rstrip("\r\n").split(":", 1) for line in file if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
    with open(body_file, "rb") as file:
        body = file.read()
    try:
        verify(keys, method, path, headers, body)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
