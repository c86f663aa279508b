/** Rules that draw and that meter, in the kernel and what it leaves to the data plane: together they do what the data plane does alone. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { Assembler, encode } from '../../src/control/ebpf/assembler.js';
import type { Access } from '../../src/control/ebpf/from_cbpf.js';
import { Alu, Reg } from '../../src/control/ebpf/instruction.js';
import { Copy } from '../../src/control/ebpf/offload/kinds.js';
import { LimitMaps } from '../../src/control/ebpf/offload/limit_maps.js';
import { planOffload, type Plan } from '../../src/control/ebpf/offload/plan.js';
import { COUNTER_BYTES, emitRules } from '../../src/control/ebpf/offload/rules_program.js';
import { MitigationShelf } from '../../src/control/mitigation/shelf.js';
import { RuleShelf, type RuleTables } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { NO_PARTS, type Limiter } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import { LimiterShelf } from '../../src/dataplane/mitigate/limiters.js';
import { native, type BpfMap, type BpfProgram } from '../../src/native.js';
import { parsePrefix } from '../../src/shared/addr.js';
import type { RuleConfig, RuleLimitConfig } from '../../src/shared/config.js';
import { DecisionWord } from '../../src/shared/kernel_decisions.js';
import { CounterBlock, RuleAction, RuleCounter, RuleField } from '../../src/shared/layout.js';
import { parseRate } from '../../src/shared/limits/rate.js';
import { sumPerCpu } from '../../src/control/bpf_layout.js';
import { randomSource, type Random } from '../support/cbpf_programs.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';
import { randomFrame, randomMatch, ruleProgram } from '../support/rule_packets.js';

const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 30);
const FRAMES = 150;
const seed = Number(process.env.SEED ?? 20261121);
const [PERCPU_ARRAY, ARRAY] = [6, 2];
const [DROPPED, LEFT] = [1, 2];
const START = 9_000_000;
const PORTS = [22, 53, 80, 123, 443, 1023, 1024, 9999];

const rule = (i: number, match: RuleConfig['match'], more: Partial<RuleConfig> = {}): RuleConfig => ({
  ...{ name: String(i), match, action: 'drop', mode: 'enforce', probability: 1 },
  ...more,
});
const port = (n: number) => ({ first: n, last: n });
const limited = (rate: string, more: Partial<RuleLimitConfig> = {}): Partial<RuleConfig> => ({
  action: 'limit',
  limit: { rate: parseRate(rate), per: ['src'], ...more },
});

function tablesOf(rules: readonly RuleConfig[]): RuleTables {
  const shelf = new MitigationShelf();
  shelf.begin([0]);
  return new RuleShelf().build(rules, (name) => Number(name), { ...shelf.ruleParts(rules), decides: true });
}

const udp = (dport: number): Uint8Array =>
  new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.1' }).udp({ sport: 99, dport }).build();

interface Verdict {
  dropped: boolean;
  /** DecisionWord.rules; 0 when there are no words, or not with the nonce. */
  decided: number;
  words: boolean;
}

class Kernel {
  readonly plan: Plan;
  readonly program: BpfProgram;
  readonly written: number[];
  private readonly counters: BpfMap;
  private readonly clock: BpfMap;
  private readonly copies: BpfMap;

  constructor(
    readonly tables: RuleTables,
    private readonly rules: number,
    access: Access = 'helpers',
  ) {
    const make = native();
    const name = 'test_decided';
    this.counters = make.createMap({
      type: PERCPU_ARRAY,
      name,
      keySize: 4,
      valueSize: COUNTER_BYTES,
      maxEntries: rules,
    });
    this.clock = make.createMap({ type: ARRAY, name: 'clock', keySize: 4, valueSize: 8, maxEntries: 1 });
    this.copies = make.createMap({
      type: PERCPU_ARRAY,
      name: 'copies',
      keySize: 4,
      valueSize: Copy.SIZE,
      maxEntries: 1,
    });
    const limits = new LimitMaps(undefined, () => START);
    const asm = new Assembler();
    const leave = (action: number) => (): void => {
      asm.alu32(Alu.MOV, Reg.r0, action);
      asm.exit();
    };
    this.plan = planOffload(tables);
    const [dropped, left] = [leave(DROPPED), leave(LEFT)];
    const ends = { dropped, left, sanity: null, vips: null };
    this.written = emitRules(asm, this.plan, {
      ...{ access, counters: this.counters.fd, copies: this.copies.fd, limits, clock: this.clock.fd },
      ...ends,
    });
    const instructions = encode(asm.instructions());
    this.program = make.loadProgram({ type: 'xdp', name, license: 'Apache-2.0', instructions });
    onTestFinished(() => {
      for (const each of [this.program, this.counters, this.clock, this.copies, limits]) each.close();
    });
  }

  run(data: Uint8Array, nowMs: number): Verdict {
    this.clock.update(new Uint8Array(4), new Uint8Array(BigUint64Array.of(BigInt(nowMs)).buffer));
    const { retval, data: after } = this.program.testRun({ data });
    const extra = after.length - data.length;
    expect(Buffer.from(after.subarray(extra)).equals(Buffer.from(data))).toBe(true);
    if (extra === 0) return { dropped: retval === DROPPED, decided: 0, words: false };
    expect([extra, retval]).toEqual([DecisionWord.BYTES, LEFT]);
    const words = new Int32Array(after.slice(0, DecisionWord.BYTES).buffer);
    expect(words[0]).toBe(this.tables.kernelNonce);
    return { dropped: false, decided: words[1], words: true };
  }

  counts(): number[] {
    return Array.from({ length: this.rules }, (_, i) =>
      sumPerCpu(this.counters.lookup(new Uint8Array(Uint32Array.of(i).buffer))!, RuleCounter.SIZE),
    ).flat();
  }
}

/** All packets that it would judge have been judged. */
const NEVER: Limiter = {
  // What is not IP has no key, and is within every limit.
  judge: ({ family }) => (family === 0 ? 0 : expect.fail('metered twice')),
};

class DataPlane {
  private readonly all = new Float64Array(CounterBlock.SIZE);
  private readonly set: RuleSet;

  constructor(
    tables: RuleTables,
    private readonly rules: number,
    plan?: Plan,
  ) {
    const [limits] = new LimiterShelf().load([tables.limits], 0, 1);
    for (const { at, stateful } of plan?.records ?? []) {
      if (stateful !== null && stateful.limit !== null) limits[plan!.rules[at + RuleField.limit]] = NEVER;
    }
    this.set = new RuleSet(
      tables,
      new ProgramShelf().load(tables.programs),
      { ...NO_PARTS, limits },
      this.all,
      new Chance(7),
    );
  }

  drops(frame: Uint8Array, nowMs: number, decided = 0): boolean {
    const packet = parsed(frame);
    if (packet.malformed !== 0) return false;
    packet.decided = decided;
    const action = this.set.match(packet, nowMs | 0);
    return action === RuleAction.drop || action === RuleAction.limit;
  }

  counts(): number[] {
    return [...this.all.slice(CounterBlock.rules, CounterBlock.rules + this.rules * RuleCounter.SIZE)];
  }
}

/** Packets of all shapes, most of them whole ones of few addresses and ports. */
function frameOf(random: Random): Uint8Array {
  if (random(3) === 0) {
    const frame = randomFrame(random);
    if (frame.length >= 14) return frame;
  }
  const builder = new PacketBuilder().ethernet();
  const at = (): number => 1 + random(4);
  if (random(3) === 0) builder.ipv6({ src: `2001:db8::${at()}`, dst: `2001:db8:1::${at()}` });
  else builder.ipv4({ src: `192.0.2.${at()}`, dst: `198.51.100.${at()}` });
  const ports = { sport: PORTS[random(PORTS.length)], dport: PORTS[random(PORTS.length)] };
  const flags = random(3) === 0 ? 2 : 16;
  return (random(2) === 0 ? builder.udp(ports) : builder.tcp({ ...ports, flags })).payload(random(900)).build();
}

function randomRule(random: Random, i: number): RuleConfig {
  const match = randomMatch(random);
  const program = { program: { kind: 'expr' as const, text: '', program: ruleProgram(random) } };
  const rates = ['2/second', '5/second', '40/minute', '2kb/s', '500b/s'];
  const per = (['src', 'dst', 'sport', 'dport'] as const).filter(() => random(3) === 0);
  // One rate for all, frames that are not IP among them, would be kept in two buckets.
  if (per.length === 0 && match.family === undefined) per.push('src');
  const limit = { rate: parseRate(rates[random(rates.length)]), per };
  const action = (['drop', 'pass', 'count', 'limit', 'limit', 'limit'] as const)[random(6)];
  return rule(i, random(4) === 0 ? { ...(random(2) ? match : { family: match.family }), ...program } : match, {
    action,
    mode: random(8) === 0 ? 'shadow' : 'enforce',
    ...(action === 'limit' && { limit }),
  });
}

describe('rules with limits, in the kernel and in what is left', () => {
  it('decide, charge and count as in the data plane alone: random rules and frames', () => {
    const random = randomSource(seed);
    const seen = { drops: 0, inKernel: 0, decided: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const rules = Array.from({ length: 1 + random(round % 7 === 0 ? 40 : 8) }, (_, i) => randomRule(random, i));
      const kernel = new Kernel(tablesOf(rules), rules.length, round % 2 === 0 ? 'direct' : 'helpers');
      const whole = new DataPlane(tablesOf(rules), rules.length);
      const rest = new DataPlane(kernel.tables, rules.length, kernel.plan);
      let now = START;
      for (let i = 0; i < FRAMES; i++) {
        if (i > 0 && random(3) === 0) now += random(150);
        const frame = frameOf(random);
        const where = `seed ${seed}, round ${round}, packet ${i}`;
        const wanted = whole.drops(frame, now);
        const { dropped, decided } = kernel.run(frame, now);
        if (dropped && !wanted) expect.fail(`the kernel drops what the rules do not: ${where}`);
        const got = dropped || rest.drops(frame, now, decided);
        if (got !== wanted) expect.fail(`the rules change their mind: ${where}`);
        seen.drops += wanted ? 1 : 0;
        seen.inKernel += dropped ? 1 : 0;
        seen.decided += decided !== 0 ? 1 : 0;
      }
      const sum = rest.counts().map((count, i) => count + kernel.counts()[i]);
      expect(sum).toEqual(whole.counts());
    }
    expect(seen.inKernel).toBeGreaterThan(seen.drops / 3);
    expect(seen.decided).toBeGreaterThan(ROUNDS * 10);
  }, 3_600_000);

  it('let a packet that is within a limit meet the rules behind, and count it', () => {
    const rules = [rule(0, { protocol: 17 }, limited('1/second', { burst: 3 })), rule(1, { dport: port(53) })];
    const kernel = new Kernel(tablesOf(rules), 2);
    const verdicts = [53, 80, 53, 80, 53].map((dport) => kernel.run(udp(dport), START));
    expect(verdicts.map(({ dropped }) => dropped)).toEqual([true, false, true, true, true]);
    expect(verdicts[1]).toEqual({ dropped: false, decided: 1, words: true });
    const bytes = udp(53).length;
    expect(kernel.counts()).toEqual([4, 4 * bytes, 2, 2 * bytes, 2, 2 * bytes, 2, 2 * bytes]);
  });

  it('draw as often as they should, once a packet, and say when they missed', () => {
    const rules = [rule(0, { protocol: 17 }, { probability: 0.25 }), rule(1, {}, { probability: 0.5 })];
    const kernel = new Kernel(tablesOf(rules), 2);
    const packets = 20_000;
    const frames = Buffer.concat(Array.from({ length: packets }, () => udp(53)));
    const ends = Uint32Array.from({ length: packets }, (_, i) => (i + 1) * udp(53).length);
    const dropped = kernel.program.runFrames(frames, ends).filter((verdict) => verdict === DROPPED).length;
    const [first, , , , second] = kernel.counts();
    expect(first + second).toBe(dropped);
    // Within five standard deviations.
    const near = (n: number, p: number) => [
      n * p - 5 * Math.sqrt(n * p * (1 - p)),
      n * p + 5 * Math.sqrt(n * p * (1 - p)),
    ];
    for (const [count, [least, most]] of [
      [first, near(packets, 0.25)],
      [second, near(packets - first, 0.5)],
    ] as const) {
      expect(count).toBeGreaterThan(least);
      expect(count).toBeLessThan(most);
    }
    for (let i = 0; i < 40; i++) {
      const { dropped, decided } = kernel.run(udp(53), START);
      expect([true, 3]).toContain(dropped || decided);
      const tcp = kernel.run(new PacketBuilder().ethernet().ipv4({}).tcp({}).build(), START);
      expect([true, 2]).toContain(tcp.dropped || tcp.decided);
    }
  });

  it('write words without a decision in front of every other packet that is left', () => {
    const kernel = new Kernel(tablesOf([rule(0, { dport: port(53) }, limited('1/second'))]), 1);
    const none = { dropped: false, decided: 0, words: true };
    expect(kernel.run(udp(80), START)).toEqual(none);
    expect(kernel.run(new Uint8Array(60), START)).toEqual(none);
  });

  it('leave packets that have metadata of the driver, where the words would not be found', () => {
    const kernel = new Kernel(tablesOf([rule(0, {}, limited('1/second', { burst: 1 }))]), 1);
    const frame = Buffer.concat([Buffer.alloc(4), udp(53)]);
    const frames = Buffer.concat([frame, frame, frame]);
    const ends = Uint32Array.from({ length: 3 }, (_, i) => (i + 1) * frame.length);
    expect([...kernel.program.runFrames(frames, ends, 4)]).toEqual([LEFT, LEFT, LEFT]);
    // Nothing was charged.
    expect(kernel.run(udp(53), START)).toMatchObject({ dropped: false, decided: 1 });
    expect(kernel.run(udp(53), START).dropped).toBe(true);
  });

  it('are 32 at most, among as many others as there is room for', () => {
    const rules = [
      ...Array.from({ length: 34 }, (_, i) => rule(i, { dport: [port(i + 1), port(1000 + i)] }, { probability: 1e-9 })),
      ...Array.from({ length: 500 }, (_, i) => rule(34 + i, { protocol: 17, dport: port(2000 + i) })),
    ];
    const kernel = new Kernel(tablesOf(rules), rules.length);
    const { decided } = kernel.run(udp(32), START);
    expect(decided).toBe(1 << 31);
    expect(kernel.run(udp(33), START).decided).toBe(0);
    expect(kernel.run(udp(2499), START).dropped).toBe(true);
    expect(kernel.plan.records.filter(({ why }) => why.startsWith('has too many')).length).toBe(4);
    expect(kernel.program.info().verified).toBeLessThan(200_000);
  });
});

describe('a limit is in the kernel only where it sees all that it has to', () => {
  const stepsOf = (...rules: RuleConfig[]): string[] =>
    planOffload(tablesOf(rules)).records.map(({ step, why }) => (why === '' ? step : why));
  const behind = 'stands behind a rule that only user space carries out';

  it.each<[string, RuleConfig, string]>([
    ['behind one that samples', rule(0, { protocol: 17 }, { mode: 'shadow', ...limited('9/s') }), behind],
    ['behind one that draws and does not drop', rule(0, {}, { action: 'count', probability: 0.5 }), behind],
    [
      'behind one that concerns other ports',
      rule(0, { dport: port(99) }, { action: 'count', probability: 0.5 }),
      'drop',
    ],
    ['behind one that concerns others', rule(0, { family: 6 }, { action: 'count', probability: 0.5 }), 'drop'],
    ['behind one that ends the search', rule(0, { src: parsePrefix('192.0.2.0/24') }, { action: 'pass' }), 'drop'],
  ])('%s', (_, before, expected) => {
    const metered = rule(1, { dport: [port(53), port(80)], family: 4 }, limited('1/second'));
    expect(stepsOf(before, metered, rule(2, {}, { probability: 0.5 })).slice(1)).toEqual([expected, expected, 'drop']);
  });

  it('and never when it has what the kernel cannot do, which is said', () => {
    expect(
      stepsOf(
        rule(0, { dport: port(1) }, { ...limited('1/second'), probability: 0.5 }),
        rule(1, { dport: port(2) }, { ...limited('1/second'), mode: 'shadow' }),
        rule(2, { dport: port(3) }, { action: 'pass', probability: 0.5 }),
        rule(3, { dport: port(4) }, { mode: 'shadow', probability: 0.5 }),
        rule(4, { dport: port(5) }, limited('1/day', { burst: 5 })),
      ),
    ).toEqual([
      'limits by chance',
      'limits in shadow mode',
      'is hit by chance and does not drop',
      'is hit by chance in shadow mode',
      'has a limit whose burst takes too long to fill',
    ]);
  });
});
