/** Flows that are known when what they were balanced by changes, or what they were balanced to. */
import { describe, expect, it } from 'vitest';
import { Counter } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { readEncapsulated, type Encapsulated } from '../support/outer_reader.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const KEY = '000102030405060708090a0b0c0d0e0f';

interface ServiceText {
  name?: string;
  vip?: string;
  backends?: string[];
  more?: string;
}

/** A configuration of these services; flows live for 20 minutes. */
function yaml(...services: ServiceText[]): string {
  const lines = services.map(
    ({ name = 'web', vip = '198.51.100.10', backends = ['10.0.0.11', '10.0.0.12'], more = '' }) =>
      `  - { name: ${name}, vip: '${vip}', port: 80, protocol: tcp, backends: [${backends.map((b) => `'${b}'`).join(', ')}]${more && `, ${more}`} }`,
  );
  return `interfaces: [{ name: net0 }, { name: net1 }]\nflows: { timeouts: { tcp_established: 20m } }\nservices: [${lines.length ? '' : ']'}\n${lines
    .join('\n')
    .replaceAll(/^ {2}- /gm, '  ')
    .replaceAll(/\n/g, ',\n')}${lines.length ? ']' : ''}\n`;
}

function tcp(n: number, flags: number = TCP.ACK, dst = '198.51.100.10'): Uint8Array {
  const address = { src: dst.includes(':') ? `2001:db8:9::${n + 1}` : `192.0.2.${n + 1}`, dst };
  const builder = new PacketBuilder().ethernet();
  return (dst.includes(':') ? builder.ipv6(address) : builder.ipv4(address))
    .tcp({ sport: 5000 + n, dport: 80, flags })
    .payload('x')
    .build();
}

/** The one packet that this one becomes. */
function sent(lab: Lab, frame: Uint8Array): Encapsulated {
  const frames = lab.run([frame]).sent.flat();
  expect(frames).toHaveLength(1);
  return readEncapsulated(frames[0]);
}

/** Backends of flows 0 to 39, which are established by it. */
function establish(lab: Lab): string[] {
  return Array.from({ length: 40 }, (_, n) => {
    sent(lab, tcp(n, TCP.SYN));
    return sent(lab, tcp(n)).dst;
  });
}

describe('flows that are known', () => {
  it.each([true, false])('have right checksums when their service gets an address of the other family: %s', (short) => {
    for (const more of ['', 'encapsulation: { kind: ipip, source: 10.3.0.0/24 }', 'encapsulation: gue']) {
      const lab = new Lab(yaml({ more }));
      lab.path.takesShortWay = short;
      const before = establish(lab);
      lab.adopt(yaml({ vip: '2001:db8:1::10', more }));
      before.forEach((backend, n) => expect(sent(lab, tcp(n)).dst).toBe(backend));
      const six = sent(lab, tcp(1, TCP.SYN, '2001:db8:1::10'));
      lab.adopt(yaml({ more }));
      expect(sent(lab, tcp(1, TCP.ACK, '2001:db8:1::10')).dst).toBe(six.dst);
      expect(lab.violations()).toEqual([]);
    }
  });

  it('go on to their backends under another encapsulation, hash, ring and set of hash fields, in the new format', () => {
    const lab = new Lab(yaml({}));
    const before = establish(lab);
    for (const more of [
      'encapsulation: { kind: gue, gue: { variant: 0, port: 6081 } }, hops: 2',
      'encapsulation: { kind: gue, gue: { variant: 1 } }, hash: katran',
      `hash: glb, glb: { hash_key: '${KEY}', seed: '${KEY}' }`,
      'hash_fields: [src], ring_size: 251',
      'flow_table: false',
    ]) {
      lab.adopt(yaml({ more }));
      before.forEach((backend, n) => {
        const now = sent(lab, tcp(n));
        expect(now.dst, more).toBe(backend);
        expect(now.udp?.dport ?? null).toBe(more.includes('6081') ? 6081 : more.includes('gue') ? 6080 : null);
        expect(now.gue?.variant).toBe(more.includes('variant: 0') ? 0 : more.includes('gue') ? 1 : undefined);
      });
    }
    expect(lab.total(Counter.flowMoved)).toBe(0);
  });

  it('of a service that is gone pass to the host, and are not known any more when it is back with others', () => {
    const lab = new Lab(yaml({}, { name: 'other', vip: '198.51.100.99' }));
    establish(lab);
    lab.adopt(yaml({ name: 'other', vip: '198.51.100.99' }));
    for (let n = 0; n < 40; n++) {
      const frame = tcp(n);
      expect(lab.run([frame]).passed).toEqual([frame]);
    }
    expect(lab.flows.count).toBe(0);
    lab.adopt(yaml({ backends: ['10.0.0.13'] }, { name: 'other', vip: '198.51.100.99' }));
    for (let n = 0; n < 40; n++) expect(sent(lab, tcp(n)).dst).toBe('10.0.0.13');
    expect(lab.violations()).toEqual([]);
  });

  it('have their backend again when it left and came back before they sent, and the new one when they sent meanwhile', () => {
    const lab = new Lab(yaml({}));
    const before = establish(lab);
    lab.adopt(yaml({ backends: ['10.0.0.12'] }));
    for (let n = 0; n < 20; n++) expect(sent(lab, tcp(n)).dst).toBe('10.0.0.12');
    lab.adopt(yaml({}));
    before.forEach((backend, n) => expect(sent(lab, tcp(n)).dst).toBe(n < 20 ? '10.0.0.12' : backend));
    expect(new Set(before.slice(20)).size).toBe(2);
  });

  it.each([true, false])('are nobody else’s when numbers of service and backends go to others: %s', (short) => {
    const lab = new Lab(yaml({}));
    lab.path.takesShortWay = short;
    establish(lab);
    const numbers = () => [...lab.publisher.numbers.backends.values()].map(({ number }) => number).sort();
    const former = numbers();
    const packets = lab.backend('web', '10.0.0.11').packets + lab.backend('web', '10.0.0.12').packets;
    lab.adopt(yaml());
    // A freed number rests for ten minutes; these flows may be silent for twenty.
    lab.nowMs += 601_000;
    lab.adopt(yaml({ name: 'api', vip: '198.51.100.20', backends: ['10.0.0.21', '10.0.0.22'] }));
    expect(numbers()).toEqual(former);
    expect(lab.publisher.numbers.services.get('api')!.number).toBe(0);
    expect(lab.flows.count).toBe(40);
    for (let n = 0; n < 20; n++) {
      const frame = tcp(n);
      expect(lab.run([frame]).passed).toEqual([frame]);
    }
    // Counters go by number.
    expect(lab.backend('api', '10.0.0.21').packets + lab.backend('api', '10.0.0.22').packets).toBe(packets);
    // The former owners come back, under other numbers now: their flows are balanced anew.
    lab.adopt(yaml({}, { name: 'api', vip: '198.51.100.20', backends: ['10.0.0.21', '10.0.0.22'] }));
    for (let n = 20; n < 40; n++) expect(sent(lab, tcp(n)).dst).toMatch(/^10\.0\.0\.1[12]$/);
    expect(lab.total(Counter.flowMoved)).toBe(40);
    expect(lab.backend('api', '10.0.0.21').flows + lab.backend('api', '10.0.0.22').flows).toBe(0);
    expect(lab.violations()).toEqual([]);
  });

  it('stay when the clock jumps back, and still time out after that', () => {
    const lab = new Lab(yaml({}));
    lab.nowMs = 100_000;
    const before = establish(lab);
    lab.nowMs = 40_000;
    before.forEach((backend, n) => n < 20 && expect(sent(lab, tcp(n)).dst).toBe(backend));
    for (let elapsed = 0; elapsed < 1_300_000; elapsed += 1000) {
      lab.nowMs += 1000;
      lab.balancer.sweep(lab.nowMs);
    }
    expect(lab.flows.count).toBe(0);
    expect(lab.violations()).toEqual([]);
  });

  it('and overrides by command are as they were after a reload that is taken back', () => {
    const lab = new Lab(yaml({}));
    const before = establish(lab);
    lab.setBackend('web', '10.0.0.11', { state: 'draining' });
    const tables = lab.publisher.tables!;
    // Adopted by a worker, then taken back: without one backend, with a new one, the other inactive.
    lab.adopt(yaml({ backends: ['10.0.0.12', '10.0.0.13'] }));
    lab.adopt(yaml({}));
    const again = lab.publisher.tables!;
    for (const part of ['services', 'backendList', 'serviceKeys', 'backends'] as const) {
      expect(new Int32Array(again[part]), part).toEqual(new Int32Array(tables[part]));
    }
    before.forEach((backend, n) => expect(sent(lab, tcp(n)).dst).toBe(backend));
    for (let n = 40; n < 80; n++) expect(sent(lab, tcp(n, TCP.SYN)).dst).toBe('10.0.0.12');
  });
});

describe('a chain of hops', () => {
  it('that is longer than there are backends lists each once', () => {
    const gue = 'encapsulation: { kind: gue, gue: { variant: 0 } }, hops: 3';
    for (const hash of ['sluice', 'glb']) {
      for (const backends of [['10.0.0.11'], ['10.0.0.11', '10.0.0.12']]) {
        const lab = new Lab(yaml({ backends, more: `${gue}, hash: ${hash}` }));
        for (let n = 0; n < 50; n++) {
          const { dst, gue: header } = sent(lab, tcp(n));
          expect([dst, ...(header?.chain?.hops ?? [])].sort()).toEqual(backends);
        }
      }
      const none = new Lab(yaml({ backends: [], more: `${gue}, hash: ${hash}` }));
      expect(none.run([tcp(1)]).sent.flat()).toEqual([]);
      expect(none.drops()).toEqual({ no_backend: 1 });
    }
  });
});

describe('fragments that are held', () => {
  const fragment = (id: number, offset: number, more: boolean): Uint8Array =>
    new PacketBuilder()
      .ethernet()
      .ipv4({
        src: '192.0.2.1',
        dst: '198.51.100.10',
        id,
        protocol: 6,
        moreFragments: more,
        fragmentOffset: offset / 8,
      })
      .payload(new PacketBuilder().tcp({ sport: 5000, dport: 80, flags: TCP.ACK }).payload(12).build().slice(0, 32))
      .build();

  it.each([
    ['the service', yaml({ name: 'other', vip: '198.51.100.99' })],
    ['the port', yaml({}).replace('port: 80', 'port: 81')],
    ['every backend', yaml({ backends: [] })],
  ])('are dropped in their time, or go with their first, when %s goes', (_, changed) => {
    const lab = new Lab(yaml({}));
    lab.run([fragment(1, 32, false), fragment(2, 32, false)]);
    expect(lab.total(Counter.framesHeld)).toBe(2);
    lab.adopt(changed);
    const first = lab.run([fragment(1, 0, true)]);
    expect(first.sent.flat()).toEqual([]);
    lab.nowMs += 60_000;
    lab.balancer.sweep(lab.nowMs);
    lab.run([fragment(3, 0, true)]);
    expect(lab.total(Counter.framesHeld)).toBe(0);
    expect(lab.violations()).toEqual([]);
    lab.adopt(yaml({}));
    expect(lab.run([fragment(4, 0, true), fragment(4, 32, false)]).sent.flat()).toHaveLength(2);
  });
});
