/**
 * Makes QUIC-LB connection ids, as a server does: draft-ietf-quic-load-balancers-21 section 5.4. For tests and for trying a deployment
 * out. Written from the draft with bytes and node:crypto, so that it and the data path's decoder check each other.
 */
import { createCipheriv } from 'node:crypto';
import { quicLbProblems, type QuicLbConfig } from '../shared/quic_lb.js';

export interface QuicLbCid {
  /** The configuration's number of bytes. */
  serverId: Uint8Array;
  /** The configuration's number of bytes. With a key: never the same twice. Without: random. */
  nonce: Uint8Array;
  /** The low five bits of the first byte; default: the number of bytes that follow the first ("length self-description"). */
  lowBits?: number;
}

/**
 * A connection id: 1 + server id length + nonce length bytes. Throws RangeError when the configuration is invalid or the lengths are not
 * those of the configuration.
 */
export function encodeQuicLbCid(config: QuicLbConfig, { serverId, nonce, lowBits }: QuicLbCid): Uint8Array {
  const problems = quicLbProblems([config]);
  if (problems.length > 0) throw new RangeError(problems.join('; '));
  if (serverId.length !== config.serverIdLength || nonce.length !== config.nonceLength) {
    throw new RangeError(
      `server id and nonce have ${serverId.length} and ${nonce.length} bytes, ` +
        `not ${config.serverIdLength} and ${config.nonceLength}`,
    );
  }
  const plain = Uint8Array.of(...serverId, ...nonce);
  const rest = config.key === null ? plain : encrypt(Uint8Array.from(config.key), plain);
  return Uint8Array.of((config.rotation << 5) | ((lowBits ?? plain.length) & 31), ...rest);
}

/** The connection id of a server that has no configuration: rotation 7, its length in the low bits, the rest random bytes of the caller. */
export function unroutableCid(random: Uint8Array): Uint8Array {
  if (random.length < 7 || random.length > 19)
    throw new RangeError('an unroutable connection id has 7 to 19 random bytes');
  return Uint8Array.of(0xe0 | random.length, ...random);
}

function encrypt(key: Uint8Array, plain: Uint8Array): Uint8Array {
  if (plain.length === 16) return block(key, plain);
  const half = Math.ceil(plain.length / 2);
  const odd = plain.length % 2 === 1;
  const start = plain.length - half;
  let left = plain.slice(0, half);
  let right = plain.slice(start);
  const clear = (): void => {
    if (!odd) return;
    left[half - 1] &= 0xf0;
    right[0] &= 0x0f;
  };
  clear();
  for (let pass = 1; pass <= 4; pass++) {
    const [from, to] = pass % 2 === 1 ? [left, right] : [right, left];
    const input = new Uint8Array(16);
    input.set(from);
    input.set([plain.length, pass], 14);
    const pad = block(key, input);
    const sum = to.map((byte, i) => byte ^ pad[i]);
    if (pass % 2 === 1) right = sum;
    else left = sum;
    clear();
  }
  const result = new Uint8Array(plain.length);
  result.set(left);
  right.forEach((byte, i) => (result[start + i] |= byte));
  return result;
}

function block(key: Uint8Array, input: Uint8Array): Uint8Array {
  const cipher = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false);
  return new Uint8Array(Buffer.concat([cipher.update(input), cipher.final()]));
}
