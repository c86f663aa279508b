/**
 * A balancer of a few lines, for tests of backends with real connections: what the namespace routes to the VIPs comes to a TAP
 * device, and goes back into it in whatever tunnel the test asks for. One backend for all packets.
 */
import { onTestFinished } from 'vitest';
import { native, type Tap } from '../../src/native.js';
import type { Topology } from '../../src/playground/topology.js';
import { VIP4, VIP6 } from '../../src/playground/topology.js';
import { gue0, GUE_PORT } from './gue.js';
import { PacketBuilder } from './packet_builder.js';

export type Tunnel = 'ipip' | 'gue0' | 'gue1';

/** Outer sources: not the node's own addresses, which its kernel would not forward from. */
export const OUTER_SOURCE = { 4: '10.78.0.1', 6: 'fd78::1' } as const;

/** How packets leave from now on. */
export interface Way {
  tunnel: Tunnel;
  to: string;
  /** Second hops; GUE variant 0 only. */
  hops?: readonly string[];
  /** Outer UDP checksum; default computed. */
  checksum?: 0;
}

const TAP = 'lb0';

export class Encapsulator {
  way: Way | null = null;
  /** Packets sent so far. */
  sent = 0;
  private readonly mac: string;

  private constructor(private readonly tap: Tap) {
    const { address } = native().linkInfo(TAP);
    this.mac = [...address].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
  }

  /** On the topology's lb, until the test is over. Call it with this thread in lb's namespace (`enterForTest`). */
  static start({ lb }: Topology): Encapsulator {
    const tap = new (native().Tap)({ name: TAP });
    lb.namespace.sysctl({
      'net/ipv4/ip_forward': 1,
      'net/ipv6/conf/all/forwarding': 1,
      'net/ipv4/conf/all/send_redirects': 0,
    });
    // The inner packet and the largest outer header of these tests fit the wire; clients hear of it by path MTU discovery.
    lb.namespace.ip(
      `link set ${TAP} mtu 1400 up`,
      ...[VIP4, VIP6].flatMap((vip) => [
        `neigh add ${vip} lladdr 02:00:00:00:00:99 dev ${TAP}`,
        `route add ${vip} dev ${TAP}`,
      ]),
    );
    const encapsulator = new Encapsulator(tap);
    const timer = setInterval(() => encapsulator.poll(), 1);
    onTestFinished(() => {
      clearInterval(timer);
      tap.close();
    });
    return encapsulator;
  }

  private poll(): void {
    for (let frame = this.tap.read(); frame; frame = this.tap.read()) {
      const type = (frame[12] << 8) | frame[13];
      // The kernel's own talk on that device, such as router solicitations, is for no VIP.
      const toVip = type === 0x0800 || (type === 0x86dd && frame[14 + 24] === 0x20);
      if (!this.way || !toVip) continue;
      this.tap.write(this.wrap(frame.slice(14), this.way));
      this.sent++;
    }
  }

  private wrap(inner: Uint8Array, { tunnel, to, hops, checksum }: Way): Uint8Array {
    const outer = new PacketBuilder().ethernet({ dst: this.mac });
    if (to.includes(':')) {
      const header = { src: OUTER_SOURCE[6], dst: to, nextHeader: tunnel === 'ipip' ? protocolOf(inner) : undefined };
      outer.ipv6(header);
    } else {
      outer.ipv4({ src: OUTER_SOURCE[4], dst: to, protocol: tunnel === 'ipip' ? protocolOf(inner) : undefined });
    }
    if (tunnel !== 'ipip') outer.udp({ sport: 0x8000 | (inner.length & 0xff), dport: GUE_PORT, checksum });
    return outer.payload(tunnel === 'gue0' ? gue0(inner, { hops }) : inner).build();
  }
}

function protocolOf(inner: Uint8Array): number {
  return inner[0] >> 4 === 6 ? 41 : 4;
}
