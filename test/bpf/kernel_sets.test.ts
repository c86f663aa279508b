/** Which sets go into the kernel, when they leave it, and what happens when it has no room for them. */
import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Front, FrontRules } from '../../src/control/ebpf/offload/front.js';
import { writeKey } from '../../src/control/ebpf/offload/set_maps.js';
import { planOffload } from '../../src/control/ebpf/offload/plan.js';
import { createLog } from '../../src/control/log.js';
import type { OffloadTables } from '../../src/control/manager/offload_limits.js';
import { RuleOffload, type OffloadInterface } from '../../src/control/manager/rule_offload.js';
import { KernelSetStore } from '../../src/control/manager/kernel_sets.js';
import type { SetMirror } from '../../src/control/manager/set_mirror.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { IpSet } from '../../src/control/sets/index.js';
import { native, type BpfMap } from '../../src/native.js';
import { parsePrefix } from '../../src/shared/addr.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { NO_MITIGATION_TABLES } from '../../src/shared/mitigation_layout.js';
import { SetSides, type SetTable } from '../../src/shared/sets/index.js';

const COPIED = 'is still being copied into the kernel';

const inSet = (name: string, set: string, action: RuleConfig['action'] = 'drop'): RuleConfig => ({
  name,
  match: { sets: [{ name: set, key: 'src' }] },
  action,
  mode: 'enforce',
  probability: 1,
});
const port = (name: string, n: number): RuleConfig => ({ ...inSet(name, ''), match: { dport: { first: n, last: n } } });

class Target implements OffloadInterface {
  attached = true;
  rules: FrontRules | null = null;
  changes = 0;
  readonly name = 'in0';

  setRules(rules: FrontRules | null): Front | null {
    this.changes++;
    this.rules = rules;
    return rules && this.tryRules(rules);
  }
  tryRules({ tables, captured, sets }: FrontRules): Front {
    return { plan: planOffload(tables, captured, sets), written: [], cut: new Set(), program: null as never };
  }
  ruleCounts(): number[] {
    return [0, 0, 0, 0];
  }
}

/** Sets by name, and a daemon's offload around them. */
class World {
  readonly target = new Target();
  readonly sets = new Map<string, IpSet>();
  logged = '';
  readonly offload: RuleOffload;
  private readonly shelf = new RuleShelf();

  constructor(...names: string[]) {
    for (const name of names) this.fresh(name);
    const stream = new PassThrough();
    stream.on('data', (chunk) => (this.logged += String(chunk)));
    const log = createLog({ level: 'info', format: 'json', stream });
    this.offload = new RuleOffload({ interfaces: [this.target], captures: () => [], log });
  }

  fresh(name: string): IpSet {
    const set = new IpSet({ name, type: 'hash:net' }, { seconds: () => 0 });
    this.sets.set(name, set);
    return set;
  }

  tables(rules: readonly RuleConfig[], drops: readonly string[] = []): OffloadTables {
    const names = [...this.sets.keys()];
    const sets = [...this.sets.values()].map((set): SetTable => ({
      name: set.options.name,
      buffers: set.buffers,
      counters: [null],
      matches: [],
    }));
    return {
      ...this.shelf.build(rules, (name) => Number(name), {
        sets,
        set: ({ name }) => ({ index: names.indexOf(name), key: SetSides.source }),
      }),
      kernelNonce: 0,
      filters: [{ kind: 'rules' }],
      mitigation: NO_MITIGATION_TABLES,
      setDrops: drops.map((name) => ({ set: names.indexOf(name), sides: SetSides.source })),
      setAllows: [],
      setClock: new SharedArrayBuffer(8),
      settings: { decapsulate: { addresses: [] } } as unknown as OffloadTables['settings'],
    };
  }

  async use(tables: OffloadTables, mode: 'auto' | 'off' = 'auto'): Promise<void> {
    await this.offload.prepare(tables, mode, this.sets);
    this.offload.use(tables, mode);
  }

  said(text: string): number {
    return this.logged.split('\n').filter((line) => line.includes(text)).length;
  }
}

let world: World;
afterEach(() => {
  vi.restoreAllMocks();
  world.offload.close();
});

describe('sets in the kernel', () => {
  it('are those that are asked there, as long as they are', async () => {
    world = new World('rule', 'stage', 'later', 'idle');
    const [rule, stage, later, idle] = [...world.sets.values()];
    const there = () => [rule, stage, later, idle].map(({ observer }) => observer !== null);
    const tables = world.tables([inSet('0', 'rule'), inSet('1', 'later', 'count')], ['stage']);
    await world.use(tables);
    expect(there()).toEqual([true, true, false, false]);
    expect(world.target.rules?.sets?.drops).toHaveLength(1);
    expect([world.offload.placement(0), world.offload.setPlacement('idle')]).toEqual([
      { runs: 'kernel', why: '' },
      null,
    ]);
    expect(world.offload.placement(1).why).toBe('matches a set that no drop in the kernel needs');
    // Changes of what is in them change no program.
    const { changes } = world.target;
    rule.add('192.0.2.0/24');
    await world.use(tables);
    expect(world.target.changes).toBe(changes);
    rule.flush();
    await Promise.resolve();
    expect(world.target.changes).toBe(changes + 1);
    // Another set of the same name takes its place with one program.
    const other = world.fresh('rule');
    await world.use(world.tables([inSet('0', 'rule')], ['stage']));
    expect([world.target.changes, other.observer !== null]).toEqual([changes + 2, true]);
    await expect.poll(() => rule.observer).toBeNull();
    await world.use(world.tables([]), 'off');
    await expect.poll(() => [other.observer, stage.observer]).toEqual([null, null]);
  });

  it('leave their rules to the workers when the kernel does not take an entry, at once, with one line of the log', async () => {
    world = new World('bad');
    const create = native().createMap.bind(native());
    const maps: BpfMap[] = [];
    vi.spyOn(native(), 'createMap').mockImplementation((options) => {
      const map = create(options);
      maps.push(map);
      return map;
    });
    const rules = [inSet('0', 'bad'), port('1', 53)];
    const tables = world.tables(rules);
    await world.use(tables);
    expect(world.offload.placement(0).runs).toBe('kernel');
    const refusal = Object.assign(new Error('no room'), { code: 'ENOMEM' });
    for (const map of maps) Object.assign(map, { updateBatch: () => { throw refusal; } }); // prettier-ignore
    const set = world.sets.get('bad')!;
    set.add('192.0.2.1');
    set.add('192.0.2.2');
    await Promise.resolve();
    const why = 'matches a set that does not fit into the kernel (ENOMEM)';
    expect(world.offload.placement(0)).toEqual({ runs: 'user space', why });
    expect(world.offload.placement(1)).toEqual({ runs: 'kernel', why: '' });
    expect(world.offload.setPlacement('bad')).toBe('it does not fit into the kernel (ENOMEM)');
    expect(world.said('a set is not in the kernel')).toBe(1);
    await world.use(world.tables(rules));
    expect([world.offload.placement(0).why, world.said('a set is not in the kernel')]).toEqual([why, 1]);
    // As a stage before the rules it keeps all of them out.
    await world.use(world.tables(rules, ['bad']));
    expect(world.offload.status).toMatchObject({
      active: false,
      why: 'the set bad, which does not fit into the kernel (ENOMEM), stands before the rules',
    });
    expect(world.target.rules).toBeNull();
  });

  it('are waited for, but not long: until then, and while another copy is made, the workers have what they concern', async () => {
    world = new World('large');
    const set = world.sets.get('large')!;
    const done = set.startBulk();
    for (let i = 0; i < 30_000; i++) set.add(`10.${i >> 13}.${(i >> 5) & 255}.${(i << 3) & 255}/29`, {}, true);
    done();
    const changed = vi.fn();
    const store = new KernelSetStore({
      log: createLog({ level: 'error', format: 'json', stream: new PassThrough() }),
      changed,
    });
    const tables = world.tables([inSet('0', 'large')]);
    await store.prepare(tables, world.sets, 0);
    expect(store.whyNot(tables, 'large')).toBe('is still being copied into the kernel');
    expect([store.access(tables).sets!.sets[0], store.access(tables).hindrance]).toEqual([COPIED, '']);
    const stage = world.tables([], ['large']);
    await store.prepare(stage, world.sets, 0);
    expect(store.access(stage).hindrance).toBe(`the set large, which ${COPIED}, stands before the rules`);
    // What changes meanwhile is there in the end.
    set.del('10.0.0.0/29');
    set.del('10.3.168.248/29', true);
    set.add('192.0.2.0/24');
    await expect.poll(() => changed.mock.calls.length).toBeGreaterThan(0);
    expect(store.whyNot(stage, 'large')).toBe('');
    const mirror = set.observer as SetMirror;
    const has = (text: string, length: number) => {
      const { words } = parsePrefix(`${text}/${length}`);
      const key = new DataView(new ArrayBuffer(8));
      writeKey(key, 0, 'hash:net', 4, words, length << 24);
      return (
        (mirror as unknown as { parts: { map: BpfMap }[] }).parts[0].map.lookup(new Uint8Array(key.buffer)) !== null
      );
    };
    expect([has('10.0.0.0', 29), has('10.0.0.8', 29), has('10.1.2.0', 29), has('192.0.2.0', 24)]).toEqual([
      ...[false, true, true, true],
    ]);
    store.close();
    expect(set.observer).toBeNull();
  });

  it('are tried only up to the number that a program has room for', async () => {
    const names = Array.from({ length: 18 }, (_, i) => `s${i}`);
    world = new World(...names);
    const tables = world.tables(names.map((name, i) => inSet(String(i), name)));
    await world.use(tables);
    const placed = names.map((_, i) => world.offload.placement(i));
    expect(placed.filter(({ runs }) => runs === 'kernel')).toHaveLength(16);
    expect(placed[17].why).toBe('is behind 16 other look-ups in sets');
    await world.use(world.tables([], names));
    expect(world.offload.status.why).toBe('too many sets stand before the rules');
  });
});

describe('many entries with one call', () => {
  it('go in and out in order, and say what is wrong', () => {
    world = new World();
    const map = native().createMap({ type: 1, name: 'many', keySize: 4, valueSize: 8, maxEntries: 3, flags: 1 });
    const keys = (...numbers: number[]) => new Uint8Array(Uint32Array.from(numbers).buffer);
    const values = (...numbers: number[]) => new Uint8Array(BigUint64Array.from(numbers, BigInt).buffer);
    map.updateBatch(keys(1, 2, 1), values(5, 6, 7));
    expect([map.lookup(keys(1)), map.lookup(keys(2)), map.keys().length]).toEqual([values(7), values(6), 2]);
    expect(() => map.updateBatch(keys(3, 4), values(1, 2))).toThrow(/E2BIG/);
    expect(map.lookup(keys(3))).toEqual(values(1));
    expect(map.deleteBatch(keys(9, 1, 8, 3, 7))).toBe(2);
    expect(map.keys()).toEqual([keys(2)]);
    map.updateBatch(keys(), values());
    expect(map.deleteBatch(keys())).toBe(0);
    expect(() => map.updateBatch(keys(1), values())).toThrow(RangeError);
    expect(() => map.deleteBatch(new Uint8Array(5))).toThrow(RangeError);
    map.close();
    expect(() => map.deleteBatch(keys(1))).toThrow(/closed/);
  });
});
