import type { MitigationStage } from '../filter/mitigation.js';
import { StageVerdict } from '../filter/mitigation.js';
import type { RuleSet } from '../filter/rules.js';
import type { Packet } from '../packet/packet.js';
import { DropReason } from '../verdict.js';
import type { ServiceTcp } from './tcp_stage.js';

/** The limits behind all other stages: rates by what they match, then connections. */
export class LimitStage implements MitigationStage {
  /** `tcp`: the stage that has seen the packet before, where there are limits on connections. */
  constructor(
    private readonly rates: RuleSet | null,
    private readonly tcp: ServiceTcp | null,
  ) {}

  judge(packet: Packet, nowMs: number): number {
    if (this.rates !== null && this.rates.match(packet, nowMs) !== 0) return DropReason.limited;
    if (this.tcp !== null && !this.tcp.admit(packet)) return DropReason.connectionLimit;
    return StageVerdict.Continue;
  }
}
