// What an authenticator app does (RFC 6238): six digits, SHA-1, 30 seconds.

import { createHmac } from "node:crypto";

const STEP_MS = 30_000;

function bytes(base32) {
  const bits = [...base32.replace(/\s/g, "").toUpperCase()].map((digit) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(digit).toString(2).padStart(5, "0")).join("");
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2)));
}

/** The code of a step of time. */
export function code(secret, step) {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const hash = createHmac("sha1", bytes(secret)).update(counter).digest();
  const at = hash[19] & 15;
  return String((hash.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

/** An authenticator app with a secret. */
export function authenticator(secret) {
  let last = 0;
  return {
    /** A code that was not given out before. The server takes that of the next step already; further ones have to be waited for. */
    next: async () => {
      last = Math.max(last + 1, Math.floor(Date.now() / STEP_MS));
      const early = (last - 1) * STEP_MS + 200 - Date.now();
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
      return code(secret, last);
    },
    /** The code that was given out last. */
    again: () => code(secret, last),
  };
}
