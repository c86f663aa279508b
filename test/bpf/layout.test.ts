import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  DECAP_STATS,
  decodeIpAddr,
  encodeIpAddr,
  encodeLpmKey,
  HOP_VALUE_BYTES,
  IP_ADDR_BYTES,
  LPM_KEY_BYTES,
  MatchAll,
  REDIRECT_STATS,
  sumPerCpu,
} from '../../src/control/bpf_layout.js';
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import { Decap, Redirect } from '../support/bpf.js';

const header = readFileSync(new URL('../../bpf/types.h', import.meta.url), 'utf8');

/** Enumerators of `enum name` in types.h, in order, with their values. */
function enumerators(name: string): [string, number][] {
  const body = new RegExp(`enum ${name} \\{([^}]*)\\}`).exec(header)?.[1];
  if (!body) throw new Error(`types.h has no enum ${name}`);
  const code = body.replace(/\/\*[\s\S]*?\*\//g, '');
  return [...code.matchAll(/(\w+)\s*=\s*(\d+)/g)].map((match) => [match[1], Number(match[2])]);
}

function expected(prefix: string, names: readonly string[]): [string, number][] {
  return [...names, 'size'].map((name, i) => [`${prefix}_${name.toUpperCase()}`, i]);
}

describe('src/control/bpf_layout.ts and bpf/types.h', () => {
  it('name the same counters in the same order', () => {
    expect(enumerators('redirect_stat')).toEqual(expected('REDIRECT_STAT', REDIRECT_STATS));
    expect(enumerators('decap_stat')).toEqual(expected('DECAP_STAT', DECAP_STATS));
    expect(Object.fromEntries(enumerators('match_all'))).toEqual({
      MATCH_VIPS: MatchAll.vips,
      MATCH_TRAFFIC: MatchAll.traffic,
      MATCH_EVERYTHING: MatchAll.everything,
    });
  });

  it('agree with the sizes of the compiled maps', () => {
    using redirect = new Redirect();
    using decap = new Decap([], []);
    expect(redirect.object.map('vip_map')).toMatchObject({ keySize: LPM_KEY_BYTES, valueSize: 4, maxEntries: 65536 });
    expect(redirect.object.map('xsks_map')).toMatchObject({ keySize: 4, valueSize: 4, maxEntries: 256 });
    expect(redirect.object.map('stats').valueSize).toBe(8 * REDIRECT_STATS.length);
    expect(decap.object.map('decap_dst')).toMatchObject({ keySize: IP_ADDR_BYTES, valueSize: 4 });
    expect(decap.object.map('decap_src')).toMatchObject({ keySize: LPM_KEY_BYTES, valueSize: 4 });
    expect(decap.object.map('decap_hops')).toMatchObject({ keySize: IP_ADDR_BYTES, valueSize: HOP_VALUE_BYTES });
    expect(decap.object.map('stats').valueSize).toBe(8 * DECAP_STATS.length);
  });
});

describe('keys', () => {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

  it('map IPv4 into IPv6 and lengthen its prefixes by 96 bits', () => {
    expect(hex(encodeIpAddr(parseAddress('203.0.113.7')))).toBe('00000000000000000000ffffcb007107');
    expect(hex(encodeIpAddr(parseAddress('2001:db8::f00d')))).toBe('20010db800000000000000000000f00d');
    for (const text of ['203.0.113.7', '2001:db8::f00d', '::1']) {
      expect(decodeIpAddr(encodeIpAddr(parseAddress(text)))).toEqual(parseAddress(text));
    }
    expect(hex(encodeLpmKey(parsePrefix('203.0.113.0/24')))).toBe('7800000000000000000000000000ffffcb007100');
    expect(hex(encodeLpmKey(parsePrefix('2001:db8::/32')))).toBe('2000000020010db8000000000000000000000000');
  });
});

describe('sumPerCpu', () => {
  it('adds the CPUs and reads 64 bits', () => {
    const value = new Uint8Array(new BigUint64Array([1n, 2n ** 40n, 3n, 5n]).buffer);
    expect(sumPerCpu(value, 2)).toEqual([4, 2 ** 40 + 5]);
  });

  it('refuses a value of another size', () => {
    expect(() => sumPerCpu(new Uint8Array(24), 2)).toThrow(RangeError);
  });
});
