/**
 * Rules as eBPF: what the data plane's chain would drop by a rule is dropped in XDP, and counted as the chain would have counted it. Everything else is
 * left to the chain, which then sees the packet as if nothing had looked at it before. So no packet is counted twice, and a rule that the kernel cannot
 * carry out only costs the drops of packets that match it.
 */
import { Label, type Assembler } from '../assembler.js';
import { emitEntry } from '../from_cbpf.js';
import { emitEthernet, emitIpv4, emitIpv6 } from './any.js';
import { emitCounting } from './counting.js';
import { emitDecisions, emitUndecided } from './decided.js';
import { dropsSome, emitKind, type Ends, type RulesEnvironment } from './kind_rules.js';
import { IPV4, IPV6, KINDS, NOT_IP, PLAIN, type PacketKind, type WayTo } from './kinds.js';
import { emitPlain } from './plain.js';
import type { Plan } from './plan.js';
import { emitSetCounts } from './set_lookup.js';

export { COUNTER_BYTES, SET_DROPS } from './counting.js';
export type { RulesEnvironment } from './kind_rules.js';

/** Appends the rules. r1 is the context of XDP. Returns how many of the records are in it, for each of KINDS. */
export function emitRules(asm: Assembler, plan: Plan, environment: RulesEnvironment): number[] {
  const dropping = new Set(KINDS.filter((kind) => dropsSome(plan, environment, kind)));
  const parts = new Parts(asm, plan, environment, dropping);
  const [others, ipv4, ipv6] = [new Label(), new Label(), new Label()];
  emitEntry(asm);
  if (plan.nonce !== 0) emitUndecided(asm);
  parts.emit(PLAIN, (to, leave) => emitPlain(asm, to, [...dropping].some(({ plain }) => !plain) ? others : leave));
  if (others.firstUse >= 0) {
    asm.place(others);
    parts.emit([NOT_IP, ...IPV4], (to, leave) => {
      const wayOf = (kinds: readonly PacketKind[], way: Label): Label =>
        kinds.some((kind) => dropping.has(kind)) ? way : leave;
      emitEthernet(asm, environment.copies, { ipv4: wayOf(IPV4, ipv4), ipv6: wayOf(IPV6, ipv6), leave }, to);
      if (ipv4.firstUse < 0) return;
      asm.place(ipv4);
      emitIpv4(asm, to, leave);
    });
  }
  if (ipv6.firstUse >= 0) {
    asm.place(ipv6);
    parts.emit(IPV6, (to, leave) => emitIpv6(asm, to, leave));
  }
  return KINDS.map((kind) => parts.written.get(kind) ?? 0);
}

/** A jump reaches 32,767 instructions, so the program is in parts: each reads packets, has the rules for their kinds behind that, and its own ends. */
class Parts {
  /** Records that are in the program. */
  readonly written = new Map<PacketKind, number>();

  constructor(
    private readonly asm: Assembler,
    private readonly plan: Plan,
    private readonly environment: RulesEnvironment,
    /** Kinds that rules drop packets of; all others are left. */
    private readonly dropping: ReadonlySet<PacketKind>,
  ) {}

  emit(kinds: readonly PacketKind[], read: (to: WayTo, leave: Label) => void): void {
    const { asm, plan, environment } = this;
    const leave = new Label();
    // What is not for user space needs no word to it.
    const host = plan.nonce === 0 ? leave : new Label();
    const ends: Ends = { leave, host, drop: new Label() };
    const dropNotIp = new Label();
    const labels = kinds.map((kind) => (this.dropping.has(kind) ? new Label() : leave));
    read((family, protocol) => {
      return labels[kinds.findIndex((kind) => kind.family === family && kind.protocol === protocol)];
    }, leave);
    kinds.forEach((kind, i) => {
      if (labels[i] === leave) return;
      asm.place(labels[i]);
      const drop = kind === NOT_IP ? dropNotIp : ends.drop;
      this.written.set(kind, emitKind(asm, plan, environment, kind, { ...ends, drop }));
    });
    if (dropNotIp.firstUse >= 0) {
      asm.place(dropNotIp);
      environment.notIp?.();
    }
    if (ends.drop.firstUse >= 0 || dropNotIp.firstUse >= 0) {
      asm.place(ends.drop);
      emitCounting(asm, plan, environment.counters);
      if (environment.sets) emitSetCounts(asm, { lookups: plan.lookups, sets: environment.sets });
      environment.dropped();
    }
    if (leave.firstUse >= 0) {
      asm.place(leave);
      if (plan.nonce !== 0) emitDecisions(asm, plan.nonce);
    }
    if (leave.firstUse < 0 && host.firstUse < 0) return;
    asm.place(host);
    environment.left();
  }
}
