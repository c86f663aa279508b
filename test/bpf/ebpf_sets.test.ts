/** Sets in the kernel against the data plane's: random sets, rules and frames; verdicts, and counters of rules, sets and entries. */
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Access } from '../../src/control/ebpf/from_cbpf.js';
import { SetSides } from '../../src/shared/sets/index.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { randomSource, type Random } from '../support/cbpf_programs.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { KernelChain, UserChain, NOW } from '../support/kernel_chain.js';
import { randomFrame, randomMatch, ruleProgram } from '../support/rule_packets.js';
import { randomSet, TYPES } from '../support/random_sets.js';

const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 60);
const FRAMES = 150;
const seed = Number(process.env.SEED ?? 20261121);
const CHECKS = { checks: ['ipv4-checksum', 'source', 'land', 'tcp-flags'], protocols: null };

function frames(random: Random, count: number): Uint8Array[] {
  return Array.from({ length: count }, () => {
    const frame = randomFrame(random);
    const padded = new Uint8Array(Math.max(14, frame.length));
    padded.set(frame);
    return padded;
  });
}

/** Runs both over the frames, and compares what they did with each, and what they counted. */
async function compare(chain: UserChain, all: readonly Uint8Array[], access: Access) {
  const kernel = await KernelChain.load(chain, access);
  try {
    const dropped = kernel.run(all);
    let [drops, offloaded] = [0, 0];
    all.forEach((frame, i) => {
      const where = `seed ${seed}, ${access}: ${Buffer.from(frame).toString('hex')}`;
      const wanted = chain.whole.run(frame);
      if (wanted !== 0) drops++;
      if (dropped[i]) {
        offloaded++;
        if (wanted === 0) expect.fail(`the kernel drops what the chain does not: ${where}`);
      } else if (chain.rest.run(frame) !== wanted) expect.fail(`the chain changes its mind: ${where}`);
    });
    const [whole, rest] = [chain.whole.counts(), chain.rest.counts()];
    const sum = kernel.counts().map((value, i) => value + rest[i]);
    expect(sum).toEqual(whole);
    return { drops, offloaded, matches: chain.matches() };
  } finally {
    await kernel.close();
  }
}

describe('sets in the kernel', () => {
  it('find what the data plane finds: each type by each side, both families, with exceptions and times', async () => {
    const random = randomSource(seed);
    const found = new Map<string, number>();
    let [pairs, offloaded] = [0, 0];
    for (let round = 0; round < ROUNDS / 3; round++) {
      for (const type of TYPES) {
        const sides = (round % 4) as SetSides;
        const chain = new UserChain({ sets: [randomSet(random, type, 'one')], drops: [{ set: 0, sides }] });
        const result = await compare(chain, frames(random, FRAMES), random(2) === 0 ? 'helpers' : 'direct');
        found.set(`${type} ${sides}`, (found.get(`${type} ${sides}`) ?? 0) + result.drops);
        pairs += FRAMES;
        offloaded += result.offloaded;
      }
    }
    expect(pairs).toBeGreaterThan(10_000);
    expect(offloaded).toBeGreaterThan(pairs / 20);
    // Every type was asked by every side, and had what it was asked for.
    expect([...found].filter(([, drops]) => drops < 5)).toEqual([]);
    expect(found.size).toBe(16);
  });

  it('decide and count with the allow list, checks and rules around them as the chain does', async () => {
    const random = randomSource(seed + 1);
    let [drops, offloaded, matches] = [0, 0, 0];
    for (let round = 0; round < ROUNDS; round++) {
      const sets = Array.from({ length: 1 + random(4) }, (_, i) => randomSet(random, TYPES[random(4)], `s${i}`));
      const some = () => Array.from({ length: random(3) }, () => random(sets.length));
      const rules = Array.from({ length: random(9) }, (_, i) => randomRule(random, i, sets.length));
      const chain = new UserChain({
        sets,
        rules,
        sanity: random(2) === 0 ? CHECKS : null,
        allow: random(3) === 0 ? ['192.0.2.0/25', '2001:db8::/48'] : [],
        allowSets: random(4) === 0 ? [random(sets.length)] : [],
        drops: some().map((set) => ({ set, sides: random(4) })),
      });
      const result = await compare(chain, frames(random, FRAMES), random(2) === 0 ? 'helpers' : 'direct');
      drops += result.drops;
      offloaded += result.offloaded;
      matches += result.matches;
    }
    expect(drops).toBeGreaterThan(ROUNDS * 20);
    expect(offloaded).toBeGreaterThan(drops / 3);
    expect(matches).toBeGreaterThan(ROUNDS * 20);
  });

  it('end with the second, and go along with every change', async () => {
    const udp = (src: string) =>
      new PacketBuilder().ethernet().ipv4({ src, dst: '203.0.113.1' }).udp({ sport: 9, dport: 53 }).payload(9).build();
    const set = randomSet(randomSource(1), 'hash:net', 'bad', { entries: 0, timeout: true, counters: true });
    const chain = new UserChain({ sets: [set], drops: [{ set: 0, sides: SetSides.source }] });
    const kernel = await KernelChain.load(chain, 'helpers');
    onTestFinished(() => kernel.close());
    const drops = (...sources: string[]) => kernel.run(sources.map(udp)).map(Number).join('');
    set.add('10.0.0.0/8', { timeout: 0 });
    set.add('10.1.0.0/16', { timeout: 0, nomatch: true });
    set.add('10.1.1.1', { timeout: 5 });
    kernel.settle();
    expect(drops('10.0.0.1', '10.1.0.1', '10.1.1.1', '11.0.0.1')).toBe('1010');
    // An entry lives to the end of its second, in the kernel without anybody's doing; then user space has to say what is behind it.
    set.add('9.9.9.9', { timeout: 5 });
    kernel.settle();
    kernel.at(NOW + 5.9);
    expect(drops('9.9.9.9', '10.1.1.1')).toBe('11');
    kernel.at(NOW + 6.01);
    expect(drops('9.9.9.9', '10.1.1.1')).toBe('00');
    kernel.at(NOW);
    set.del('10.1.0.0/16');
    set.add('11.0.0.0/24', { timeout: 0 });
    kernel.settle();
    expect(drops('10.0.0.1', '10.1.0.1', '11.0.0.1')).toBe('111');
    const counted = (text: string) => [...set.list()].find((entry) => entry.text === text)?.counters?.packets;
    expect([counted('10.0.0.0/8'), counted('11.0.0.0/24')]).toEqual([3, 1]);
    set.add('11.0.0.0/24', { timeout: 0 }, true);
    kernel.settle();
    expect(counted('11.0.0.0/24')).toBe(0);
    set.flush();
    kernel.reload();
    expect(drops('10.0.0.1', '11.0.0.1')).toBe('00');
    set.add('11.0.0.1', { timeout: 0 });
    kernel.settle();
    expect(drops('11.0.0.1')).toBe('1');
  });

  it('keep what the kernel has counted of an entry when they leave it', async () => {
    const udp = new PacketBuilder()
      .ethernet()
      .ipv6({ src: '2001:db8::1', dst: '::5' })
      .udp({ sport: 9, dport: 53 })
      .build();
    const set = randomSet(randomSource(2), 'hash:ip,port', 'bad', { entries: 0, timeout: false, counters: true });
    set.add('2001:db8::1,udp:53');
    const chain = new UserChain({ sets: [set], drops: [{ set: 0, sides: SetSides.portDestination }] });
    const kernel = await KernelChain.load(chain, 'helpers');
    expect(kernel.run([udp, udp])).toEqual([true, true]);
    const counters = { packets: 2, bytes: 2 * (udp.length - 14) };
    expect([...set.list()][0].counters).toEqual(counters);
    await kernel.close();
    expect([...set.list()][0].counters).toEqual(counters);
  });
});

function randomRule(random: Random, i: number, sets: number): RuleConfig {
  const program = random(3) === 0 ? { kind: 'expr' as const, text: '', program: ruleProgram(random) } : undefined;
  const asked = Array.from({ length: random(3) }, () => ({
    name: `s${random(sets)}`,
    key: (['src', 'dst', 'src,dst', 'dst,src'] as const)[random(4)],
  }));
  return {
    name: String(i),
    match: { ...(random(3) === 0 ? randomMatch(random) : {}), ...(program && { program }), sets: asked },
    action: (['drop', 'drop', 'drop', 'pass', 'count', 'count'] as const)[random(6)],
    mode: random(5) === 0 ? 'shadow' : 'enforce',
    probability: 1,
  } as RuleConfig;
}
