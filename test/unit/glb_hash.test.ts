import { describe, expect, it } from 'vitest';
import { buildRendezvous } from '../../src/control/rendezvous.js';
import { GlbField, GlbHash, glbGueSourcePort, glbRow } from '../../src/dataplane/balance/glb_hash.js';
import { addressToBytes, parseAddress } from '../../src/shared/addr.js';
import { SipHash } from '../../src/shared/siphash.js';
import { frameOf, glbVectors, NO_VECTORS } from '../support/vectors.js';

const KEY = frameOf('12345678901234561234567890123456');
const ALL = GlbField.sourceAddress | GlbField.destinationAddress | GlbField.sourcePort | GlbField.destinationPort;
const SPORT = 45678;
const DPORT = 443;

const FIELDS: Record<string, number> = {
  src_addr: GlbField.sourceAddress,
  dst_addr: GlbField.destinationAddress,
  src_port: GlbField.sourcePort,
  dst_port: GlbField.destinationPort,
};

function hash4(hash: GlbHash, src: string, dst: string, sport: number, dport: number): number {
  return hash.ipv4(parseAddress(src).words[0], parseAddress(dst).words[0], (sport << 16) | dport);
}

/** The bytes that GLB's buffer has for these fields, hashed as bytes. */
function ofBytes(fields: number, src: string, dst: string): number {
  const parts = [
    ...(fields & GlbField.sourceAddress ? addressToBytes(parseAddress(src)) : []),
    ...(fields & GlbField.destinationAddress ? addressToBytes(parseAddress(dst)) : []),
    ...(fields & GlbField.sourcePort ? [SPORT >> 8, SPORT & 255] : []),
    ...(fields & GlbField.destinationPort ? [DPORT >> 8, DPORT & 255] : []),
  ];
  const hash = new SipHash(KEY);
  hash.bytes(Uint8Array.from(parts));
  return hash.lo;
}

describe('GlbHash', () => {
  it('is the SipHash of the bytes of the fields, for any set of fields and both families', () => {
    const ports = (SPORT << 16) | DPORT;
    for (let fields = 1; fields <= ALL; fields++) {
      const hash = new GlbHash(KEY, fields);
      expect(hash4(hash, '10.11.12.13', '1.1.1.1', SPORT, DPORT)).toBe(ofBytes(fields, '10.11.12.13', '1.1.1.1'));
      const [src, dst] = ['2001:db8::ff00:1', 'fdb4:98ce:52d4::42'];
      const [s, d] = [parseAddress(src).words, parseAddress(dst).words];
      expect(hash.ipv6(s[0], s[1], s[2], s[3], d[0], d[1], d[2], d[3], ports)).toBe(ofBytes(fields, src, dst));
    }
  });

  it('does not see fields that are not configured', () => {
    const bySource = new GlbHash(KEY, GlbField.sourceAddress);
    const hash = hash4(bySource, '10.11.12.13', '1.1.1.1', 1, 2);
    expect(hash4(bySource, '10.11.12.13', '9.9.9.9', 3, 4)).toBe(hash);
    expect(hash4(bySource, '10.11.12.14', '1.1.1.1', 1, 2)).not.toBe(hash);
  });

  it('refuses a key or fields that cannot be', () => {
    expect(() => new GlbHash(KEY.subarray(1), ALL)).toThrow(RangeError);
    expect(() => new GlbHash(KEY, 0)).toThrow(RangeError);
    expect(() => new GlbHash(KEY, 16)).toThrow(RangeError);
  });

  it('gives source ports from 32768 on that differ with port and row', () => {
    expect(glbGueSourcePort(0, 0)).toBe(0x8000);
    expect(glbGueSourcePort(-1, 0)).toBe(0xffff);
    expect(glbGueSourcePort(0x12345678, 45678)).toBe(0x8000 | (0x5678 ^ (45678 & 0x7fff)));
    expect(glbRow(-1)).toBe(0xffff);
  });
});

describe("GLB Director's tests", () => {
  const vectors = glbVectors();
  const [table] = vectors?.tables ?? [];

  /** Rows of the first table, with some backends unhealthy, which counts as draining. */
  function rowOf(hash: number, unhealthy: string[] = []): string[] {
    const backends = table.backends.map(({ ip }) => ({
      address: parseAddress(ip),
      weight: 1,
      state: unhealthy.includes(ip) ? ('draining' as const) : ('active' as const),
    }));
    const { rows } = buildRendezvous(backends, { rows: 65536, hops: 2, glbSeed: frameOf(table.seed) })!;
    return [...rows.subarray(2 * glbRow(hash), 2 * glbRow(hash) + 2)].map((i) => table.backends[i].ip);
  }

  it('route every packet as here, for each set of hash fields', ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    let routes = 0;
    for (const { fields, routes: cases } of vectors!.hash_fields) {
      const bits = fields.reduce((sum, name) => sum | FIELDS[name], 0);
      const hash = new GlbHash(frameOf(table.hash_key), bits);
      for (const [src, sport, expected] of cases) {
        expect(rowOf(hash4(hash, src, '1.1.1.1', sport, 80)), `${fields.join()} ${src}:${sport}`).toEqual(expected);
        routes++;
      }
    }
    expect(routes).toBe(6);
  });

  it('have the hops of each packet case, and one source port for a flow and ICMP errors about it', ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    const hash = new GlbHash(frameOf(table.hash_key), GlbField.sourceAddress);
    const [flow, error, echo, sick] = vectors!.packet_cases;
    const flowHash = hash4(hash, '10.11.12.13', '1.1.1.1', 45678, 80);
    expect(rowOf(flowHash)).toEqual([flow.expect.outer_dst, ...flow.expect.alternate!]);
    // The error comes from 10.11.99.99; what counts is the packet in it, 1.1.1.1:80 to 10.11.12.13:45678, turned round.
    const errorHash = hash4(hash, '10.11.12.13', '1.1.1.1', 45678, 80);
    expect(rowOf(errorHash)[0]).toBe(error.expect.outer_dst);
    expect(glbGueSourcePort(errorHash, 45678)).toBe(glbGueSourcePort(flowHash, 45678));
    expect(rowOf(hash4(hash, '10.11.12.13', '1.1.1.1', 0, 0))[0]).toBe(echo.expect.outer_dst);
    expect(rowOf(flowHash, ['3.4.5.6'])).toEqual([sick.expect.outer_dst, ...sick.expect.alternate!]);
  });
});
