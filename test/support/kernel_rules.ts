/** Rules as the kernel's program and as the data plane carry them out, over the same frames. */
import { expect } from 'vitest';
import { Assembler, encode } from '../../src/control/ebpf/assembler.js';
import type { Access } from '../../src/control/ebpf/from_cbpf.js';
import { Alu, Reg } from '../../src/control/ebpf/instruction.js';
import { Copy } from '../../src/control/ebpf/offload/kinds.js';
import { planOffload } from '../../src/control/ebpf/offload/plan.js';
import { COUNTER_BYTES, emitRules } from '../../src/control/ebpf/offload/rules_program.js';
import type { SanityBefore } from '../../src/control/ebpf/offload/sanity.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import { SanityFilter } from '../../src/dataplane/filter/sanity.js';
import { native, type BpfMap } from '../../src/native.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, RuleAction, RuleCounter } from '../../src/shared/layout.js';
import { parsed } from './packets.js';

const PERCPU_ARRAY = 6;
export const [DROPPED, LEFT] = [1, 2];

export const CHECKS = ['ipv4-checksum', 'ping-of-death', 'land', 'tcp-flags', 'source', 'port-zero', 'tiny-fragment'];
export const ALL: SanityBefore = { checks: [...CHECKS, 'ipv4-options'], protocols: null };

export interface Kernel {
  /** DROPPED or LEFT for each frame. */
  verdicts: Int32Array;
  /** As CounterBlock.rules has them. */
  counters: Float64Array;
  written: number[];
  verified: number;
}

export function inKernel(
  rules: readonly RuleConfig[],
  frames: readonly Uint8Array[],
  sanity: SanityBefore | null,
  access: Access,
): Kernel {
  const tables = new RuleShelf().build(rules, (name) => Number(name));
  const name = 'test_rules';
  const sizes = { keySize: 4, valueSize: COUNTER_BYTES, maxEntries: rules.length };
  const map = native().createMap({ type: PERCPU_ARRAY, name, ...sizes });
  const copies = native().createMap({ type: PERCPU_ARRAY, name, keySize: 4, valueSize: Copy.SIZE, maxEntries: 1 });
  const asm = new Assembler();
  const leave = (action: number): void => {
    asm.alu32(Alu.MOV, Reg.r0, action);
    asm.exit();
  };
  const [dropped, left] = [() => leave(DROPPED), () => leave(LEFT)];
  const written = emitRules(asm, planOffload(tables), {
    access,
    counters: map.fd,
    copies: copies.fd,
    vips: null,
    sanity,
    dropped,
    left,
  });
  const instructions = encode(asm.instructions());
  const program = native().loadProgram({ type: 'xdp', name, license: 'Apache-2.0', instructions });
  const { verified } = program.info();
  let end = 0;
  const ends = Uint32Array.from(frames, ({ length }) => (end += length));
  const verdicts = program.runFrames(Buffer.concat(frames), ends);
  const counters = countersOf(map, rules.length);
  program.close();
  map.close();
  copies.close();
  return { verdicts, counters, written, verified };
}

/** Summed over the CPUs. */
function countersOf(map: BpfMap, rules: number): Float64Array {
  const counters = new Float64Array(rules * RuleCounter.SIZE);
  for (let rule = 0; rule < rules; rule++) {
    const value = map.lookup(new Uint8Array(Uint32Array.of(rule).buffer))!;
    new BigUint64Array(value.buffer, value.byteOffset, value.length / 8).forEach((n, i) => {
      counters[rule * RuleCounter.SIZE + (i % RuleCounter.SIZE)] += Number(n);
    });
  }
  return counters;
}

/** The data plane: sanity checks, then rules. A frame that it cannot parse it does not show to the rules. */
function dataPlane(rules: readonly RuleConfig[], sanity: SanityBefore | null) {
  const tables = new RuleShelf().build(rules, (name) => Number(name));
  const all = new Float64Array(CounterBlock.SIZE);
  const set = new RuleSet(tables, new ProgramShelf().load(tables.programs), NO_PARTS, all, new Chance(7));
  const filter = sanity && new SanityFilter(sanity.checks, sanity.protocols);
  return {
    /** Whether a rule drops the frame. */
    drops(frame: Uint8Array): boolean {
      const packet = parsed(frame);
      if (packet.malformed !== 0 || (filter !== null && filter.check(packet) !== 0)) return false;
      return set.match(packet, 0) === RuleAction.drop;
    },
    counters: () => all.slice(CounterBlock.rules, CounterBlock.rules + rules.length * RuleCounter.SIZE),
  };
}

/** Both ways: all in user space; and what the kernel leaves in user space. Returns drops of either. `seed` is for messages. */
export function compare(
  rules: readonly RuleConfig[],
  frames: readonly Uint8Array[],
  sanity: SanityBefore | null,
  access: Access,
  seed = 0,
) {
  const kernel = inKernel(rules, frames, sanity, access);
  const [whole, rest] = [dataPlane(rules, sanity), dataPlane(rules, sanity)];
  let [drops, offloaded] = [0, 0];
  frames.forEach((frame, i) => {
    const where = `seed ${seed}, ${access}: ${Buffer.from(frame).toString('hex')}`;
    const wanted = whole.drops(frame);
    if (wanted) drops++;
    if (kernel.verdicts[i] === DROPPED) {
      offloaded++;
      if (!wanted) expect.fail(`the kernel drops what the rules do not: ${where}`);
    } else {
      expect(kernel.verdicts[i]).toBe(LEFT);
      if (rest.drops(frame) !== wanted) expect.fail(`the rules change their mind: ${where}`);
    }
  });
  const sum = rest.counters().map((value, i) => value + kernel.counters[i]);
  expect([...sum]).toEqual([...whole.counters()]);
  return { drops, offloaded, kernel };
}
