import { describe, expect, it } from 'vitest';
import { DropReason, Verdict } from '../../src/dataplane/verdict.js';
import { CaptureCounter } from '../../src/shared/capture_ring.js';
import { CapturePoint } from '../../src/shared/capture_spec.js';
import { Counter } from '../../src/shared/layout.js';
import { captureSpec, LabCaptures } from '../support/capture_lab.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';

const CONFIG = `
interfaces: [{ name: net0 }, { name: net1 }]
services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11] }
  - { name: far, vip: 198.51.100.10, port: 81, protocol: tcp, backends: [10.2.0.12] }
  - { name: none, vip: 198.51.100.10, port: 82, protocol: tcp, backends: [{ address: 10.0.0.13, state: inactive }] }
rules:
  - { name: seen, match: { protocol: tcp }, action: count }
  - { name: no-ntp, match: { protocol: udp, sport: 123 }, action: drop }
  - { name: some, match: { protocol: udp, dport: 7 }, action: sample, sample: { one_in: 4, snaplen: 40 } }
  - { name: begin, match: { protocol: udp, dport: 9 }, action: sample, sample: { first: 3 } }
filters: [rules, sanity]
`;

const tcp = (dport: number, sport = 1234) =>
  new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.10' }).tcp({ sport, dport, flags: TCP.ACK });
const udp = (sport: number, dport: number, size = 50) =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: '192.0.2.1', dst: '198.51.100.10' })
    .udp({ sport, dport })
    .payload(new Uint8Array(size).fill(sport & 255))
    .build();
const web = tcp(80).payload('hello web').build();
const far = tcp(81).payload('hello far away').build();
const none = tcp(82).build();
const ntp = udp(123, 999);
const malformed = web.slice(0, 20);

function start(config = CONFIG) {
  const lab = new Lab(config);
  return { lab, captures: new LabCaptures(lab) };
}

const bits = (...verdicts: Verdict[]) => verdicts.reduce((all, verdict) => all | (1 << verdict), 0);

describe('a capture of everything', () => {
  it('has every frame as it came in, byte for byte and in order, with what became of it', () => {
    const { lab, captures } = start();
    captures.set(captureSpec());
    const before = Date.now();
    lab.run([web, far, none, ntp, malformed]);
    const after = Date.now();
    const taken = captures.take();
    expect(taken.map(({ bytes }) => bytes)).toEqual([web, far, none, ntp, malformed]);
    const rule = (name: string) => lab.publisher.numbers.rules.get(name)!.number;
    const service = (name: string) => lab.publisher.numbers.services.get(name)!.number;
    const backend = (key: string) => lab.publisher.numbers.backends.get(key)!.number;
    expect(
      taken.map(({ verdict, reason, rule, service, backend }) => [verdict, reason, rule, service, backend]),
    ).toEqual([
      ['tx', 'none', rule('seen'), service('web'), backend('web/10.0.0.11')],
      ['redirect', 'none', rule('seen'), service('far'), backend('far/10.2.0.12')],
      ['drop', 'no_backend', rule('seen'), service('none'), -1],
      ['drop', 'rule', rule('no-ntp'), -1, -1],
      ['drop', 'ipv4_truncated', -1, -1, -1],
    ]);
    for (const { atMs, kind, wireLength, bytes } of taken) {
      expect(atMs).toBeGreaterThan(before - 1000);
      expect(atMs).toBeLessThan(after + 1000);
      expect([kind, wireLength]).toEqual(['in', bytes.length]);
    }
    expect(lab.violations()).toEqual([]);
  });

  it('changes nothing of what happens', () => {
    const plain = start();
    const watched = start();
    watched.captures.set(captureSpec({ points: CapturePoint.both }));
    const draw = random(7);
    for (let i = 0; i < 300; i++) {
      const frames = Array.from({ length: 1 + Math.floor(draw() * 8) }, () => {
        const frame = [web, far, none, ntp, udp(5, 7), malformed][Math.floor(draw() * 6)].slice();
        if (draw() < 0.2) frame[Math.floor(draw() * frame.length)] = Math.floor(draw() * 256);
        return frame;
      });
      expect(watched.lab.run(frames)).toEqual(plain.lab.run(frames));
      const seen = watched.captures.take().filter(({ kind }) => kind === 'in');
      expect(seen.map(({ bytes }) => bytes)).toEqual(frames);
    }
    expect(watched.lab.drops()).toEqual(plain.lab.drops());
    expect(watched.lab.total(Counter.tx)).toBe(plain.lab.total(Counter.tx));
    expect(watched.lab.violations()).toEqual([]);
  });

  it('ends when it is taken away, and the short way is taken again', () => {
    const { lab, captures } = start(CONFIG.replace(/rules:[^]*/, ''));
    captures.set(captureSpec());
    lab.run([web, web]);
    expect(captures.take()).toHaveLength(2);
    captures.set();
    expect(captures.ring.version).toBe(2);
    lab.run([web, far]);
    expect(captures.take()).toEqual([]);
    captures.set(captureSpec({ serial: 2 }));
    lab.run([far]);
    expect(captures.take()).toHaveLength(1);
    expect(captures.ring.count(0, 2, 0, CaptureCounter.seen)).toBe(1);
    expect(captures.ring.count(0, 1, 0, CaptureCounter.seen)).toBe(0);
  });
});

describe('the frame as it leaves', () => {
  it('is what the port sends, under the number of the one that came in', () => {
    const { lab, captures } = start();
    captures.set(captureSpec({ points: CapturePoint.both }));
    const { sent } = lab.run([web, far, ntp]);
    const taken = captures.take();
    expect(taken.map(({ kind, port }) => [kind, port])).toEqual([
      ['in', 0],
      ['out', 0],
      ['in', 0],
      ['out', 1],
      ['in', 0],
    ]);
    expect(taken[1].bytes).toEqual(sent[0][0]);
    expect(taken[3].bytes).toEqual(sent[1][0]);
    expect(taken[0].bytes).toEqual(web);
    expect(taken[1].packet).toBe(taken[0].packet);
    expect(new Set(taken.map(({ packet }) => packet)).size).toBe(3);
  });

  it('can be had alone', () => {
    const { lab, captures } = start();
    captures.set(captureSpec({ points: CapturePoint.out }));
    const { sent } = lab.run([web, ntp]);
    expect(captures.take().map(({ bytes }) => bytes)).toEqual(sent[0]);
  });
});

describe('conditions', () => {
  const all = [web, far, none, ntp, malformed];
  const frames = (change: Parameters<typeof captureSpec>[0]) => {
    const { lab, captures } = start();
    captures.set(captureSpec(change));
    lab.run(all);
    return captures.take().map(({ bytes }) => all.findIndex((frame) => Buffer.compare(frame, bytes) === 0));
  };

  it.each([
    ['a verdict', { verdicts: bits(Verdict.Drop) }, [2, 3, 4]],
    ['one of two verdicts', { verdicts: bits(Verdict.Tx, Verdict.Redirect) }, [0, 1]],
    ['a reason', { reasons: [DropReason.noBackend, DropReason.ipv4Truncated] }, [2, 4]],
    ['a rule that counts', { rules: [0] }, [0, 1, 2]],
    ['a rule that drops', { rules: [1] }, [3]],
    ['a rule and a verdict', { rules: [0], verdicts: bits(Verdict.Drop) }, [2]],
    ['a service, of what it sends and of what it drops', { services: [0, 2] }, [0, 2]],
    ['another interface', { ports: 2 }, []],
  ])('%s', (_, change, expected) => expect(frames(change)).toEqual(expected));

  it('an expression is asked of the frame as it came in', () => {
    // ether[12:2] = 0x800 and ip proto 17: ldh [12]; jeq #0x800; ldb [23]; jeq #17; ret.
    const words = new SharedArrayBuffer(6 * 16);
    new Int32Array(words).set([40, 0, 0, 12, 21, 0, 3, 0x800, 48, 0, 0, 23, 21, 0, 1, 17, 6, 0, 0, 65535, 6, 0, 0, 0]);
    expect(frames({ program: { link: 'ethernet', words }, points: CapturePoint.in })).toEqual([3]);
  });

  it('a sampler of a rule gives one in so many, cut to its snaplen, to captures of that rule alone', () => {
    const { lab, captures } = start();
    const id = lab.publisher.numbers.rules.get('some')!.number;
    captures.set(captureSpec({ rules: [id] }), captureSpec({ capture: 1, serial: 2, rules: [0] }));
    for (let i = 0; i < 25; i++) lab.run(Array.from({ length: 8 }, (_, j) => udp(1000 + i * 8 + j, 7)));
    const taken = captures.take();
    expect(taken).toHaveLength(50);
    expect(new Set(taken.map(({ captures: bits, rule, sampled }) => `${bits} ${rule} ${sampled}`))).toEqual(
      new Set([`1 ${id} 40`]),
    );
  });

  it('a sampler gives the first packets of each flow', () => {
    const { lab, captures } = start();
    captures.set(captureSpec({ rules: [lab.publisher.numbers.rules.get('begin')!.number] }));
    for (let i = 0; i < 10; i++) lab.run([udp(1, 9, i), udp(2, 9, i)]);
    const taken = captures.take().map(({ wireLength }) => wireLength);
    expect(taken).toEqual([42, 42, 43, 43, 44, 44]);
  });

  it('sampling: one in so many of what meets the conditions, whether these are about the frame or its fate', () => {
    const { lab, captures } = start();
    captures.set(
      captureSpec({ oneIn: 10 }),
      captureSpec({ capture: 1, serial: 2, oneIn: 10, verdicts: bits(Verdict.Drop) }),
      captureSpec({ capture: 2, serial: 3, first: 3 }),
    );
    for (let i = 0; i < 100; i++) lab.run([web, ntp]);
    const taken = captures.take();
    const of = (bit: number) => taken.filter(({ captures: takers }) => (takers & bit) !== 0);
    expect([of(1), of(2), of(4)].map(({ length }) => length)).toEqual([20, 10, 6]);
    expect(of(2).every(({ verdict }) => verdict === 'drop')).toBe(true);
  });

  it('rate: above it, packets are counted and not taken', () => {
    const { lab, captures } = start();
    captures.set(captureSpec({ rate: 100 }));
    for (let i = 0; i < 50; i++) lab.run([web]);
    expect(captures.take()).toHaveLength(10);
    lab.nowMs += 1000;
    for (let i = 0; i < 50; i++) lab.run([web]);
    expect(captures.take()).toHaveLength(10);
    expect(captures.ring.count(0, 1, 0, CaptureCounter.limited)).toBe(80);
    expect(captures.ring.count(0, 1, 0, CaptureCounter.seen)).toBe(100);
  });

  it('two captures share a record, with as much of the frame as either wants', () => {
    const { lab, captures } = start();
    captures.set(captureSpec({ snaplen: 20 }), captureSpec({ capture: 5, serial: 9, services: [0], snaplen: 30 }));
    lab.run([web, ntp]);
    expect(captures.take().map(({ captures: bits, bytes, wireLength }) => [bits, bytes, wireLength])).toEqual([
      [33, web.slice(0, 30), web.length],
      [1, ntp.slice(0, 30), ntp.length],
    ]);
  });
});

describe('a full ring', () => {
  it('costs captures, never packets, and each one lost is counted', () => {
    const lab = new Lab(CONFIG);
    const captures = new LabCaptures(lab, 4096);
    captures.set(captureSpec({ points: CapturePoint.both }));
    for (let i = 0; i < 40; i++) expect(lab.run([web]).sent[0]).toHaveLength(1);
    const taken = captures.take();
    const count = (counter: CaptureCounter) => captures.ring.count(0, 1, 0, counter);
    expect(taken.length).toBeGreaterThan(10);
    expect(count(CaptureCounter.accepted)).toBe(80);
    expect(taken.length + count(CaptureCounter.lost)).toBe(80);
    lab.run([web]);
    expect(captures.take()).toHaveLength(2);
    expect(lab.violations()).toEqual([]);
  });
});
