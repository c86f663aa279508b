import { openPort } from '../library.js';
import type { PacketPort, Policy } from '../library/packet_port.js';
import type { Packet } from '../dataplane/packet/packet.js';
import { Verdict } from '../dataplane/verdict.js';
import { native } from '../native.js';
import type { BenchCounts, BenchSettings, Job } from './modes.js';

/** Modes that are a policy of the library, as a user of it would write them. */
export type PortMode = 'rxdrop' | 'l2fwd' | 'forward';

/** Also what `bench/workers` runs. */
export const POLICIES: Record<PortMode, Policy> = {
  rxdrop: () => Verdict.Drop,
  l2fwd: (packet) => {
    swapAddresses(packet);
    return Verdict.Tx;
  },
  forward: (packet) => {
    swapAddresses(packet);
    packet.target = 1 - packet.port;
    return Verdict.Redirect;
  },
};

/** Swaps the hardware addresses, as xdpsock and xsk_fwd do. */
function swapAddresses({ view, data }: Packet): void {
  const destinationHigh = view.getInt32(data);
  const destinationLow = view.getInt16(data + 4);
  const sourceHigh = view.getInt16(data + 6);
  const sourceLow = view.getInt32(data + 8);
  view.setInt16(data, sourceHigh);
  view.setInt32(data + 2, sourceLow);
  view.setInt32(data + 6, destinationHigh);
  view.setInt16(data + 10, destinationLow);
}

/** A job over a port of the library. */
export class PortJob implements Job {
  readonly done = false;
  readonly way: string;

  private constructor(
    private readonly port: PacketPort,
    private readonly policy: Policy,
    { xdp }: BenchSettings,
  ) {
    this.way = xdp === 'generic' ? 'generic' : port.queues.every(({ zeroCopy }) => zeroCopy) ? 'zero-copy' : 'copy';
  }

  /** @throws as openPort does */
  static async open(settings: BenchSettings & { mode: PortMode }): Promise<PortJob> {
    const { mode, interfaces, queue, xdp, batch } = settings;
    const port = await openPort({
      interface: interfaces,
      queues: [queue],
      mode: xdp,
      hostPath: false,
      // What arrives is a load for a measurement, and nobody's business but the generator's.
      checksum: 'trust',
      // None of the policies looks at headers.
      parse: false,
      burst: batch,
    });
    return new PortJob(port, POLICIES[mode], settings);
  }

  round(sleepMs: number): number {
    return this.port.poll(this.policy, sleepMs);
  }

  nowMs(): number {
    return native().nowMs();
  }

  counts(): BenchCounts {
    const { rx, rxBytes, tx, redirected, txBytes, dropped, txLost, missed } = this.port.totals();
    return { rx, rxBytes, tx: tx + redirected - txLost, txBytes, dropped, txLost, missed };
  }

  close(): void {
    this.port.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
