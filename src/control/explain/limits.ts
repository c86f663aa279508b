/** What the limits behind all other stages said of a packet, one by one. */
import { ConnLimit } from '../../dataplane/mitigate/conn_limit.js';
import type { Packet } from '../../dataplane/packet/packet.js';
import { DropReason } from '../../dataplane/verdict.js';
import { CounterBlock, RuleCounter } from '../../shared/layout.js';
import { limitRuleName } from '../mitigation/shelf.js';
import type { ReplaySetup } from '../replay_path.js';

interface RateCount {
  name: string;
  packets: number;
  acted: number;
}

interface Connections {
  name: string;
  most: number;
  limit: ConnLimit;
  /** Open for the packet's prefix when it came. */
  open: number;
}

/** Limits on rates are told by their counters, those on connections by the tables that they count in. */
export class LimitExplainer {
  private rates: RateCount[] = [];
  private readonly connections: readonly Connections[];

  constructor(
    private readonly setup: ReplaySetup,
    private readonly block: Float64Array,
  ) {
    const { workers, connLimits } = setup.tables.mitigation;
    const named = setup.config.mitigation.limits.filter(({ kind }) => kind === 'connections');
    this.connections = connLimits.map(({ shared }, i) => {
      return { name: named[i].name, most: shared.limit, limit: new ConnLimit(shared, 0, workers.length), open: 0 };
    });
  }

  before(packet: Packet): void {
    this.rates = this.rateCounts();
    for (const one of this.connections) one.open = one.limit.connections(packet);
  }

  /** @param said the stage's word: 0, or a drop reason */
  after(said: number): string[] {
    const texts = this.rateCounts().flatMap(({ name, packets, acted }, i) => {
      if (packets === this.rates[i].packets) return [];
      return [`limit ${name}: ${acted > this.rates[i].acted ? 'above' : 'within'}`];
    });
    // A limit on rates stands before them.
    if (said === (DropReason.limited as number)) return texts;
    for (const { name, most, open } of this.connections) {
      const above = said === (DropReason.connectionLimit as number) && open >= most;
      texts.push(`limit ${name}: ${open} of ${most} connections open${above ? ', above' : ''}`);
      if (above) break;
    }
    return texts;
  }

  private rateCounts(): RateCount[] {
    const { config, numbers } = this.setup;
    return config.mitigation.limits.flatMap(({ name }) => {
      const numbered = numbers.rules.get(limitRuleName(name));
      if (numbered === undefined) return [];
      const at = CounterBlock.rules + numbered.number * RuleCounter.SIZE;
      return [{ name, packets: this.block[at + RuleCounter.packets], acted: this.block[at + RuleCounter.acted] }];
    });
  }
}
