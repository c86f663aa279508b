/** A backend host for tests of the second hop: a namespace with a VIP on lo, a TAP device as its wire, neighbours and sockets. */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { onTestFinished } from 'vitest';
import { native, type Tap } from '../../src/native.js';
import type { Namespace } from '../../src/playground/netns.js';
import { enterForTest } from './bpf.js';
import { testPlayground } from './netns.js';
import { PacketBuilder, TCP, type TcpOptions } from './packet_builder.js';

export type Family = 4 | 6;

export const LB = { 4: '192.0.2.1', 6: '2001:db8:1::1' } as const;
export const ME = { 4: '192.0.2.80', 6: '2001:db8:1::80' } as const;
export const HOPS = { 4: ['192.0.2.81', '192.0.2.82'], 6: ['2001:db8:1::81', '2001:db8:1::82'] } as const;
/** Hardware addresses of the hops, by index. */
export const HOP_MACS = ['02:00:00:00:00:81', '02:00:00:00:00:82'] as const;
export const VIP = { 4: '203.0.113.10', 6: '2001:db8:cafe::10' } as const;
/** A client whose sockets are in this namespace too, and one that is behind the TAP device. */
export const NEAR = { 4: '198.51.100.7', 6: '2001:db8:9::7' } as const;
export const FAR = { 4: '198.51.100.9', 6: '2001:db8:9::9' } as const;
export const PORT = 8080;

/** One end of a connection to the VIP. */
export interface Flow {
  family: Family;
  client: string;
  clientPort: number;
}

export class HopHost {
  private constructor(
    readonly namespace: Namespace,
    readonly tap: Tap,
    /** Hardware address of the TAP device. */
    readonly mac: string,
  ) {}

  /** Moves this thread into a new namespace until the test is over. */
  static enter(): HopHost {
    const namespace = testPlayground().namespace('hop');
    enterForTest(namespace);
    namespace.sysctl({
      'net/ipv4/conf/all/rp_filter': 0,
      'net/ipv4/conf/default/rp_filter': 0,
      'net/ipv6/conf/default/accept_dad': 0,
      'net/ipv4/conf/lo/forwarding': 1,
      'net/ipv6/conf/lo/forwarding': 1,
    });
    const tap = new (native().Tap)({ name: 'wire' });
    onTestFinished(() => tap.close());
    namespace.ip(
      'link set wire up',
      `addr add ${ME[4]}/24 dev wire`,
      `addr add ${ME[6]}/64 dev wire nodad`,
      ...([4, 6] as const).flatMap((family) => [
        `addr add ${VIP[family]} dev lo`,
        `addr add ${NEAR[family]} dev lo`,
        `neigh add ${LB[family]} lladdr 02:00:00:00:00:01 dev wire`,
        `route add ${FAR[family]} via ${LB[family]}`,
        ...HOPS[family].map((hop, i) => `neigh add ${hop} lladdr ${HOP_MACS[i]} dev wire`),
      ]),
    );
    const { address } = native().linkInfo('wire');
    return new HopHost(namespace, tap, [...address].map((byte) => byte.toString(16).padStart(2, '0')).join(':'));
  }

  /** A server on the VIPs, port `PORT`. */
  async listen(): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    onTestFinished(() => void server.close());
    server.listen(PORT, '::');
    await once(server, 'listening');
    return server;
  }

  /** A connection of `NEAR` to the VIP; both of its sockets are here. `accepted` has not read anything. */
  async connect(server: Server, family: Family): Promise<{ flow: Flow; socket: Socket; accepted: Socket }> {
    const socket = connect({ host: VIP[family], port: PORT, localAddress: NEAR[family], allowHalfOpen: true });
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    await once(socket, 'connect');
    const [other] = await accepted;
    for (const one of [socket, other]) {
      one.on('error', () => undefined);
      onTestFinished(() => void one.destroy());
    }
    return { flow: { family, client: NEAR[family], clientPort: socket.localPort! }, socket, accepted: other };
  }

  /** Has a client behind the TAP device send a SYN; resolves to the sequence number of the SYN-ACK. */
  async halfOpen(flow: Flow, seq: number): Promise<number> {
    while (this.tap.read());
    const ethernet = new PacketBuilder().ethernet({ dst: this.mac });
    this.tap.write(segment(flow, { seq, flags: TCP.SYN }, ethernet));
    for (let tries = 0; tries < 400; tries++) {
      for (let frame = this.tap.read(); frame; frame = this.tap.read()) {
        const at = 14 + (flow.family === 4 ? 20 : 40);
        const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
        if (frame.length < at + 20 || view.getUint16(at + 2) !== flow.clientPort) continue;
        if (frame[at + 13] === (TCP.SYN | TCP.ACK)) return view.getUint32(at + 4);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error('no SYN-ACK within 2 s');
  }
}

/** A TCP segment of the flow's client to the VIP: layer 3, or behind `start`. */
export function segment(flow: Flow, tcp: TcpOptions, start = new PacketBuilder()): Uint8Array {
  const addresses = { src: flow.client, dst: VIP[flow.family] };
  const ip = flow.family === 4 ? start.ipv4(addresses) : start.ipv6(addresses);
  return ip.tcp({ sport: flow.clientPort, dport: PORT, ...tcp }).build();
}

/** The ICMP error that a router sends to the VIP about a segment of the VIP to the flow's client. */
export function icmpError(flow: Flow, type: number, code = 0): Uint8Array {
  const router = flow.family === 4 ? '100.64.0.1' : '2001:db8:7::1';
  const quoted = { src: VIP[flow.family], dst: flow.client };
  const inside = flow.family === 4 ? new PacketBuilder().ipv4(quoted) : new PacketBuilder().ipv6(quoted);
  const quote = inside.tcp({ sport: PORT, dport: flow.clientPort }).build();
  const rest = 1280;
  const outside = { src: router, dst: VIP[flow.family] };
  return flow.family === 4
    ? new PacketBuilder().ipv4(outside).icmp({ type, code, rest }).quote(quote.slice(0, 28)).build()
    : new PacketBuilder().ipv6(outside).icmp6({ type, code, rest }).quote(quote).build();
}
