/** What a flow's packets may expect: where it is known to be, and whether a new one may go where it went. */
import type { ServiceConfig } from '../../src/shared/config.js';
import { Counter } from '../../src/shared/layout.js';
import type { Oracle } from './fuzz_oracle.js';
import type { Read } from './fuzz_reader.js';
import type { Lab } from './lab.js';

const SYN = 2;
const FIN_OR_RST = 5;

/** Idle for no longer than this, no flow has timed out, ms. */
const SURE_MS = 1500;

interface Known {
  service: string;
  /** It is at one of these: those that the frame may have been for. */
  backends: string[];
  lastMs: number;
  closing: boolean;
}

interface Note {
  inserted: number;
  missed: number;
  evicted: number;
}

export class FlowMemory {
  private readonly known = new Map<string, Known>();

  constructor(
    private readonly lab: Lab,
    private readonly oracle: Oracle,
  ) {}

  note(): Note {
    const total = (counter: Counter): number => this.lab.total(counter);
    return { inserted: total(Counter.flowInsert), missed: total(Counter.flowMiss), evicted: total(Counter.flowEvict) };
  }

  /** A backend that is gone or inactive loses its flows, and UDP may leave one that drains. */
  configured(): void {
    for (const [key, { service: name, backends }] of this.known) {
      const service = this.lab.config.services.find((each) => each.name === name);
      const stays = backends.every((text) => {
        const backend = service?.backends.find(({ address }) => address.text === text);
        if (!service || !backend) return false;
        const state = this.oracle.stateOf(service, backend);
        return state === 'active' || (state === 'draining' && service.drain.udp === 'keep');
      });
      if (!stays || !service || isSteered(service)) this.known.delete(key);
    }
  }

  /** Throws unless a packet of this flow may go to one of these backends. */
  sent(read: Read, backends: string[], before: Note): void {
    const { fragment, ports, tcpFlags } = read;
    if (fragment === 'later' || ports === null) return;
    const now = this.note();
    if (now.evicted !== before.evicted) this.known.clear();
    const key = keyOf(read);
    const known = this.known.get(key);
    const nowMs = this.lab.nowMs;
    const isSyn = read.protocol === 6 && (tcpFlags & 18) === SYN;
    if (
      known &&
      nowMs - known.lastMs <= SURE_MS &&
      nowMs >= known.lastMs &&
      !(isSyn && (known.closing || this.drains(known)))
    ) {
      const still = known.backends.filter((backend) => backends.includes(backend));
      if (still.length === 0)
        throw new Error(`a flow of ${known.backends.join(' or ')} went to ${backends.join(' or ')}`);
      if (now.missed !== before.missed) throw new Error('a flow that is known was balanced anew');
      known.backends = still;
      known.lastMs = nowMs;
      if (read.protocol === 6 && (tcpFlags & FIN_OR_RST) !== 0) known.closing = true;
      return;
    }
    this.known.delete(key);
    if (now.missed === before.missed) return;
    const service = this.oracle.serviceOf(read);
    if (service === null) throw new Error('balanced, and for no service');
    this.expectTakesNew(service, backends);
    if (now.inserted === before.inserted || isSteered(service)) return;
    const mine = backends.filter((text) => service.backends.some(({ address }) => address.text === text));
    const closing = read.protocol === 6 && (tcpFlags & FIN_OR_RST) !== 0;
    this.known.set(key, { service: service.name, backends: mine, lastMs: nowMs, closing });
    // Known from now on, and perhaps draining already: named by the packet.
    this.configured();
  }

  /** A packet with ports goes to the host only when no service wants it. */
  passed(read: Read): void {
    if (read.ports === null || this.lab.config.rules.length > 0) return;
    const service = this.oracle.serviceOf(read);
    if (service !== null) throw new Error(`passed, and for ${service.name}`);
  }

  dropped(read: Read, reason: string): void {
    if (reason !== 'no_backend' || read.ports === null) return;
    const service = this.oracle.serviceOf(read);
    if (service === null) throw new Error('no backend, and no service');
    if (this.takers(service).length > 0) throw new Error(`no backend in ${service.name}, and there is one`);
  }

  private expectTakesNew(service: ServiceConfig, backends: string[]): void {
    if (this.takers(service).some((text) => backends.includes(text))) return;
    // Weight does not matter to what names its backend, or draining to what names it by an id.
    const others = service.backends.filter((backend) => {
      const state = this.oracle.stateOf(service, backend);
      return (
        backends.includes(backend.address.text) &&
        (state === 'active'
          ? service.sourceRoutes.length > 0 || isSteered(service)
          : state === 'draining' && isSteered(service))
      );
    });
    const onlyDraining = service.hops > 1 || service.hash === 'glb';
    if (others.length > 0 || (onlyDraining && this.takers(service).length === 0)) return;
    throw new Error(`a new flow of ${service.name} went to ${backends.join(' or ')}`);
  }

  private takers(service: ServiceConfig): string[] {
    return service.backends
      .filter(
        (backend) => this.oracle.stateOf(service, backend) === 'active' && this.oracle.weightOf(service, backend) > 0,
      )
      .map(({ address }) => address.text);
  }

  private drains({ service: name, backends }: Known): boolean {
    const service = this.lab.config.services.find((each) => each.name === name)!;
    return service.backends.some(
      (backend) => backends.includes(backend.address.text) && this.oracle.stateOf(service, backend) !== 'active',
    );
  }
}

/** Packets of the service may name their backend. */
function isSteered({ quic, stableUdp, tcpServerId }: ServiceConfig): boolean {
  return quic !== null || stableUdp || tcpServerId;
}

function keyOf({ src, dst, protocol, ports }: Read): string {
  return `${src} ${ports!.sport} ${dst} ${ports!.dport} ${protocol}`;
}
