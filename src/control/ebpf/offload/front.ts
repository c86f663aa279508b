import { native, type BpfMap, type BpfProgram } from '../../../native.js';
import { RuleCounter } from '../../../shared/layout.js';
import { encodeU32, REDIRECT_STATS, sumPerCpu } from '../../bpf_layout.js';
import { Assembler, encode, Label } from '../assembler.js';
import { Stack, type Access } from '../from_cbpf.js';
import { Alu, Helper, Jump, Reg, Size } from '../instruction.js';
import { MapType } from '../map_type.js';
import type { SanityBefore } from './sanity.js';
import { Copy } from './kinds.js';
import type { LimitSource } from './limit_maps.js';
import { planOffload, type Plan, type PlannedTables } from './plan.js';
import { COUNTER_BYTES, emitRules, SET_DROPS } from './rules_program.js';
import type { KernelSets } from './set_maps.js';

/** enum xdp_action. */
const XDP_DROP = 1;
const XDP_PASS = 2;

/** The loaded redirect program, of bpf/redirect.bpf.c, and its maps. */
export interface Behind {
  /** Descriptor of the program. */
  readonly program: number;
  readonly stats: BpfMap;
  /** vip_map; null: all traffic is for user space (MATCH_TRAFFIC). */
  readonly vips: BpfMap | null;
}

export interface Front {
  readonly program: BpfProgram;
  readonly plan: Plan;
  /** Records that are in the program, for each of KINDS. */
  readonly written: readonly number[];
  /** Numbers of rules that there was no room for, or not everywhere: their packets are left, or some of them. */
  readonly cut: ReadonlySet<number>;
}

/** Rules for a front. */
export interface FrontRules {
  readonly tables: PlannedTables;
  /** Checks that stand before the rules; null: none. */
  readonly sanity: SanityBefore | null;
  /** As planOffload has it. */
  readonly captured?: ReadonlySet<number>;
  readonly sets?: KernelSets | null;
  /** Where the maps of limits are; null: no rule draws or meters here. */
  readonly limits?: LimitSource | null;
}

/**
 * The rules in front of the redirect program. Each set of rules is a program of its own, which takes the place of the one before by BpfLink.update; the
 * counters stay, so they go on over the change. A packet that no rule drops goes on to the redirect program by a tail call.
 */
export class RuleFront {
  private readonly maps: BpfMap[] = [];
  private readonly counters: BpfMap;
  private readonly copies: BpfMap;
  private readonly next: BpfMap;

  /** Makes the maps. Needs CAP_BPF and CAP_NET_ADMIN, as load() does. */
  constructor(private readonly behind: Behind) {
    const make = (type: MapType, name: string, valueSize: number, maxEntries: number): BpfMap => {
      const map = native().createMap({ type, name, keySize: 4, valueSize, maxEntries });
      this.maps.push(map);
      return map;
    };
    try {
      this.counters = make(MapType.percpuArray, 'rule_counters', COUNTER_BYTES, SET_DROPS + 1);
      this.copies = make(MapType.percpuArray, 'rule_copies', Copy.SIZE, 1);
      this.next = make(MapType.progArray, 'rules_next', 4, 1);
      this.next.update(encodeU32(0), encodeU32(behind.program));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** The program of these rules, for the caller to attach, replace the one before with, and close. @throws KernelError with verifierLog */
  load({ tables, sanity, captured, sets = null, limits = null }: FrontRules, access: Access = 'helpers'): Front {
    const { behind } = this;
    const asm = new Assembler();
    const plan = planOffload(limits === null ? { ...tables, kernelNonce: 0 } : tables, captured, sets);
    const cut = new Set<number>();
    const written = emitRules(asm, plan, {
      access,
      sanity,
      sets,
      limits,
      counters: this.counters.fd,
      copies: this.copies.fd,
      vips: behind.vips?.fd ?? null,
      dropped: () => this.dropped(asm),
      left: () => this.left(asm),
      notIp: () => this.count(asm, ['not_ip']),
      cut: (rule) => cut.add(rule),
    });
    const instructions = encode(asm.instructions());
    // The name by which one sluice knows another's program.
    const name = 'sluice_redirect';
    return {
      plan,
      written,
      cut,
      program: native().loadProgram({ type: 'xdp', name, license: 'Dual BSD/GPL', instructions }),
    };
  }

  /** From now on what no rule drops goes to this program, which ends in the redirect program or is it. */
  goOnTo(program: number): void {
    this.next.update(encodeU32(0), encodeU32(program));
  }

  /**
   * Counters of a rule, or of the sets that drop before the rules (SET_DROPS), since the maps were made, in the order of RuleCounter, summed over CPUs: of
   * packets dropped here, and only these.
   */
  counts(rule: number): number[] {
    const value = this.counters.lookup(encodeU32(rule));
    return value ? sumPerCpu(value, RuleCounter.SIZE) : [];
  }

  close(): void {
    for (const map of this.maps) map.close();
  }

  /** Counts as the redirect program does: seen, and dropped. */
  private dropped(asm: Assembler): void {
    this.count(asm, ['seen', 'drop']);
    asm.alu32(Alu.MOV, Reg.r0, XDP_DROP);
    asm.exit();
  }

  /** Adds one to these of the redirect program's counters. */
  private count(asm: Assembler, names: readonly (typeof REDIRECT_STATS)[number][]): void {
    const absent = new Label();
    asm.storeImm(Size.W, Reg.r10, Stack.scratch, 0);
    asm.loadMap(Reg.r1, this.behind.stats.fd);
    asm.alu64X(Alu.MOV, Reg.r2, Reg.r10);
    asm.alu64(Alu.ADD, Reg.r2, Stack.scratch);
    asm.call(Helper.map_lookup_elem);
    asm.jump64(Jump.JEQ, Reg.r0, 0, absent);
    for (const name of names) {
      const at = REDIRECT_STATS.indexOf(name) * 8;
      asm.load(Size.DW, Reg.r1, Reg.r0, at);
      asm.alu64(Alu.ADD, Reg.r1, 1);
      asm.store(Size.DW, Reg.r0, at, Reg.r1);
    }
    asm.place(absent);
  }

  private left(asm: Assembler): void {
    asm.load(Size.DW, Reg.r1, Reg.r10, Stack.context);
    asm.loadMap(Reg.r2, this.next.fd);
    asm.alu32(Alu.MOV, Reg.r3, 0);
    asm.call(Helper.tail_call);
    // Only if there were no program behind.
    asm.alu32(Alu.MOV, Reg.r0, XDP_PASS);
    asm.exit();
  }
}
