/** What the bench of filters measures on: packets that end where their case says, in both languages by the same tables. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { filterCases, type FilterCase } from '../../bench/path/filter_cases.js';
import { filterFrames, readFilters, writeFilterFixture } from '../../bench/path/filter_fixture.js';
import { bytesToCompare, filtersDidAsMeant, type FilterTrial } from '../../bench/path/filter_run.js';
import { FRAME_BYTES, readFixture } from '../../bench/path/fixture.js';
import { buildChain } from '../../src/dataplane/filter/build.js';
import { FilterVerdict } from '../../src/dataplane/filter/contract.js';
import { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { CounterBlock } from '../../src/shared/layout.js';
import { internetChecksum } from '../support/packet_builder.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-filters-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const small = filterCases('smoke').map((bench): FilterCase => ({ ...bench, flows: 2048, flowSlots: 4096 }));

const REASONS: Record<FilterCase['ends'], DropReason> = {
  parser: DropReason.none,
  rule: DropReason.rule,
  set: DropReason.set,
  balancer: DropReason.none,
};

describe('the cases of the filter bench', () => {
  it('are the parser, four numbers of rules, two sizes of sets and all of it, each with two numbers of flows', () => {
    const full = filterCases('full');
    expect(full).toHaveLength(16);
    expect(new Set(full.map(({ name }) => name)).size).toBe(16);
    expect(full.map(({ rules }) => rules)).toEqual([
      ...[0, 1, 10, 100, 1000, 0, 0, 100],
      ...[0, 1, 10, 100, 1000, 0, 0, 100],
    ]);
    expect(new Set(full.map(({ flows }) => flows))).toEqual(new Set([4096, 1_000_000]));
    expect(filterCases('quick').every((bench) => full.some(({ name }) => name === bench.name))).toBe(true);
  });

  it.each(small.map((bench) => [bench.name, bench] as const))('%s: every packet ends where it says', (_, bench) => {
    const path = join(directory, 'case');
    writeFilterFixture(path, bench);
    const fixture = readFixture(readFileSync(path));
    expect(Buffer.concat(fixture.frames).equals(filterFrames(bench))).toBe(true);
    const { whole, tables, matches } = readFilters(path);
    expect(whole).toBe(bench.ends !== 'parser');
    const chain = buildChain(tables, new Float64Array(CounterBlock.SIZE), { worker: 0, nowMs: () => 1000 });
    const bytes = filterFrames(bench);
    const packet = new Packet(new DataView(bytes.buffer), 2048);
    const sources = new Set<number>();
    for (let n = 0; n < bench.flows; n++) {
      packet.place(n * FRAME_BYTES, FRAME_BYTES);
      expect(parse(packet)).toBe(DropReason.none);
      expect(internetChecksum(bytes.subarray(packet.l3, packet.l4))).toBe(0);
      sources.add(packet.src0);
      const said = chain.run(packet, 1000);
      expect(said).toBe(REASONS[bench.ends] === DropReason.none ? FilterVerdict.Continue : FilterVerdict.Drop);
      if (said === FilterVerdict.Drop) expect(chain.reason).toBe(REASONS[bench.ends]);
    }
    expect(matches[0]).toBe(bench.ends === 'set' ? bench.flows : 0);
    expect(sources.size).toBe(bench.ends === 'set' ? Math.ceil(2048 / 3) : 2048);
  });

  it('are compared by a verdict a packet, and by the bytes of those that leave', () => {
    const [parser] = small;
    expect(bytesToCompare(parser)).toBe(2 * 2048 + 4);
    expect(bytesToCompare(small.at(-1)!)).toBe(2 * 2048 * 85 + 4);
  });

  it('count only when all their packets ended there', () => {
    const done: FilterTrial = { ns: 10, packets: 100, dropped: 100, sent: 0, byRules: 0, bySet: 0, hits: 0 };
    const by = (ends: FilterCase['ends'], trial: Partial<FilterTrial>): boolean =>
      filtersDidAsMeant({ ...done, ...trial }, { ...small[0], flows: 64, ends });
    expect([by('parser', {}), by('rule', { byRules: 100 }), by('set', { bySet: 100 })]).toEqual([true, true, true]);
    expect(by('balancer', { dropped: 0, sent: 100, hits: 36 })).toBe(true);
    expect([by('rule', { byRules: 99 }), by('set', { bySet: 99 }), by('parser', { dropped: 99 })]).toEqual([
      false,
      false,
      false,
    ]);
    expect([
      by('balancer', { dropped: 1, sent: 99, hits: 36 }),
      by('balancer', { dropped: 0, sent: 100, hits: 30 }),
    ]).toEqual([false, false]);
    expect([by('parser', { ns: 0 }), by('parser', { packets: 0, dropped: 0 })]).toEqual([false, false]);
  });
});
