import { execFileSync } from 'node:child_process';

/** Packets of a trial. */
const TRIAL_PACKETS = 4;
/** After that another flow is tried: this one has ended, ms. */
const TRIAL_MS = 3000;

/** An interface that flows leave by. */
export interface Outlet {
  readonly name: string;
  readonly index: number;
  readonly driver: string;
}

/** A flow that is let in to see whether its packets leave. */
interface Trial {
  /** Counter of the driver, and packets of the flow's backend, when it began. */
  counter: number;
  packets: number;
  sent: () => number;
  startedMs: number;
}

type Way = 'xdp_tx' | 'xdp_xmit';

/**
 * Whether an interface sends what XDP programs give it, as far as there is doubt. veth drops it without a word unless the other end has an XDP program or
 * GRO (veth_xdp_xmit in drivers/net/veth.c); its statistics count what went out. So there the first flow goes in alone, until they do.
 */
export class FlowProof {
  private readonly known = new Map<string, 'sends' | 'drops'>();
  private readonly trials = new Map<string, Trial>();

  /** `read`: see driverCounter(). */
  constructor(private readonly read: (name: string, way: Way) => number = driverCounter) {}

  /** True for one that is known to drop. */
  drops(outlet: Outlet, redirected: boolean): boolean {
    return this.known.get(keyOf(outlet, redirected)) === 'drops';
  }

  /** Whether a flow may leave by it. True for one flow where that is to be seen first; `sent`: packets that its backend was sent by the cache. */
  admits(outlet: Outlet, redirected: boolean, sent: () => number): boolean {
    const key = keyOf(outlet, redirected);
    const known = this.known.get(key);
    if (known !== undefined || outlet.driver !== 'veth') return known !== 'drops';
    if (this.trials.has(key)) return false;
    const counter = this.read(outlet.name, wayOf(redirected));
    this.trials.set(key, { counter, packets: sent(), sent, startedMs: performance.now() });
    return true;
  }

  /** Ends trials whose packets are sent; returns the interfaces that drop them. */
  judge(outlets: readonly Outlet[]): Outlet[] {
    const dropping: Outlet[] = [];
    for (const outlet of outlets) {
      for (const redirected of [false, true]) {
        const key = keyOf(outlet, redirected);
        const trial = this.trials.get(key);
        if (trial === undefined) continue;
        const sent = trial.sent() - trial.packets;
        if (sent < TRIAL_PACKETS) {
          if (performance.now() - trial.startedMs > TRIAL_MS) this.trials.delete(key);
          continue;
        }
        this.trials.delete(key);
        const left = this.read(outlet.name, wayOf(redirected)) - trial.counter;
        this.known.set(key, left * 2 >= sent ? 'sends' : 'drops');
        if (left * 2 < sent) dropping.push(outlet);
      }
    }
    return dropping;
  }

  /** A cache is gone, and with it the flow of a trial. */
  abandon(): void {
    this.trials.clear();
  }

  /** The interface is another one now. */
  forget({ index }: Outlet): void {
    for (const redirected of [false, true]) {
      this.known.delete(`${index} ${wayOf(redirected)}`);
      this.trials.delete(`${index} ${wayOf(redirected)}`);
    }
  }
}

function wayOf(redirected: boolean): Way {
  return redirected ? 'xdp_xmit' : 'xdp_tx';
}

function keyOf({ index }: Outlet, redirected: boolean): string {
  return `${index} ${wayOf(redirected)}`;
}

/** Sum over a veth's queues of what `ethtool -S` calls rx_queue_0_xdp_tx or tx_queue_0_xdp_xmit; 0 where it does not say. */
function driverCounter(name: string, way: Way): number {
  let text: string;
  try {
    text = execFileSync('ethtool', ['-S', name], {
      encoding: 'utf8',
      timeout: 2000,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return 0;
  }
  const counters = text.matchAll(new RegExp(`_queue_\\d+_${way}: (\\d+)`, 'g'));
  return [...counters].reduce((sum, [, value]) => sum + Number(value), 0);
}
