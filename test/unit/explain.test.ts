/** What explain says, held against what the path does to the same packets. */
import { describe, expect, it } from 'vitest';
import { explain } from '../../src/control/explain/explain.js';
import type { Explanation, RuleStep, Step } from '../../src/control/explain/document.js';
import { captureOf, readInput, type ExplainInput } from '../../src/control/explain/input.js';
import { linesOf } from '../../src/control/explain/render.js';
import { parseConfig } from '../../src/control/config/index.js';
import { replay } from '../../src/control/replay.js';
import { readCapture } from '../../src/pcap/capture.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { parsePrefix } from '../../src/shared/addr.js';
import type { Config, RuleConfig } from '../../src/shared/config.js';
import { makeConfig, makeService } from '../support/configs.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { randomFrame, randomMatch, ruleProgram } from '../support/rule_packets.js';

const YAML = `
interfaces: [eth0]
icmp: { too_big: drop }
services:
  - { name: web, vip: 198.51.100.1, port: 443, protocol: tcp, backends: [10.0.0.1, 10.0.0.2] }
  - { name: dns, vip: 198.51.100.0/24, port: 50-60, protocol: udp, backends: [10.0.0.3] }
rules:
  - { name: ntp, match: { protocol: udp, sport: 123 }, action: drop }
  - { name: nets, match: { src: [203.0.113.0/24, 192.0.2.128/25] }, action: drop }
  - { name: seen, match: { protocol: tcp, tcp_flags: syn }, action: count }
  - { name: maybe, match: { dport: 443, ttl: 10-20 }, action: drop, mode: shadow }
  - { name: late, match: { length: 1000-65535 }, action: drop }
`;

async function ask(text: string, yaml = YAML): Promise<Explanation> {
  const { explanation, expectedBackend, backend } = await explain({
    config: parseConfig(yaml),
    input: readInput(text),
  });
  expect(expectedBackend).toBe(backend);
  return explanation;
}

const step = ({ steps }: Explanation, stage: Step['stage']): Step | undefined =>
  steps.find((one) => one.stage === stage);
const rulesOf = (explanation: Explanation): RuleStep[] => step(explanation, 'rules')?.detail.rules as RuleStep[];

describe('explain', () => {
  it('follows a SYN to its backend', async () => {
    const explanation = await ask('tcp 192.0.2.1:1234 > 198.51.100.1:443');
    expect(explanation.verdict).toMatchObject({ verdict: 'tx', reason: null, interface: 'eth0', service: 'web' });
    expect(step(explanation, 'parse')).toMatchObject({
      result: 'well-formed',
      detail: {
        family: 4,
        src: '192.0.2.1',
        dst: '198.51.100.1',
        sport: 1234,
        dport: 443,
        tcpFlags: 'S',
        l3: 14,
        l4: 34,
      },
    });
    expect(step(explanation, 'service')?.detail).toMatchObject({ service: 'web', prefixLength: 32, port: 'exact' });
    expect(step(explanation, 'flow-table')?.result).toBe('miss');
    const backend = explanation.verdict.backend!;
    expect((step(explanation, 'ring')?.detail.chain as string[])[0]).toBe(backend);
    expect(step(explanation, 'backend')).toMatchObject({ result: backend, detail: { state: 'active', weight: 1 } });
    expect(step(explanation, 'encapsulation')?.detail).toMatchObject({
      kind: 'ipip',
      overhead: 20,
      bytes: 40,
      fits: true,
    });
    expect(explanation.output?.headers.map(({ name, at }) => [name, at])).toEqual([
      ['ethernet', 0],
      ['ipv4', 14],
      ['ipv4', 34],
      ['tcp', 54],
    ]);
    expect(explanation.output?.headers[1].text).toContain(`> ${backend}`);
    expect(explanation.counters).toContainEqual({ name: 'rule seen packets', change: 1 });
    expect(explanation.counters).toContainEqual({ name: `backend web/${backend} new_flows`, change: 1 });
  });

  it('names the condition of each rule that does not hold, and the values on both sides', async () => {
    const rules = rulesOf(await ask('tcp 192.0.2.1:1234 > 198.51.100.1:443'));
    expect(rules.map(({ name, result }) => [name, result])).toEqual([
      ['ntp', 'skipped'],
      ['nets', 'skipped'],
      ['seen', 'matched'],
      ['maybe', 'no match'],
      ['late', 'no match'],
    ]);
    expect(rules[0].conditions.at(-1)).toEqual({ field: 'protocol', holds: false, packet: 'tcp', rule: 'udp' });
    expect(rules[1].conditions.at(-1)).toMatchObject({ field: 'src', holds: false, packet: '192.0.2.1' });
    expect(rules[3].conditions.map(({ field, holds }) => [field, holds])).toEqual([
      ['dport', true],
      ['ttl', false],
    ]);
    expect(rules[3].conditions[1]).toMatchObject({ packet: '64', rule: '10-20' });
    const shadow = rulesOf(await ask('tcp 192.0.2.1:1234 > 198.51.100.1:443 ttl 12'))[3];
    expect(shadow).toMatchObject({ result: 'matched', mode: 'shadow', acted: true, decided: false });
  });

  it('says which rule dropped, that the others were not reached, and that nothing leaves', async () => {
    const explanation = await ask('udp 192.0.2.200:123 > 198.51.100.9:53');
    expect(explanation.verdict).toMatchObject({ verdict: 'drop', reason: 'rule', backend: null });
    expect(rulesOf(explanation).map(({ result, decided }) => [result, decided])).toEqual([
      ['matched', true],
      ['not reached', false],
      ['not reached', false],
      ['not reached', false],
      ['not reached', false],
    ]);
    expect(explanation.output).toBeNull();
    expect(step(explanation, 'service')).toBeUndefined();
  });

  it('tells of prefixes, ranges, no service, too big, fragments, ICMP, and what is not IP', async () => {
    const dns = await ask('udp 192.0.2.1:999 > 198.51.100.77:53');
    expect(step(dns, 'service')?.detail).toMatchObject({
      service: 'dns',
      vip: '198.51.100.0/24',
      prefixLength: 24,
      port: 'range',
    });
    const none = await ask('udp 192.0.2.1:999 > 198.51.100.77:99');
    expect(none.verdict).toMatchObject({ verdict: 'pass', reason: null });
    expect(step(none, 'service')?.result).toBe('none');
    const big = await ask('udp 192.0.2.1:999 > 198.51.100.77:53 length 1490', YAML.replace(/ {2}- { name: late.*/, ''));
    expect(big.verdict).toMatchObject({ verdict: 'drop', reason: 'too_big', backend: '10.0.0.3' });
    expect(step(big, 'encapsulation')?.detail).toMatchObject({ fits: false, mtu: 1500, bytes: 1490 });
    const later = await explain({
      config: parseConfig(YAML),
      input: readInput('udp 192.0.2.1 > 198.51.100.77 fragment'),
    });
    expect(later.explanation.verdict.verdict).toBe('hold');
    expect(step(later.explanation, 'fragment')?.result).toBe('later');
    const ping = await ask('icmp 192.0.2.1 > 198.51.100.1');
    expect(ping.verdict.verdict).toBe('tx');
    expect(step(ping, 'icmp')?.result).toBe('echo');
    const arp = await ask(`hex:${'ff'.repeat(6)}0200000000010806${'00'.repeat(28)}`);
    expect(arp.verdict.verdict).toBe('pass');
    expect(arp.output?.changed).toBe(false);
    const cut = await ask('hex:ffffffffffff0200000000010800450000');
    expect(cut.verdict).toMatchObject({ verdict: 'drop', reason: 'ipv4_truncated' });
    expect(cut.steps.map(({ stage, result }) => [stage, result])).toEqual([['parse', 'drop ipv4_truncated']]);
  });

  it('has the tables as the frames before left them, or empty ones when asked', async () => {
    const words = ['tcp 192.0.2.1:5 > 198.51.100.1:443 flags S', 'tcp 192.0.2.1:5 > 198.51.100.1:443 flags A'];
    const frames = words.map((text, i) => ({
      data: readInput(text).capture.packet(0).data,
      timestampNs: BigInt(i + 1) * 1_000_000_000n,
    }));
    const capture = captureOf(frames);
    const input: ExplainInput = { text: 'x#1', file: 'x', frame: 1, capture, position: 1 };
    const config = parseConfig(YAML);
    const behind = (await explain({ config, input })).explanation;
    expect(step(behind, 'flow-table')).toMatchObject({ result: 'hit', detail: { state: 'tcp syn', idleMs: 1000 } });
    expect(behind.counters).toContainEqual({ name: 'flow_hit', change: 1 });
    expect(step(behind, 'ring')).toBeUndefined();
    const alone = (await explain({ config, input: { ...input, capture: captureOf(frames.slice(1)), position: 0 } }))
      .explanation;
    expect(step(alone, 'flow-table')?.result).toBe('miss');
    expect(alone.verdict.backend).toBe(behind.verdict.backend);
  });

  it('uses what an operator said of backends', async () => {
    const overrides = new Map([
      ['web/10.0.0.1', { state: 'inactive' as const, reason: 'on fire' }],
      ['web/10.0.0.2', { state: 'inactive' as const }],
    ]);
    const input = readInput('tcp 192.0.2.1:1234 > 198.51.100.1:443');
    const { explanation } = await explain({ config: parseConfig(YAML), input, overrides });
    expect(explanation.verdict).toMatchObject({ verdict: 'drop', reason: 'no_backend', service: 'web', backend: null });
    expect(step(explanation, 'ring')?.result).toBe('empty');
  });

  it('prints every stage, and with --all the rules that the index left out', async () => {
    const explanation = await ask('tcp 192.0.2.1:1234 > 198.51.100.1:443');
    const text = linesOf(explanation, false).join('\n');
    expect(text).toMatch(/^rules +continue\n +seen: matched, count\n +maybe: no match, ttl is 64, not 10-20\n/m);
    expect(text).toContain('2 more: the index knows');
    expect(text).toMatch(/^verdict +tx, out of eth0, to 10\.0\.0\.[12] of web$/m);
    expect(linesOf(explanation, true).join('\n')).toContain(
      'ntp: no match, protocol is tcp, not udp (left out by the index)',
    );
  });
});

/** A config of random rules over the addresses that randomFrame uses, and services on some of them. */
function randomConfig(next: () => number): Config {
  const draw = (n: number): number => Math.floor(next() * n);
  const rules = Array.from({ length: draw(10) }, (_, i): RuleConfig => {
    const program =
      draw(4) === 0 ? { program: { kind: 'bytecode' as const, text: 'some', program: ruleProgram(draw) } } : {};
    const action = (['count', 'drop', 'pass', 'count'] as const)[draw(4)];
    const mode = draw(4) === 0 ? 'shadow' : 'enforce';
    return {
      name: `r${i}`,
      match: { ...randomMatch(draw), ...program },
      action,
      mode,
      ...(draw(5) === 0 ? { probability: 0.5 } : {}),
    };
  });
  const hash = draw(3) === 0 ? ('katran' as const) : ('sluice' as const);
  return makeConfig({
    filters: [{ kind: 'sanity', checks: ['land', 'port-zero', 'ipv4-checksum'], protocols: null }, { kind: 'rules' }],
    rules: rules.filter(({ match }) =>
      [match.src, match.dst, match.sport, match.dport].every((list) => !Array.isArray(list) || list.length > 0),
    ),
    icmp: { echo: (['answer', 'forward', 'pass'] as const)[draw(3)], tooBig: 'drop', maxPerSecond: 1000 },
    fragments: { policy: draw(3) === 0 ? 'drop' : 'follow', outOfOrder: 'hold', slots: 64, timeout: 2, held: 16 },
    allow: { prefixes: draw(4) === 0 ? [parsePrefix('192.0.2.0/28')] : [], sets: [] },
    services: [
      makeService({
        name: 'a',
        vip: '192.0.2.1',
        ports: [],
        protocols: [],
        backends: ['10.1.0.1', '10.1.0.2*3', '10.1.0.3 draining'],
        more: { hash },
      }),
      makeService({
        name: 'b',
        vip: '198.51.100.0/24',
        ports: ['1-1024'],
        protocols: [6, 17],
        backends: ['10.1.0.4', '2001:db8:9::1'],
      }),
      makeService({
        name: 'c',
        vip: '2001:db8::/32',
        ports: ['443', '53'],
        protocols: [6, 17],
        backends: ['2001:db8:9::2', '10.1.0.5'],
        flowTable: false,
      }),
      makeService({ name: 'd', vip: '10.0.0.1', ports: [], protocols: [], backends: ['10.1.0.6 draining'] }),
    ],
  });
}

describe('an explanation and a run', () => {
  // The mixture must have something of everything.
  const seen = { hit: 0, tx: 0, drop: 0, rule: 0, notDrawn: 0 };
  for (const seed of [1, 2, 3]) {
    it(`agree on verdict, reason, rules, backend and bytes (seed ${seed})`, async () => {
      const next = random(seed);
      for (let round = 0; round < 7; round++) {
        const config = randomConfig(next);
        const data: Uint8Array[] = [];
        for (let i = 0; i < 25; i++) {
          const again = i > 0 && next() < 0.5 ? data[Math.floor(next() * i)] : undefined;
          data.push(again ?? randomFrame((n) => Math.floor(next() * n)));
        }
        const capture = captureOf(data.map((bytes, i) => ({ data: bytes, timestampNs: BigInt(i + 1) * 1_000_000n })));
        const runs = await commentsOf(config, data);
        for (const position of [...data.keys()].filter((i) => i % 3 === round % 3)) {
          const input = { text: `#${position}`, file: null, frame: position, capture, position };
          const { explanation, expectedBackend, backend } = await explain({ config, input });
          const { verdict, reason } = explanation.verdict;
          const where = `seed ${seed} round ${round} frame ${position}: ${JSON.stringify(explanation.steps)}`;
          if (expectedBackend !== null) expect(backend, where).toBe(expectedBackend);
          const run = runs.get(position);
          // What is held comes out later, or never.
          if (verdict === 'hold') continue;
          expect(run, where).toBeDefined();
          expect(verdict, where).toBe(run!.verdict);
          expect(reason, where).toBe(run!.reason);
          if (explanation.output) expect(explanation.output.hex, where).toBe(run!.hex);
          if (run!.backend !== null) expect(explanation.verdict.backend, where).toBe(run!.backend);
          const rules = rulesOf(explanation) ?? [];
          expect(
            rules.filter(({ result }) => result === 'matched').map(({ name }) => name),
            where,
          ).toEqual(run!.rules);
          // What the index leaves out, and what no condition fails on.
          for (const { result, conditions, probability } of rules) {
            const holds = conditions.every((condition) => condition.holds);
            if (result === 'matched') expect(holds, where).toBe(true);
            if (result === 'skipped' || result === 'no match') expect(holds, where).toBe(false);
            if (result === 'not drawn') expect(probability, where).toBeLessThan(1);
            if (result === 'not drawn') seen.notDrawn++;
          }
          if (step(explanation, 'flow-table')?.result === 'hit') seen.hit++;
          if (verdict === 'tx') seen.tx++;
          if (verdict === 'drop') seen.drop++;
          if (reason === 'rule') seen.rule++;
        }
      }
    });
  }
  it('have met flows, rules, chance and all verdicts', () => {
    for (const [what, times] of Object.entries(seen)) expect(times, what).toBeGreaterThan(0);
  });
});

interface RunWords {
  verdict: string;
  reason: string | null;
  rules: string[];
  backend: string | null;
  hex: string;
}

/** What a replay in lockstep writes of each frame, by its position. */
async function commentsOf(config: Config, data: readonly Uint8Array[]): Promise<Map<number, RunWords>> {
  const classic = classicOf(data);
  const writer = new PcapngWriter('memory');
  await replay({ config, input: classic, output: writer, outputs: ['tx', 'redirect', 'pass', 'drop'] });
  const found = new Map<number, RunWords>();
  for (const packet of readCapture(writer.bytes())) {
    const position = Number(packet.timestampNs / 1_000_000n) - 1;
    const words = (packet.comment ?? '').split(' ').map((word) => word.split('='));
    const all = (key: string): string[] => words.filter(([name]) => name === key).map(([, value]) => value);
    found.set(position, {
      verdict: all('verdict')[0],
      reason: all('reason')[0] ?? null,
      rules: all('rule'),
      backend: all('backend')[0] ?? null,
      hex: Buffer.from(packet.data).toString('hex'),
    });
  }
  return found;
}

function classicOf(data: readonly Uint8Array[]): Uint8Array {
  const writer = new PcapngWriter('memory');
  const interfaceId = writer.addInterface({ name: 'x' });
  data.forEach((bytes, i) => writer.writePacket({ timestampNs: BigInt(i + 1) * 1_000_000n, interfaceId, data: bytes }));
  return writer.bytes().slice();
}

describe('frames that no frame of the config holds', () => {
  it('are lost, and those before them are run all the same', async () => {
    const long = new PacketBuilder().ethernet().ipv4().udp().payload(3000).build();
    const { explanation } = await explain({
      config: parseConfig(YAML),
      input: readInput(`hex:${Buffer.from(long).toString('hex')}`),
    });
    expect(explanation.verdict.verdict).toBe('lost');
    expect(linesOf(explanation, false).join('\n')).toContain('set frames.size: 4096');
  });
});
