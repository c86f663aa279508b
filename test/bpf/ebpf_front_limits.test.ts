/** Rules that meter and draw in front of bpf/redirect.bpf.c: what the host gets is as it came, and what a packet costs. */
import { expect, it, onTestFinished } from 'vitest';
import { MatchAll } from '../../src/control/bpf_layout.js';
import { RuleFront } from '../../src/control/ebpf/offload/front.js';
import { LimitMaps } from '../../src/control/ebpf/offload/limit_maps.js';
import { MitigationShelf } from '../../src/control/mitigation/shelf.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import type { BpfProgram } from '../../src/native.js';
import type { RuleConfig, RuleLimitConfig } from '../../src/shared/config.js';
import { parseRate } from '../../src/shared/limits/rate.js';
import { Redirect, XDP } from '../support/bpf.js';
import { PacketBuilder } from '../support/packet_builder.js';

const VIP = '203.0.113.10';
const SANITY = { checks: ['ipv4-checksum', 'source', 'land', 'port-zero', 'tcp-flags'], protocols: null };

const rule = (i: number, more: Partial<RuleConfig>): RuleConfig => ({
  ...{ name: String(i), match: { protocol: 17 }, action: 'drop', mode: 'enforce', probability: 1 },
  ...more,
});
const limited = (rate: string, more: Partial<RuleLimitConfig> = {}): Partial<RuleConfig> => ({
  action: 'limit',
  limit: { rate: parseRate(rate), per: ['src'], ...more },
});

function frontOf(redirect: Redirect, rules: RuleConfig[], matchAll: number = MatchAll.vips): BpfProgram {
  const shelf = new MitigationShelf();
  shelf.begin([0]);
  const parts = { ...shelf.ruleParts(rules), decides: true };
  const tables = new RuleShelf().build(rules, (name) => Number(name), parts);
  const vips = matchAll === MatchAll.vips ? redirect.object.map('vip_map') : null;
  const program = redirect.object.programFd('sluice_redirect');
  const front = new RuleFront({ program, stats: redirect.object.map('stats'), vips });
  const limits = new LimitMaps();
  const made = front.load({ tables, sanity: SANITY, limits });
  expect(made.plan.records.every(({ step }) => step === 'drop')).toBe(true);
  onTestFinished(() => {
    for (const each of [made.program, front, limits]) each.close();
  });
  return made.program;
}

const udp = (dst = VIP, src = '192.0.2.1', o = {}): Uint8Array =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src, dst, ...o })
    .udp({ sport: 99, dport: 53 })
    .payload(18)
    .build();
const tcp = (dst = VIP): Uint8Array =>
  new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst }).tcp({ sport: 99, dport: 80 }).payload(18).build();

it.each([MatchAll.vips, MatchAll.traffic])('hand packets to the host without the words (match_all %i)', (matchAll) => {
  using redirect = new Redirect({ match_all: matchAll }, [VIP]);
  const program = frontOf(redirect, [rule(0, limited('1/second', { burst: 5 }))], matchAll);
  const frames = [
    udp(),
    tcp(),
    udp(VIP, '127.0.0.1'),
    udp(VIP, '192.0.2.1', { moreFragments: true }),
    new Uint8Array(60),
  ];
  if (matchAll === MatchAll.vips) frames.push(udp('203.0.113.11'), tcp('203.0.113.11'));
  for (const frame of frames) {
    const { retval, data } = program.testRun({ data: frame });
    expect([retval, Buffer.from(data).toString('hex')]).toEqual([XDP.PASS, Buffer.from(frame).toString('hex')]);
  }
  // There is a word in front of what goes to user space: without it, nothing would have been taken off.
  for (let i = 0; i < 3; i++) expect(program.testRun({ data: udp() }).retval).toBe(XDP.PASS);
  expect(program.testRun({ data: udp() }).retval).toBe(XDP.DROP);
});

it('cost: see the table in docs/offload.md', () => {
  using redirect = new Redirect({}, [VIP]);
  const best = (program: Pick<BpfProgram, 'testRun'>, data: Uint8Array): number =>
    Math.min(...Array.from({ length: 5 }, () => program.testRun({ data, repeat: 200_000 }).durationNs));
  const alone = { testRun: (o: Parameters<BpfProgram['testRun']>[0]) => redirect.object.testRun('sluice_redirect', o) };
  const rows: [string, number][] = [
    ['redirect program alone', best(alone, udp())],
    ['one rule by port, dropped', best(frontOf(redirect, [rule(0, {})]), udp())],
    ['one rule by chance, nearly always hit', best(frontOf(redirect, [rule(0, { probability: 0.9999999 })]), udp())],
    ['one rule by chance, never hit, left', best(frontOf(redirect, [rule(0, { probability: 1e-9 })]), udp())],
    ['a limit by source, above it', best(frontOf(redirect, [rule(0, limited('1/hour'))]), udp())],
    [
      'a limit by source, within it, left',
      best(frontOf(redirect, [rule(0, limited('1000000/second', { burst: 1e6 }))]), udp()),
    ],
    ['a limit by source in bytes, above it', best(frontOf(redirect, [rule(0, limited('100b/s'))]), udp())],
    ['one rate for all, above it', best(frontOf(redirect, [rule(0, limited('1/hour', { per: [] }))]), udp())],
    ['no rule matches, left with words', best(frontOf(redirect, [rule(0, limited('1/second'))]), tcp())],
  ];
  for (const [name, ns] of rows) console.log(`${name}: ${ns} ns`);
  // Nothing here costs what a system call does.
  for (const [name, ns] of rows) expect([name, ns < 2000]).toEqual([name, true]);
});
