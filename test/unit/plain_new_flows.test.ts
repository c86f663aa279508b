/** New flows on the short way: what they leave in the flow table, and when they are left to the steps. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { FlowField } from '../../src/dataplane/balance/flow_entry.js';
import { FlowOffers } from '../../src/dataplane/flow_offers.js';
import { FlowRing, flowRingMemory } from '../../src/shared/flow_ring.js';
import { Counter, CounterBlock } from '../../src/shared/layout.js';
import { Lab, type LabOptions } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { countSteps } from '../support/steps.js';

const HEAD = 'interfaces: [{ name: net0 }, { name: net1 }]\n';
const TIMEOUTS = 'timeouts: { udp: 20s, tcp_established: 30s, tcp_syn: 10s, tcp_closing: 10s, other: 10s }';
const SERVICES = `services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11, 10.2.0.12, 'fd00::13'] }
  - { name: dns, vip: 198.51.100.10, port: 53, protocol: udp, encapsulation: gue, backends: [10.0.0.21, 10.2.0.22] }
  - { name: web6, vip: '2001:db8::10', port: 80, protocol: tcp, backends: [10.0.0.31, 'fd00::32'] }
  - { name: dns6, vip: '2001:db8::10', port: 53, protocol: udp, backends: [10.0.0.41, 10.0.0.42] }
  - { name: ring, vip: 198.51.100.13, port: 53, protocol: udp, flow_table: false, backends: [10.0.0.51, 'fd00::52'] }
`;
const CONFIG = `${HEAD}flows: { ${TIMEOUTS} }\n${SERVICES}`;

interface Flow {
  family: 4 | 6;
  protocol: 'tcp' | 'udp';
  vip?: string;
}

const KINDS: readonly Flow[] = [
  { family: 4, protocol: 'udp' },
  { family: 4, protocol: 'tcp' },
  { family: 6, protocol: 'udp' },
  { family: 6, protocol: 'tcp' },
  { family: 4, protocol: 'udp', vip: '198.51.100.13' },
];

/** A packet of flow `n`. */
function packet(n: number, { family, protocol, vip }: Flow = KINDS[0], flags: number = TCP.ACK): Uint8Array {
  const builder = new PacketBuilder().ethernet();
  const high = (n >> 8) & 255;
  const ip =
    family === 4
      ? builder.ipv4({ src: `10.9.${high}.${1 + (n & 127)}`, dst: vip ?? '198.51.100.10' })
      : builder.ipv6({ src: `2001:db8:1::${high.toString(16)}:${1 + (n & 127)}`, dst: '2001:db8::10' });
  const sport = 1024 + n;
  return (protocol === 'tcp' ? ip.tcp({ sport, dport: 80, flags }) : ip.udp({ sport, dport: 53 })).payload('x').build();
}

type Twins = [Lab, Lab];

function twins(yaml = CONFIG, options: LabOptions = {}): Twins {
  const steps = new Lab(yaml, options);
  steps.path.takesShortWay = false;
  return [new Lab(yaml, options), steps];
}

/** Both do the same, and leave the same in the flow table. */
function run(labs: Twins, frames: Uint8Array[], message = ''): Uint8Array[] {
  const results = labs.map((lab) => lab.run(frames));
  if (!isDeepStrictEqual(results[0], results[1])) expect(results[0], message).toEqual(results[1]);
  const [short, steps] = labs.map((lab) => {
    const counters = lab.counters.slice(0, CounterBlock.backends + 400);
    counters[CounterBlock.totals + Counter.sampledNs] = 0;
    counters[CounterBlock.totals + Counter.sampledPackets] = 0;
    return { counters: Buffer.from(counters.buffer), words: lab.flows.words, count: lab.flows.count };
  });
  if (!isDeepStrictEqual(short, steps)) expect(short, message).toEqual(steps);
  return results[0].sent.flat();
}

const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

describe('new flows on the short way', () => {
  it.each([
    ['of UDP', KINDS.slice(0, 1)],
    ['of all kinds', KINDS],
  ])('enter a table as they do by the steps, from empty to full and over, %s', (_, kinds) => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const labs = twins(CONFIG, { flowSlots: 128 });
    const stepped = countSteps(labs[0]);
    let n = 0;
    let sent = 0;
    for (let round = 0; round < 120; round++) {
      const message = `seed ${seed} round ${round}`;
      const elapsed = round % 30 === 29 ? 25_000 : Math.floor(next() * 40);
      for (const lab of labs) lab.nowMs += elapsed;
      const frames = range(1 + Math.floor(next() * 40)).map(() => packet(n++, kinds[n % kinds.length]));
      sent += run(labs, frames, message).length;
      // Some prove themselves: alone, since what a burst has of known flows is seen before its new ones enter.
      if (next() < 0.6) sent += run(labs, [frames[Math.floor(next() * frames.length)]], message).length;
      for (const lab of labs) lab.balancer.sweep(lab.nowMs);
    }
    expect(stepped()).toBe(0);
    expect(sent).toBe(labs[0].total(Counter.rx));
    for (const counter of [Counter.flowInsert, Counter.flowEvict, Counter.flowExpire, Counter.flowHit]) {
      expect(labs[0].total(counter)).toBeGreaterThan(20);
    }
    expect(labs[0].violations()).toEqual([]);
  });

  it('find no room in windows of nothing but proven flows either', () => {
    const labs = twins(CONFIG, { flowSlots: 64 });
    const stepped = countSteps(labs[0]);
    for (let n = 0; n < 64; n++) for (let again = 0; again < 2; again++) run(labs, [packet(n)]);
    for (const lab of labs) lab.nowMs += 50;
    const before = labs[0].total(Counter.flowEvict);
    run(
      labs,
      range(40).map((n) => packet(1000 + n)),
    );
    expect(labs[0].total(Counter.flowEvict)).toBe(before + 40);
    expect(stepped()).toBe(0);
  });

  it.each(KINDS)('have their second packets in the same burst, %o', (kind) => {
    const labs = twins();
    const full = twins(CONFIG, { flowSlots: 64 });
    const stepped = countSteps(labs[0]);
    const isRemembered = kind.vip === undefined;
    for (let round = 0; round < 8; round++) {
      const flows = range(20).map((n) => packet(100 * round + n, kind));
      const burst = [...flows, ...flows.slice(0, 9), ...flows, packet(100 * round + 50, kind)];
      for (const lab of [...labs, ...full]) lab.nowMs += 7;
      run(labs, burst);
      run(full, burst);
    }
    expect(stepped()).toBe(0);
    expect(labs[0].total(Counter.flowHit)).toBe(isRemembered ? 8 * 29 : 0);
    expect(labs[0].total(Counter.flowInsert)).toBe(isRemembered ? 8 * 21 : 0);
  });

  it('are told from each other where their marks are the same', () => {
    const labs = twins(CONFIG, { flowSlots: 4096 });
    const stepped = countSteps(labs[0]);
    // With 240 of 1,024 marks some 25 are shared.
    const flows = range(240).map((n) => packet(n));
    run(labs, flows);
    run(labs, flows);
    expect(labs[0].total(Counter.flowInsert)).toBe(240);
    expect(labs[0].total(Counter.flowHit)).toBe(240);
    expect(stepped()).toBe(0);
  });

  it('keep to the order of the burst: behind a packet that the steps judge, they take them too', () => {
    const labs = twins(CONFIG, { flowSlots: 64 });
    run(
      labs,
      range(64).map((n) => packet(n)),
    );
    const stepped = countSteps(labs[0]);
    for (let round = 1; round < 20; round++) {
      for (const lab of labs) lab.nowMs += 5;
      const flows = range(30).map((n) => packet(100 * round + n, KINDS[n % 4]));
      flows.splice(10, 0, packet(100 * round + 60, KINDS[1], TCP.SYN), packet(100 * round, KINDS[0]));
      run(labs, flows);
    }
    // The SYN, and the 20 flows behind it; what follows it of a flow in front of it may be known by then.
    expect(stepped()).toBeGreaterThanOrEqual(19 * 21);
    expect(stepped()).toBeLessThanOrEqual(19 * 22);
  });

  it.each([
    ['flows', `${HEAD}flows: { max_new_per_second: 10 }\n${SERVICES}`, 'forward'],
    ['a service', CONFIG.replace('encapsulation: gue', 'flood: { max_new_per_second: 10, above: drop }'), 'drop'],
    ['TCP tracking', `${CONFIG}mitigation: { tcp_state: { mode: monitor } }\n`, 'track'],
  ])('take the steps where something counts them: %s', (_, yaml, what) => {
    const labs = twins(yaml);
    const stepped = countSteps(labs[0]);
    const kind = what === 'track' ? KINDS[1] : KINDS[0];
    const sent = run(
      labs,
      range(30).map((n) => packet(n, kind)),
    ).length;
    expect(stepped()).toBe(30);
    expect(sent).toBe(what === 'drop' ? 10 : 30);
  });

  it('pass, are dropped or told off by the steps where there is no service, no backend, no room', () => {
    const labs = twins(CONFIG, { mtu: 100, unresolved: ['10.0.0.21', '10.2.0.22'] });
    const stepped = countSteps(labs[0]);
    run(
      labs,
      range(5).map((n) => packet(n, { family: 4, protocol: 'udp', vip: '198.51.100.77' })),
    );
    run(
      labs,
      range(5).map((n) => packet(n, KINDS[0])),
    );
    const large = new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.10' });
    run(labs, [large.tcp({ sport: 5, dport: 80, flags: TCP.ACK }).payload(90).build()]);
    expect(stepped()).toBe(11);
    expect([labs[0].total(Counter.noService), labs[0].total(Counter.tooBigReplies)]).toEqual([5, 1]);
  });

  it('are found in their second window, and not taken for new ones', () => {
    const labs = twins(CONFIG, { flowSlots: 64 });
    const flows = range(60).map((n) => packet(n, KINDS[n % 4]));
    run(labs, flows);
    const { words } = labs[0].flows;
    const away = words.filter((word, at) => at % FlowField.STRIDE === FlowField.lodgers && word >>> 24 > 0);
    expect(away.length).toBeGreaterThan(0);
    const stepped = countSteps(labs[0]);
    run(labs, flows);
    expect([stepped(), labs[0].total(Counter.flowHit), labs[0].total(Counter.flowInsert)]).toEqual([0, 60, 60]);
  });

  it('are offered to the kernel with the same packet as by the steps, also when all come in one burst', () => {
    const offered = twins().map((lab) => {
      const rings = { fromWorker: flowRingMemory(256), toWorker: flowRingMemory(256) };
      lab.path.offerFlows(new FlowOffers(lab.flows, lab.balancer.flowHash, rings, lab.balancer.snapshot, false));
      const said = new FlowRing(rings.fromWorker);
      const records: number[][] = [];
      for (const burst of [5, 12, 20]) {
        for (const kind of KINDS) lab.run(range(burst * 3).map((n) => packet(n % 3, kind)));
        while (said.take()) records.push([burst, ...said.record]);
      }
      return records;
    });
    expect(offered[0]).toEqual(offered[1]);
    // Three flows of each kind that is remembered, with their 16th packet: 4 are counted of the first burst, 12 of the second.
    expect(offered[0].map(([burst]) => burst)).toEqual(Array.from({ length: 12 }, () => 12));
  });

  it('go by the key and the backends of the tables in force', () => {
    const labs = twins();
    const stepped = countSteps(labs[0]);
    run(
      labs,
      range(40).map((n) => packet(n, KINDS[n % 5])),
    );
    for (const lab of labs) lab.adopt(`hash_key: '000102030405060708090a0b0c0d0e0f'\n${CONFIG}`);
    run(
      labs,
      range(40).map((n) => packet(100 + n, KINDS[n % 5])),
    );
    for (const lab of labs) lab.setBackend('dns', '10.0.0.21', { state: 'draining' });
    run(
      labs,
      range(40).map((n) => packet(200 + n, KINDS[0])),
    );
    expect(stepped()).toBe(0);
    expect(labs[0].backend('dns', '10.0.0.21').newFlows).toBeLessThan(labs[0].backend('dns', '10.2.0.22').newFlows);
  });
});
