#!/usr/bin/env node
// Verifies a webhook of Mailweir: verify.mjs KEYS METHOD PATH HEADERS BODY; see README.md.
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const MAX_AGE = 300;

const same = (a, b) => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
};

/**
 * Throws unless the request is signed; gives the nonce, which must not have been used before.
 * keys: {id: secret in hexadecimal digits}; headers: names in lower case, as node:http gives them; body: a Buffer as it came.
 */
export function verify(keys, method, path, headers, body, now = Date.now() / 1000, prefix = "x-mailweir") {
  const header = (name) => {
    const value = headers[`${prefix}-${name}`];
    if (!value) throw new Error(`the header ${prefix}-${name} is missing`);
    return value;
  };
  const [timestamp, nonce, digest] = [header("timestamp"), header("nonce"), header("body-sha256")];
  if (!/^[0-9]+$/.test(timestamp)) throw new Error("the time is not understood");
  if (Math.abs(now - Number(timestamp)) > MAX_AGE) throw new Error("too old");
  const id = header("key-id");
  if (!Object.hasOwn(keys, id)) throw new Error("the key is not known");
  if (!same(createHash("sha256").update(body).digest("hex"), digest)) {
    throw new Error("the body is not the one that was signed");
  }
  const lines = ["mailweir-v1", timestamp, nonce, method.toUpperCase(), path, digest];
  const mac = createHmac("sha256", Buffer.from(keys[id], "hex")).update(lines.map((line) => `${line}\n`).join(""));
  if (!same(`v1=${mac.digest("hex")}`, header("signature"))) throw new Error("the signature does not fit");
  return nonce;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [keyFile, method, path, headerFile, bodyFile] = process.argv.slice(2);
  const lines = (file) => readFileSync(file, "latin1").split(/\r?\n/).filter((line) => line.trim());
  const keys = Object.fromEntries(lines(keyFile).map((line) => line.split(/\s+/)));
  const pairs = lines(headerFile).filter((line) => line.includes(":"));
  const split = (line) => [line.slice(0, line.indexOf(":")).trim().toLowerCase(), line.slice(line.indexOf(":") + 1).trim()];
  try {
    verify(keys, method, path, Object.fromEntries(pairs.map(split)), readFileSync(bodyFile));
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}
