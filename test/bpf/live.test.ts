/** Both programs attached to a veth end, with real frames from the other end, down to an AF_XDP or a UDP socket. */
import { createSocket } from 'node:dgram';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { native, type XskSocket } from '../../src/native.js';
import type { Namespace } from '../../src/playground/netns.js';
import { Decap, enterForTest, Redirect, XDP } from '../support/bpf.js';
import { AddonChild, compileBpf, until, XDP_TX_SOURCE } from '../support/bpf_child.js';
import { testPlayground } from '../support/netns.js';
import { PacketBuilder } from '../support/packet_builder.js';

const VIP4 = '203.0.113.10';
const VIP6 = '2001:db8:cafe::10';
/** Fewer than a default receive buffer holds: each frame of a test run costs its socket a page. */
const FRAMES = 32;

/** This thread is in `here`, where va is; vb is in `there`. One queue, so that all frames take the same way. */
let here: Namespace;
let there: Namespace;

beforeEach(() => {
  const playground = testPlayground();
  here = playground.namespace('a');
  there = playground.namespace('b');
  playground.veth({ namespace: here, name: 'va' }, { namespace: there, name: 'vb' });
  enterForTest(here);
});

/** Sends each frame FRAMES times out of vb, by BPF_PROG_TEST_RUN with live frames. */
async function send(...frames: Uint8Array[]): Promise<void> {
  const sender = new AddonChild(
    `const object = new addon.BpfObject(args[0]); object.load();
     const ifindex = addon.linkInfo('vb').ifindex;
     for (const hex of args.slice(1)) {
       const data = Buffer.from(hex, 'hex');
       const options = { data, ifindex, liveFrames: true, repeat: ${FRAMES}, batchSize: ${FRAMES} };
       say(String(object.testRun('send_back', options).data.length));
     }`,
    [compileBpf('send', XDP_TX_SOURCE), ...frames.map((frame) => Buffer.from(frame).toString('hex'))],
    there.name,
  );
  // A live-frames run returns no packet.
  expect(await sender.ended).toEqual({ code: 0, stdout: '0\n'.repeat(frames.length), stderr: '' });
}

describe('redirect on an interface', () => {
  beforeEach(() => {
    for (const namespace of [here, there]) namespace.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1 });
    here.ip('link set va up');
    there.ip('link set vb up');
  });

  function openSocket(): XskSocket {
    const umem = new (native().Umem)({ frameCount: 512, chunkSize: 2048 });
    onTestFinished(() => umem.close());
    const socket = new (native().XskSocket)(umem, { interface: 'va', queue: 0, mode: 'copy', index: 0 });
    onTestFinished(() => socket.close());
    return socket;
  }

  it('gives packets for a VIP to the socket of the queue, and to the fallback once it is closed', async () => {
    using redirect = new Redirect({}, [VIP4]);
    const link = redirect.object.attachXdp('sluice_redirect', native().linkInfo('va').ifindex, 'native');
    onTestFinished(() => link.close());
    const socket = openSocket();
    redirect.setSocket(0, socket.fd);
    socket.exchange();

    const vip = new PacketBuilder().ethernet().ipv4({ dst: VIP4 }).udp().payload('for the VIP').padTo(60).build();
    const other = new PacketBuilder().ethernet().ipv4({ dst: '203.0.113.11' }).udp().padTo(60).build();
    await send(vip, other);
    await until(() => (redirect.stats().seen ?? 0) === 2 * FRAMES);
    expect(redirect.stats()).toEqual({ seen: 2 * FRAMES, redirect: FRAMES, pass: FRAMES });

    let received = 0;
    for (let tries = 0; tries < 10; tries++) {
      const count = socket.exchange();
      socket.verdict.fill(XDP.DROP, 0, count);
      received += count;
    }
    expect(received).toBe(FRAMES);

    socket.close();
    await send(vip);
    await until(() => (redirect.stats().seen ?? 0) === 3 * FRAMES);
    expect(redirect.stats()).toEqual({
      seen: 3 * FRAMES,
      redirect: FRAMES,
      pass: 2 * FRAMES,
      no_socket: FRAMES,
    });
  });

  it('in a test run returns XDP_REDIRECT where a socket is, for the queue that the context names', () => {
    using redirect = new Redirect({ fallback_action: XDP.DROP }, [VIP4]);
    const ifindex = native().linkInfo('va').ifindex;
    const link = redirect.object.attachXdp('sluice_redirect', ifindex, 'native');
    onTestFinished(() => link.close());
    const socket = openSocket();
    const data = new PacketBuilder().ethernet().ipv4({ dst: VIP4 }).udp().build();
    const run = (): number => redirect.object.testRun('sluice_redirect', { data, ifindex, queue: 0 }).retval;
    expect(run()).toBe(XDP.DROP);
    redirect.setSocket(0, socket.fd);
    expect(run()).toBe(XDP.REDIRECT);
    expect(redirect.stats()).toEqual({ seen: 2, drop: 1, redirect: 1, no_socket: 1 });
    // Queue 1 does not exist.
    expect(() => redirect.object.testRun('sluice_redirect', { data, ifindex, queue: 1 })).toThrow(/EINVAL/);
  });
});

describe('decap on a backend', () => {
  beforeEach(() => {
    here.sysctl({
      'net/ipv4/conf/all/rp_filter': 0,
      'net/ipv4/conf/va/rp_filter': 0,
      'net/ipv6/conf/va/accept_dad': 0,
    });
    here.ip(
      `addr add ${VIP4}/32 dev lo`,
      `addr add ${VIP6}/128 dev lo nodad`,
      'link set va up',
      'addr add 192.0.2.80/24 dev va',
      'route add default via 192.0.2.1',
      'route add ::/0 dev va',
    );
    there.ip('link set vb up');
  });

  const OUTER = {
    4: { src: '192.0.2.1', dst: '192.0.2.80' },
    6: { src: '2001:db8:1::1', dst: '2001:db8:1::80' },
  } as const;

  it.each([
    [4, 4],
    [6, 4],
    [4, 6],
    [6, 6],
  ] as const)('%iin%i packets reach a UDP socket on the VIP', async (inside, outside) => {
    using decap = new Decap([OUTER[4].dst, OUTER[6].dst], [OUTER[4].src, OUTER[6].src]);
    const device = native().linkInfo('va');
    const link = decap.object.attachXdp('sluice_decap', device.ifindex, 'native');
    onTestFinished(() => link.close());

    const server = createSocket(inside === 4 ? 'udp4' : 'udp6');
    onTestFinished(() => void server.close());
    const received: string[] = [];
    server.on('message', (message, from) => received.push(`${from.address} ${message.toString()}`));
    await new Promise<void>((resolve) => server.bind(5353, inside === 4 ? VIP4 : VIP6, resolve));

    const client = inside === 4 ? '198.51.100.7' : '2001:db8:9::7';
    const dst = [...device.address].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
    const outer = new PacketBuilder().ethernet({ dst }).ipip(OUTER[outside]);
    const packet = (inside === 4 ? outer.ipv4({ src: client, dst: VIP4 }) : outer.ipv6({ src: client, dst: VIP6 }))
      .udp({ dport: 5353 })
      .payload('tunnelled')
      .build();
    await send(packet);
    await until(() => received.length >= FRAMES);
    expect(received).toEqual(Array<string>(FRAMES).fill(`${client} tunnelled`));
    expect(decap.stats()[`decap_${inside}in${outside}`]).toBe(FRAMES);
  });
});
