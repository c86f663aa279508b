import type { MitigationTables } from '../../shared/layout.js';
import { FlowField } from '../balance/flow_entry.js';
import { Packet } from '../packet/packet.js';
import { ConnLimit } from './conn_limit.js';
import { isCounted } from './connection_state.js';
import { ENDED_WORDS, type Connections } from './connections.js';
import { LimitVerdict } from './limit_verdict.js';

type Spec = MitigationTables['connLimits'][number];

interface Held {
  readonly id: number;
  readonly limit: ConnLimit;
  readonly bySource: boolean;
}

/**
 * The limits on connections of one worker, held to what its tracker remembers: each limit counts exactly the connections that are in the
 * table there and that their client has not closed.
 */
export class TrackedLimits {
  private held: readonly Held[] = [];
  private gone = 0;

  get empty(): boolean {
    return this.held.length === 0;
  }

  /** Packets that found a table of prefixes full. Asked for all the time: no closure. */
  get tableFull(): number {
    const { held } = this;
    let sum = this.gone;
    for (let i = 0; i < held.length; i++) sum += held[i].limit.hotDropped;
    return sum;
  }

  /** Takes these limits into use. A new one begins with the connections that are there. `fresh`: the tracker has just begun, with none. */
  load(specs: readonly Spec[], worker: number, workers: number, connections: Connections | null, fresh: boolean): void {
    const held = specs.map(({ id, shared }): Held => {
      const known = this.held.find((each) => each.id === id);
      if (known !== undefined) {
        if (fresh) known.limit.forget();
        return known;
      }
      const limit = new ConnLimit(shared, worker, workers);
      // What a worker counted that had this number before; it is gone, with its connections.
      limit.forget();
      if (connections !== null) countAll(limit, connections);
      return { id, limit, bySource: shared.side === 'source' };
    });
    for (const each of this.held) {
      if (held.includes(each)) continue;
      this.gone += each.limit.hotDropped;
      each.limit.forget();
    }
    this.held = held;
  }

  /** Counts the connection that this packet opens. False: it would be one too many, and none counts it. `must`: it is there already. */
  open(packet: Packet, must: boolean): boolean {
    const held = this.held;
    for (let i = 0; i < held.length; i++) {
      const { limit } = held[i];
      const within = must ? limit.opened(packet) : limit.open(packet) === LimitVerdict.within;
      if (within) continue;
      for (let before = 0; before < i; before++) this.closeAt(before, packet);
      return false;
    }
    return true;
  }

  /** Gives back the connection of this packet. */
  close(packet: Packet): void {
    for (let i = 0; i < this.held.length; i++) this.closeAt(i, packet);
  }

  private closeAt(i: number, packet: Packet): void {
    const { limit, bySource } = this.held[i];
    if (bySource) limit.closed(packet.family, packet.src0, packet.src1, packet.src2, packet.src3);
    else limit.closed(packet.family, packet.dst0, packet.dst1, packet.dst2, packet.dst3);
  }

  /** Gives back the connection that had to give way to the one that was just opened. */
  closeEvicted({ table }: Connections): void {
    const family = (table.evictedKind >>> 8) & 0xff;
    for (let i = 0; i < this.held.length; i++) {
      const { limit, bySource } = this.held[i];
      if (bySource) {
        limit.closed(family, table.evictedSrc0, table.evictedSrc1, table.evictedSrc2, table.evictedSrc3);
      } else {
        limit.closed(family, table.evictedDst0, table.evictedDst1, table.evictedDst2, table.evictedDst3);
      }
    }
  }

  /** Gives back what a sweep forgot: the first `words` of `ended`. */
  closeEnded(ended: Int32Array, words: number): void {
    for (let at = 0; at < words; at += ENDED_WORDS) {
      for (let i = 0; i < this.held.length; i++) {
        const { limit, bySource } = this.held[i];
        const from = at + (bySource ? 1 : 5);
        limit.closed(ended[at], ended[from], ended[from + 1], ended[from + 2], ended[from + 3]);
      }
    }
  }
}

function countAll(limit: ConnLimit, { table }: Connections): void {
  const { words } = table;
  const packet = new Packet(new DataView(new ArrayBuffer(0)), 1);
  for (let at = 0; at < words.length; at += FlowField.STRIDE) {
    if (!isCounted(words[at + FlowField.state])) continue;
    const family = (words[at + FlowField.kind] >>> 8) & 0xff;
    packet.family = family;
    packet.src0 = words[at + FlowField.src0];
    packet.dst0 = words[at + FlowField.dst0];
    packet.src1 = family === 4 ? 0 : words[at + FlowField.src1];
    packet.src2 = family === 4 ? 0 : words[at + FlowField.src2];
    packet.src3 = family === 4 ? 0 : words[at + FlowField.src3];
    packet.dst1 = family === 4 ? 0 : words[at + FlowField.dst1];
    packet.dst2 = family === 4 ? 0 : words[at + FlowField.dst2];
    packet.dst3 = family === 4 ? 0 : words[at + FlowField.dst3];
    limit.opened(packet);
  }
}
