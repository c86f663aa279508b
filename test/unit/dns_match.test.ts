/** Programs made of DNS names against a reader of messages that shares nothing with them. */
import { describe, expect, it } from 'vitest';
import { malformedDnsProgram } from '../../src/control/expression/dns_malformed.js';
import { dnsProgram } from '../../src/control/expression/dns_program.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { necessary } from '../../src/shared/cbpf/facts.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { SluiceError } from '../../src/errors.js';
import { randomSource } from '../support/cbpf_programs.js';
import {
  nameFits,
  patternNear,
  patternText,
  questionOf,
  randomMessage,
  randomName,
  type Part,
} from '../support/dns_reference.js';
import { PacketBuilder } from '../support/packet_builder.js';

/** SLUICE_FUZZ_ROUNDS for a longer run, SEED to repeat one. */
const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 50);
const PACKETS = 30;
const seed = Number(process.env.SEED ?? 20261121);

describe('DNS names', () => {
  it('match the questions that a reader of messages says, compiled and interpreted', () => {
    const random = randomSource(seed);
    const seen = { programs: 0, refused: 0, pairs: 0, matched: 0, walked: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const names = Array.from({ length: PACKETS }, () => randomName(random));
      const count = 1 + random(random(3) === 0 ? 8 : 2);
      const patterns = Array.from({ length: count }, (): Part[] => patternNear(random, names[random(PACKETS)]));
      const types = random(4) === 0 ? [255, 1].slice(random(2)) : [];
      const response = random(6) === 0;
      let program;
      try {
        program = dnsProgram(patterns.map(patternText), { qtype: types, response });
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        // Too long a name, or too many labels behind a star.
        expect(error.message).toMatch(/needs \d+ bytes|labels behind|instructions/);
        seen.refused++;
        continue;
      }
      seen.programs++;
      expect(checkProgram(program)).toBeNull();
      const [match] = link(compileJavaScript([program]));
      for (const name of names) {
        const packet = randomMessage(random, name, random(3) === 0 ? 255 : 1);
        const view = new DataView(packet.buffer);
        const question = packet.length === 0 ? null : questionOf(packet, response);
        const wanted =
          question !== null &&
          (types.length === 0 || types.includes(question.type)) &&
          patterns.some((parts) => nameFits(question.labels, parts));
        const results = [
          interpret(program, view, 0, packet.length, packet.length),
          match(view, 0, packet.length, packet.length),
        ];
        if (results.some((result) => (result !== 0) !== wanted)) {
          const what = `${patterns.map(patternText).join(' ')} (${types.join()}${response ? ' response' : ''})`;
          throw new Error(
            `seed ${seed}: ${what} gives ${results.join(', ')}, not ${wanted}: ${Buffer.from(packet).toString('hex')}`,
          );
        }
        seen.pairs++;
        if (wanted) seen.matched++;
        if (wanted && patterns.some((parts) => parts[0] === 'front')) seen.walked++;
      }
    }
    if (process.env.SLUICE_FUZZ_ROUNDS) console.log(seed, JSON.stringify(seen));
    expect(seen.programs).toBeGreaterThan(ROUNDS / 2);
    expect(seen.matched).toBeGreaterThan(seen.pairs / 40);
    expect(seen.walked).toBeGreaterThan(seen.pairs / 80);
  }, 3_600_000);

  it('have facts for an index of rules: UDP, and the port', () => {
    const just = (value: number) => [{ lo: value, hi: value }];
    const query = necessary(dnsProgram(['*.example.com']));
    const answer = necessary(dnsProgram([], { response: true }));
    expect([query.other, answer.other]).toEqual([false, false]);
    for (const [way] of [query.ipv4, query.ipv6, answer.ipv4, answer.ipv6]) expect(way.protocols).toEqual(just(17));
    for (const [way] of [query.ipv4, query.ipv6]) expect(way.destinationPorts).toEqual(just(53));
    for (const [way] of [answer.ipv4, answer.ipv6]) expect(way.sourcePorts).toEqual(just(53));
  });

  const random = randomSource(5);
  const asks = (pattern: string, labels: string[], type = 1): boolean => {
    const name = labels.map((label) => Buffer.from(label, 'latin1'));
    // The first that is whole and a query.
    for (;;) {
      const packet = randomMessage(random, name, type);
      const question = packet.length === 0 ? null : questionOf(packet, false);
      if (question?.labels.map((label) => label.toString('latin1')).join(' ') !== labels.join(' ')) continue;
      const view = new DataView(packet.buffer);
      return interpret(dnsProgram([pattern]), view, 0, packet.length, packet.length) !== 0;
    }
  };

  it.each([
    ['example.com', 'example com', true],
    ['example.com.', 'eXAMPLe COM', true],
    ['example.com', 'www example com', false],
    ['*.example.com', 'example com', false],
    ['*.example.com', 'a b c example com', true],
    ['*.example.com', 'anexample com', false],
    ['*.com', 'xx\x07example\x03com', false],
    ['*', 'com', true],
    ['*', '', false],
    ['.', '', true],
    ['www.*.com', 'www x com', true],
    ['www.*.com', 'www x y com', false],
    ['www.**', 'www x y com', true],
    ['www.**', 'www', false],
    ['*{4-6}.example.com', 'abcd example com', true],
    ['*{4-6}.example.com', 'abc example com', false],
    ['*{4-6}.example.com', 'abcd x example com', false],
    ['a\\.b.com', 'a.b com', true],
    ['\\000\\255.com', '\0\xff com', true],
    ['bücher.example', 'xn--bcher-kva example', true],
    ['[.com', '{ com', false],
  ])('%s for the name %j: %s', (pattern, name, wanted) => {
    expect(asks(pattern, name === '' ? [] : name.split(' '))).toBe(wanted);
  });

  it.each([
    ['', 'has no labels'],
    ['.com', 'has an empty label'],
    ['a..b', 'has an empty label'],
    ['a*.com', 'has a * inside of a label'],
    ['**.com', 'has a * inside of a label'],
    ['*.com.**', 'has any number of labels at both ends'],
    ['*{9-4}.com', 'has *{9-4}'],
    ['a.com\\', 'ends in a backslash'],
    ['a\\25.com', 'has a backslash with fewer than three digits'],
    ['\\256.com', 'has a byte 256'],
    [`${'a'.repeat(64)}.com`, 'has a label of 64 bytes'],
    [`*.${new Array(64).fill('abc').join('.')}`, 'needs 259 bytes'],
    [`*.${new Array(15).fill('a').join('.')}`, '15 labels behind a "*."'],
    ['１２.com', 'has a label that is no internationalised name'],
  ])('%s is refused: %s', (name, message) => {
    expect(() => dnsProgram([name])).toThrow(message);
  });

  it('tell of types that are none, and of more names than one program can have', () => {
    expect(() => dnsProgram([], { qtype: ['ANYTHING'] })).toThrow('no DNS query type');
    expect(() => dnsProgram([], { qtype: [65536] })).toThrow('no DNS query type');
    expect(dnsProgram([], { qtype: ['any'] })).toEqual(dnsProgram([], { qtype: ['TYPE255', 255] }));
    const names = Array.from({ length: 2000 }, (_, i) => `*.name${i}.example.com`);
    expect(() => dnsProgram(names)).toThrow('more than 4096 instructions');
    expect(() => dnsProgram(names.slice(0, 150))).not.toThrow();
  });
});

describe('malformed DNS', () => {
  const packet = (change: (dns: Buffer) => Buffer | void, length?: number): Uint8Array => {
    const dns = Buffer.from('123401000001000000000001' + '0161016200' + '00010001', 'hex');
    const bytes = change(dns) ?? dns;
    return new PacketBuilder().ipv4({}).udp({ sport: 4000, dport: 53, length }).payload(bytes).build();
  };
  const found = (bytes: Uint8Array, strict = false): boolean =>
    interpret(malformedDnsProgram({ strict }), new DataView(bytes.buffer), 0, bytes.length, bytes.length) !== 0;
  const flags = (value: number) => (dns: Buffer) => void dns.writeUInt16BE(value, 2);

  it.each([
    ['a query', flags(0x0100), false, true],
    ['one without RD', flags(0), false, false],
    ['one with RA, Z, AD and CD', flags(0x00f0), false, true],
    ['one with AD and CD', flags(0x0030), false, false],
    ['a response', flags(0x8000), true, true],
    ['a NOTIFY', flags(0x2000), true, true],
    ['AA', flags(0x0400), true, true],
    ['TC', flags(0x0200), true, true],
    ['an RCODE', flags(0x0001), true, true],
    ['no question', (dns: Buffer) => void dns.writeUInt16BE(0, 4), true, true],
    ['two questions', (dns: Buffer) => void dns.writeUInt16BE(2, 4), true, true],
    ['an answer', (dns: Buffer) => void dns.writeUInt16BE(1, 6), true, true],
    ['an authority', (dns: Buffer) => void dns.writeUInt16BE(1, 8), true, true],
    ['two additional records', (dns: Buffer) => void dns.writeUInt16BE(2, 10), true, true],
    ['less than a header', (dns: Buffer) => dns.subarray(0, 11), true, true],
    ['nothing', (dns: Buffer) => dns.subarray(0, 0), true, true],
    ['no room for a question', (dns: Buffer) => dns.subarray(0, 16), true, true],
  ])('%s', (_name, change, wanted, strictly) => {
    expect(found(packet(change))).toBe(wanted);
    expect(found(packet(change), true)).toBe(strictly);
  });

  it('is a question for the root only when it is strict, and nothing to other ports', () => {
    const root = packet((dns) => Buffer.concat([dns.subarray(0, 12), Buffer.from([0, 0, 2, 0, 1])]).fill(0, 2, 4));
    expect([found(root), found(root, true)]).toEqual([false, true]);
    const other = new PacketBuilder().ipv6({}).udp({ sport: 53, dport: 54 }).payload(new Uint8Array(4)).build();
    expect(found(other)).toBe(false);
  });
});
