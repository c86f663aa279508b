/** Values of services that are more than a scalar: server ids, keys, source routes. */
import { z } from 'zod';
import { SluiceError } from '../../errors.js';
import { parseServerId, type ServerId } from '../../shared/server_ids.js';
import { show } from './problem.js';
import * as s from './scalars.js';
import { short } from './schema_parts.js';

/** A server id: a number (Katran's), or `hex:0a0b0c` (QUIC-LB, 1 to 15 bytes). */
export const serverId = s.value((raw): ServerId => {
  if (typeof raw !== 'number' && typeof raw !== 'string') {
    throw new s.Refusal(
      `${show(raw)} is not a server id`,
      'Write a number (1022, 0x3fe), or hex: and bytes (hex:0a0b0c0d).',
    );
  }
  try {
    return parseServerId(raw);
  } catch (error) {
    if (error instanceof SluiceError) throw new s.Refusal(error.message, error.remedy);
    throw error;
  }
});

/** 16 bytes as 32 hex digits. */
export const hexKey = s.value((raw): number[] => {
  if (typeof raw !== 'string' || !/^[0-9a-f]{32}$/i.test(raw)) {
    throw new s.Refusal('is not a key of 32 hex digits', 'Make one with: openssl rand -hex 16. Put it in quotes.');
  }
  return [...Buffer.from(raw, 'hex')];
});

/** Routes by source address: a list of {prefix, backend} and of files with a line "PREFIX BACKEND" each; a path alone is one file. */
export const sourceRoutes = short(
  (raw) => (typeof raw === 'string' ? [{ file: raw }] : raw),
  z.array(
    z.strictObject({
      file: s.filePath.optional(),
      prefix: s.prefix.optional(),
      backend: s.hostAddress.optional(),
    }),
  ),
);

/** The least MSS is what every IPv4 host must take (RFC 9293 §3.7.1); the most is what a length field can say. */
export const mssClamp = s.value((raw): number | 'auto' | 'off' => {
  if (raw === 'auto' || raw === 'off') return raw;
  if (typeof raw === 'number' && Number.isInteger(raw) && raw >= 536 && raw <= 65495) return raw;
  throw new s.Refusal(`${show(raw)} is not an MSS`, 'Write auto, off, or bytes from 536 to 65495.');
});
