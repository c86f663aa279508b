import { PassThrough } from 'node:stream';
import { beforeEach, describe, expect, it } from 'vitest';
import { planOffload } from '../../src/control/ebpf/offload/plan.js';
import type { Front, FrontRules } from '../../src/control/ebpf/offload/front.js';
import { createLog } from '../../src/control/log.js';
import type { OffloadTables } from '../../src/control/manager/offload_limits.js';
import { RuleOffload, type OffloadInterface } from '../../src/control/manager/rule_offload.js';
import { CounterBook } from '../../src/control/metrics/book.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import type { CaptureSpec } from '../../src/shared/capture_spec.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, RuleCounter } from '../../src/shared/layout.js';
import { NO_MITIGATION_TABLES } from '../../src/shared/mitigation_layout.js';

const drop = (i: number, more: Partial<RuleConfig> = {}): RuleConfig => ({
  name: String(i),
  match: { dport: [{ first: i, last: i }] },
  action: 'drop',
  mode: 'enforce',
  probability: 1,
  ...more,
});

/** Stands for an interface; takes rules unless told otherwise. */
class Target implements OffloadInterface {
  attached = true;
  rules: FrontRules | null = null;
  refusal: Error | null = null;
  changes = 0;
  counts = [0, 0, 0, 0];

  constructor(readonly name: string) {}

  setRules(rules: FrontRules | null): Front | null {
    const front = rules && this.tryRules(rules);
    this.rules = rules;
    this.changes++;
    return front;
  }

  tryRules({ tables, captured }: FrontRules): Front {
    if (this.refusal) throw this.refusal;
    return { plan: planOffload(tables, captured), written: [], cut: new Set(), program: null as never };
  }

  ruleCounts(): number[] {
    return this.counts;
  }
}

let interfaces: Target[];
let captures: CaptureSpec[];
let logged: string;
let offload: RuleOffload;
const shelf = new RuleShelf();

beforeEach(() => {
  interfaces = [new Target('in0'), new Target('out0')];
  captures = [];
  logged = '';
  const stream = new PassThrough();
  stream.on('data', (chunk) => (logged += String(chunk)));
  const log = createLog({ level: 'info', format: 'json', stream });
  offload = new RuleOffload({ interfaces, captures: () => captures, log });
});

function tables(...rules: RuleConfig[]): OffloadTables {
  return {
    ...shelf.build(rules, (name) => Number(name)),
    filters: [{ kind: 'rules' }],
    mitigation: NO_MITIGATION_TABLES,
    setDrops: [],
    setClock: new SharedArrayBuffer(8),
    setAllows: [],
    settings: { decapsulate: { addresses: [] } } as unknown as OffloadTables['settings'],
  };
}

const inKernel = (): boolean[] => interfaces.map(({ rules }) => rules !== null);
const said = (text: string): number => logged.split('\n').filter((line) => line.includes(text)).length;

describe('rules in the kernel', () => {
  it('are changed when the rules do, and not with every generation', () => {
    const first = tables(drop(1));
    offload.use(first, 'auto');
    offload.use({ ...first }, 'auto');
    expect([inKernel(), interfaces[0].changes]).toEqual([[true, true], 1]);
    expect(offload.status).toEqual({ mode: 'auto', active: true, why: '' });
    offload.use(tables(drop(1), drop(2)), 'auto');
    expect([interfaces[0].changes, offload.placement(2)]).toEqual([2, { runs: 'kernel', why: '' }]);
    offload.attached();
    expect(interfaces[0].changes).toBe(3);
    offload.use(tables(drop(1, { probability: 0.5 })), 'auto');
    expect([inKernel(), offload.placement(1)]).toEqual([
      [false, false],
      { runs: 'user space', why: 'is hit by chance' },
    ]);
    offload.use(first, 'off');
    expect(offload.placement(1)).toEqual({ runs: 'user space', why: 'offload is off' });
  });

  it('are in user space on all interfaces when the kernel refuses them on one, which is said once', () => {
    interfaces[1].refusal = Object.assign(new Error('Invalid argument\nverifier: …'), { code: 'EINVAL' });
    const refused = tables(drop(1));
    offload.use(refused, 'auto');
    offload.use({ ...refused }, 'auto');
    expect(inKernel()).toEqual([false, false]);
    expect(offload.status).toMatchObject({
      active: false,
      why: expect.stringMatching('the kernel does not take them') as string,
    });
    expect(offload.placement(1).runs).toBe('user space');
    expect(said('the kernel does not take the rules')).toBe(1);
    interfaces[1].refusal = null;
    offload.use(tables(drop(1), drop(3)), 'auto');
    expect([inKernel(), offload.placement(1).runs]).toEqual([[true, true], 'kernel']);
  });

  it('are refused with `require` when the kernel refuses them, or one cannot be there', () => {
    const name = (rule: number): string => `r${rule}`;
    offload.check(tables(drop(1)), 'require', name);
    offload.check(tables(drop(1), drop(2, { probability: 0.5 })), 'auto', name);
    expect(() => offload.check(tables(drop(1), drop(2, { probability: 0.5 })), 'require', name)).toThrow(
      'rule r2 cannot run in the kernel, which offload: require asks for: it is hit by chance',
    );
    // What does not drop, or only would, may be anywhere.
    const others = [drop(2, { action: 'pass' }), drop(3, { probability: 0.5, mode: 'shadow' })];
    offload.check(tables(drop(1), ...others), 'require', name);
    interfaces[0].refusal = new Error('Permission denied');
    expect(() => offload.check(tables(drop(1)), 'require', name)).toThrow(/rule r1 .*does not take.*Permission denied/);
    offload.check(tables(others[0]), 'require', name);
  });

  it('leave room for captures, and come back', () => {
    offload.use(tables(drop(1), drop(2)), 'auto');
    captures = [{ verdicts: 0, reasons: [], rules: [1] } as unknown as CaptureSpec];
    offload.capturesChanged();
    expect([offload.placement(1).why, offload.placement(2).runs]).toEqual(['is captured', 'kernel']);
    captures = [{ verdicts: 0, reasons: [], rules: null } as unknown as CaptureSpec];
    offload.capturesChanged();
    expect([inKernel(), offload.placement(2).why]).toEqual([[false, false], 'a capture asks for dropped packets']);
    captures = [];
    offload.capturesChanged();
    expect([inKernel(), offload.placement(1)]).toEqual([[true, true], { runs: 'kernel', why: '' }]);
  });

  it('count as one more worker, also when a number gets another name', async () => {
    const book = new CounterBook();
    book.inKernel = (rule, counter) => offload.count(rule, counter);
    const numbering = (name: string) => ({ services: [], filters: [], rules: [{ name, id: 5 }] });
    book.assign(numbering('old'));
    new Float64Array(book.worker(0).block)[CounterBlock.rules + 5 * RuleCounter.SIZE] = 7;
    interfaces[0].counts = [10, 1000, 10, 1000];
    interfaces[1].counts = [5, 500, 5, 500];
    expect([book.rule('old', RuleCounter.packets), book.rule('old', RuleCounter.actedBytes)]).toEqual([22, 1500]);
    expect(book.kernelRule('old', RuleCounter.packets)).toBe(15);
    book.assign(numbering('new'));
    interfaces[1].counts = [6, 600, 6, 600];
    await expect.poll(() => book.rule('new', RuleCounter.bytes), { interval: 5 }).toBe(100);
    expect([book.rule('new', RuleCounter.packets), book.rule('old', RuleCounter.packets)]).toEqual([1, 22]);
    expect([book.kernelRule('new', RuleCounter.acted), book.kernelRule('old', RuleCounter.acted)]).toEqual([1, 15]);
  });
});
