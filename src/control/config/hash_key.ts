import { createHash } from 'node:crypto';

export type HashKey = [number, number, number, number];

/**
 * The key of the Maglev look-up hash when the configuration gives none: the first 128 bits of sha256("sluice"). It is
 * public, so whoever can choose source ports can aim flows at one backend; set `hash_key` where that matters.
 */
export const DEFAULT_HASH_KEY_TEXT = 'sluice';

/** Four int32 from 32 hex digits (big-endian), or from any other text through SHA-256, of which they are the first 128 bits. */
export function hashKeyOf(text: string): HashKey {
  const bytes = /^[0-9a-f]{32}$/i.test(text)
    ? Buffer.from(text, 'hex')
    : createHash('sha256').update(text, 'utf8').digest();
  return [bytes.readInt32BE(0), bytes.readInt32BE(4), bytes.readInt32BE(8), bytes.readInt32BE(12)];
}
