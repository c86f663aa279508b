/** What explain says of packets that name their backend, source routes, second hops, fair share and limits, beside what the path did. */
import { describe, expect, it } from 'vitest';
import type { Explanation, Step } from '../../src/control/explain/document.js';
import { explain } from '../../src/control/explain/explain.js';
import { captureOf, readInput } from '../../src/control/explain/input.js';
import { linesOf } from '../../src/control/explain/render.js';
import { parseConfig } from '../../src/control/config/index.js';
import { PacketBuilder } from '../support/packet_builder.js';

const VIP = '198.51.100.1';

/** The last of these frames, 1 ms after the one before. */
async function ask(yaml: string, ...frames: Uint8Array[]): Promise<Explanation> {
  const capture = captureOf(frames.map((data, i) => ({ data, timestampNs: BigInt(i + 1) * 1_000_000n })));
  const position = frames.length - 1;
  const { explanation, expectedBackend, backend } = await explain({
    config: parseConfig(`interfaces: [eth0]\n${yaml}`),
    input: { text: 'x', file: null, frame: position, capture, position },
  });
  if (expectedBackend !== null && explanation.verdict.verdict !== 'drop') expect(backend).toBe(expectedBackend);
  return explanation;
}

const words = (text: string): Uint8Array => readInput(text).capture.packet(0).data;
const step = ({ steps }: Explanation, stage: Step['stage']): Step | undefined =>
  steps.find((one) => one.stage === stage);
const stages = ({ steps }: Explanation): string[] => steps.map(({ stage }) => stage);
const text = (explanation: Explanation): string => linesOf(explanation, false).join('\n');

const udp = (payload: number[], sport = 1000): Uint8Array =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: '192.0.2.1', dst: VIP })
    .udp({ sport, dport: 443 })
    .payload(Uint8Array.from(payload))
    .build();

describe('packets that name their backend', () => {
  const service = (keys: string, states = ['active', 'active']): string => `services:
  - name: web
    vip: ${VIP}
    port: 443
    protocol: udp
    ${keys}
    backends:
      - { address: 10.0.0.1, server_ids: 1022, state: ${states[0]} }
      - { address: 10.0.0.2, server_ids: 1023, state: ${states[1]} }
`;
  /** Katran's version 1: two bits 01, then 16 bits of id; a short header. */
  const quic = (id: number): number[] => [0x40, 0x40 | (id >> 10), (id >> 2) & 255, (id & 3) << 6, 0, 0, 0, 0, 0, 0];

  it.each([
    ['10.0.0.1', 1022],
    ['10.0.0.2', 1023],
  ])('by a QUIC connection id go to %s, past flow table and ring', async (address, id) => {
    const explanation = await ask(service('quic: katran'), udp(quic(id)));
    expect(step(explanation, 'steering')).toMatchObject({
      result: 'named',
      because: [`QUIC connection id names web/${address}`],
      detail: { by: 'QUIC connection id' },
    });
    expect(explanation.verdict).toMatchObject({ verdict: 'tx', backend: address });
    expect(stages(explanation)).not.toContain('ring');
    expect(text(explanation)).toMatch(/^steering +named\n +QUIC connection id names web\/10/m);
  });

  it('by an id that nobody has go by the ring, and explain says so', async () => {
    const explanation = await ask(service('quic: katran'), udp(quic(77)));
    expect(step(explanation, 'steering')).toMatchObject({ result: 'none', because: [expect.stringContaining('names no backend')] }); // prettier-ignore
    expect(stages(explanation).indexOf('ring')).toBeGreaterThan(stages(explanation).indexOf('steering'));
    const gone = await ask(service('quic: katran', ['inactive', 'active']), udp(quic(1022)));
    expect(step(gone, 'steering')?.result).toBe('none');
    expect(gone.verdict.backend).toBe('10.0.0.2');
  });

  it('move a flow that the flow table has elsewhere', async () => {
    const first = await ask(service('quic: katran'), udp(quic(1022)));
    expect(first.verdict.backend).toBe('10.0.0.1');
    const moved = await ask(service('quic: katran'), udp(quic(1022)), udp(quic(1023)));
    expect(step(moved, 'flow-table')).toMatchObject({ result: 'hit', detail: { backend: 'web/10.0.0.1' } });
    expect(step(moved, 'steering')?.result).toBe('named');
    expect(moved.verdict.backend).toBe('10.0.0.2');
  });

  it('by stable UDP and by TCP option are told by their names', async () => {
    const stable = await ask(service('stable_udp: true'), udp([0x52, 0, 0x03, 0xff, 0, 0, 0, 0]));
    expect(step(stable, 'steering')).toMatchObject({ result: 'named', detail: { by: 'stable UDP id' } });
    expect(stable.verdict.backend).toBe('10.0.0.2');
    const option = new PacketBuilder()
      .ethernet()
      .ipv4({ src: '192.0.2.1', dst: VIP })
      .tcp({ sport: 1000, dport: 443, flags: 16, options: Uint8Array.of(0xb7, 6, 0xfe, 0x03, 0, 0, 1, 0) })
      .build();
    const tcp = await ask(service('tcp_server_id: true').replace('udp', 'tcp'), option);
    expect(step(tcp, 'steering')).toMatchObject({ result: 'named', detail: { by: 'TCP server id' } });
    expect(tcp.verdict.backend).toBe('10.0.0.1');
  });
});

describe('source routes', () => {
  const yaml = (state: string): string => `services:
  - name: web
    vip: ${VIP}
    port: 443
    protocol: tcp
    source_routes: [{ prefix: 192.0.2.0/24, backend: 10.0.0.9 }]
    backends: [10.0.0.1, { address: 10.0.0.9, state: ${state} }]
`;
  it('that have the source, have it and take nothing new, and do not have it', async () => {
    const found = await ask(yaml('active'), words(`tcp 192.0.2.7:1 > ${VIP}:443`));
    expect(step(found, 'source-route')).toMatchObject({ result: 'found', because: ['web/10.0.0.9'] });
    expect([found.verdict.backend, stages(found).includes('ring')]).toEqual(['10.0.0.9', false]);
    const left = await ask(yaml('draining'), words(`tcp 192.0.2.7:1 > ${VIP}:443`));
    expect(step(left, 'source-route')).toMatchObject({ result: 'left out', because: ['web/10.0.0.9 takes no new flows'] }); // prettier-ignore
    expect([left.verdict.backend, stages(left).includes('ring')]).toEqual(['10.0.0.1', true]);
    const other = await ask(yaml('active'), words(`tcp 203.0.113.7:1 > ${VIP}:443`));
    expect([stages(other).includes('source-route'), stages(other).includes('ring')]).toEqual([false, true]);
  });
});

describe('second hops', () => {
  it('are in the chain of the slot, in the order in which they are tried, and in the header', async () => {
    const yaml = `services:
  - name: web
    vip: ${VIP}
    port: 443
    protocol: tcp
    hops: 3
    encapsulation: { kind: gue, gue: { variant: 0 } }
    backends: [10.0.0.1, 10.0.0.2, 10.0.0.3, { address: 10.0.0.4, state: draining }]
`;
    const explanation = await ask(yaml, words(`tcp 192.0.2.7:1 > ${VIP}:443`));
    const chain = step(explanation, 'ring')!.detail.chain as string[];
    expect(chain.length).toBeGreaterThan(1);
    expect(new Set(chain).size).toBe(chain.length);
    expect(explanation.verdict.backend).toBe(chain[0]);
    expect(text(explanation)).toContain(`${chain[0]}, then ${chain[1]}`);
    const address = Buffer.from(chain[1].split('.').map(Number)).toString('hex');
    expect(explanation.output!.hex).toContain(address);
  });
});

const BALANCED = `services: [{ name: web, vip: ${VIP}, port: 443, protocol: tcp, backends: [10.0.0.1] }]\n`;
const syn = (source: string, sport: number): Uint8Array => words(`tcp ${source}:${sport} > ${VIP}:443`);

describe('fair share', () => {
  const yaml = `${BALANCED}mitigation: { fair_share: { rate: 100/s } }\n`;

  it('lets a packet pass that is alone, and drops one of a source that sends a thousand a second', async () => {
    const alone = await ask(yaml, syn('192.0.2.7', 1));
    expect(step(alone, 'fair-share')).toMatchObject({ result: 'continue', detail: { reason: null } });
    expect(alone.verdict.verdict).toBe('tx');
    const flood = Array.from({ length: 400 }, (_, i) => syn('192.0.2.7', 1 + i));
    const results: string[] = [];
    for (let last = 380; last < 400; last++) {
      const one = await ask(yaml, ...flood.slice(0, last));
      const { result } = step(one, 'fair-share')!;
      results.push(result);
      // What the stage says is what the path does.
      expect([one.verdict.verdict, one.verdict.reason]).toEqual(result === 'drop' ? ['drop', 'fair_share'] : ['tx', null]); // prettier-ignore
    }
    expect(results.filter((result) => result === 'drop').length).toBeGreaterThan(10);
  });
});

describe('limits', () => {
  const yaml = `${BALANCED}mitigation:
  tcp_state: { mode: monitor }
  limits:
    - { name: slow, rate: 1/hour, burst: 3 }
    - { name: few, connections: 2 }
`;
  it('name the one that a packet is above, and those that it is within', async () => {
    const [one, two] = [syn('192.0.2.7', 1), syn('192.0.2.7', 2)];
    const within = await ask(yaml, one, two);
    expect(step(within, 'limits')).toMatchObject({
      result: 'continue',
      because: ['limit slow: within', 'limit few: 1 of 2 connections open'],
      detail: { reason: null },
    });
    const third = await ask(yaml, one, two, syn('192.0.2.7', 3));
    expect(step(third, 'limits')).toMatchObject({
      result: 'drop connection_limit',
      because: ['limit slow: within', 'limit few: 2 of 2 connections open, above'],
      detail: { reason: 'connection_limit' },
    });
    expect(third.verdict).toMatchObject({ verdict: 'drop', reason: 'connection_limit' });
    const fourth = await ask(yaml, one, two, syn('192.0.2.7', 3), syn('192.0.2.7', 4));
    expect(step(fourth, 'limits')).toMatchObject({ result: 'drop limited', because: ['limit slow: above'] });
    expect(fourth.verdict.reason).toBe('limited');
    expect(step(await ask(yaml, one, two, syn('192.0.2.8', 3)), 'limits')?.result).toBe('continue');
    expect(text(fourth)).toMatch(/^limits +drop limited\n +limit slow: above$/m);
  });

  it('of rules are told by the rule', async () => {
    const rules = `${BALANCED}rules: [{ name: syns, match: { tcp_flags: syn }, action: limit, limit: { rate: 1/hour, burst: 1 } }]\n`;
    const explanation = await ask(rules, syn('192.0.2.7', 1), syn('192.0.2.7', 2));
    expect(explanation.verdict).toMatchObject({ verdict: 'drop', reason: 'limited' });
    expect(text(explanation)).toContain('syns: matched, limit, above the limit');
    expect(text(await ask(rules, syn('192.0.2.7', 1)))).toContain('syns: matched, limit, within the limit');
  });
});
