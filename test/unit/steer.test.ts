import { describe, expect, it } from 'vitest';
import { encodeQuicLbCid } from '../../src/control/quic_lb_encode.js';
import { Steered, SteeredBy, Steering } from '../../src/dataplane/balance/steer.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import { ServiceField, ServiceFlag, type QuicSpec } from '../../src/shared/layout.js';
import { buildLpm } from '../../src/shared/lpm.js';
import { buildServerIds, parseServerId } from '../../src/shared/server_ids.js';
import { guardedPacket } from '../support/guarded_view.js';
import { katranSetup, type KatranVip } from '../support/katran_setup.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { NO_VECTORS, frameOf, katranVectors } from '../support/vectors.js';

interface ServiceSketch {
  quic?: QuicSpec;
  stableUdp?: boolean;
  tcpServerId?: boolean;
  /** Ids by position. */
  ids?: (number | string)[][];
  /** Position by prefix. */
  routes?: Record<string, number>;
}

function steering(...services: ServiceSketch[]): Steering {
  const words = new Int32Array(new SharedArrayBuffer(services.length * ServiceField.STRIDE * 4));
  const tables = { services: words.buffer as SharedArrayBuffer, serverIds: [], sourceRoutes: [], quic: [] } as ConstructorParameters<
    typeof Steering
  >[0]; // prettier-ignore
  const shared = (array: Int32Array): SharedArrayBuffer => array.buffer as SharedArrayBuffer;
  services.forEach(({ quic, stableUdp, tcpServerId, ids, routes }, number) => {
    const record = number * ServiceField.STRIDE;
    words[record + ServiceField.flags] =
      ServiceFlag.valid | (stableUdp ? ServiceFlag.stableUdp : 0) | (tcpServerId ? ServiceFlag.tcpServerId : 0);
    words[record + ServiceField.quic] = quic ? tables.quic.push(quic) - 1 : -1;
    const entries = (ids ?? []).flatMap((list, position) =>
      list.map((id) => ({ id: parseServerId(id), position, owner: `backend ${position}` })),
    );
    words[record + ServiceField.serverIds] = ids ? tables.serverIds.push(shared(buildServerIds(entries))) - 1 : -1;
    const table = (family: 4 | 6): SharedArrayBuffer | null => {
      const of = Object.entries(routes ?? {})
        .map(([text, value]) => ({ ...parsePrefix(text), value }))
        .filter((route) => route.family === family);
      return of.length === 0 ? null : shared(buildLpm(of, family));
    };
    words[record + ServiceField.sourceRoutes] = routes
      ? tables.sourceRoutes.push({ ipv4: table(4), ipv6: table(6) }) - 1
      : -1;
  });
  return new Steering(tables);
}

const ip = (src = '192.0.2.1'): PacketBuilder => {
  const builder = new PacketBuilder().ethernet();
  return src.includes(':') ? builder.ipv6({ src, dst: 'fc00::2' }) : builder.ipv4({ src, dst: '198.51.100.1' });
};
const udp = (payload: Uint8Array | readonly number[], src?: string): Packet =>
  guardedPacket(ip(src).udp({ sport: 5000, dport: 443 }).payload(payload).build());
const tcp = (id: number[], flags: number = TCP.ACK): Packet =>
  guardedPacket(
    ip()
      .tcp({ flags, options: [0xb7, 6, ...id] })
      .build(),
  );

const short = (cid: readonly number[] | Uint8Array): number[] => [0x43, ...cid, 7, 7, 7];
const long = (first: number, cid: readonly number[] | Uint8Array): number[] => [
  first,
  0,
  0,
  0,
  1,
  cid.length,
  ...cid,
  0,
];
const katranCid = (id: number): number[] => [0x80, id >> 16, (id >> 8) & 255, id & 255, 0, 0, 0, 0];

describe('steering by ids', () => {
  it('by connection ids of Katran, not of first packets', () => {
    const steer = steering({ quic: { scheme: 'katran' }, ids: [[1022], [1023, 0x030001]] });
    expect(steer.steer(udp(short(katranCid(1022))), 0)).toBe(0);
    expect(steer.by).toBe(SteeredBy.quicCid);
    expect(steer.mayStart).toBe(false);
    expect(steer.steer(udp(short(katranCid(0x030001))), 0)).toBe(1);
    expect(steer.steer(udp(long(0xe0, katranCid(1023))), 0)).toBe(1);
    expect(steer.steer(udp(long(0xc0, katranCid(1023))), 0)).toBe(Steered.none);
    expect(steer.steer(udp(short(katranCid(1021))), 0)).toBe(Steered.unknownId);
    expect(steer.by).toBe(SteeredBy.nothing);
    expect(steer.steer(udp(short([1, 2, 3, 4])), 0)).toBe(Steered.none);
  });

  it('by QUIC-LB, in every packet of a connection and from any address', () => {
    const key = [...Array(16).keys()];
    const configs = [
      { rotation: 0, serverIdLength: 4, nonceLength: 6, key: null },
      { rotation: 1, serverIdLength: 2, nonceLength: 8, key },
      { rotation: 2, serverIdLength: 6, nonceLength: 10, key },
      { rotation: 3, serverIdLength: 9, nonceLength: 5, key },
    ];
    const owned = ['0a0b0c0d', 'beef', '010203040506', '112233445566778899'];
    const steer = steering({
      quic: { scheme: 'quic-lb', configs },
      ids: [['hex:ffffffff'], owned.map((digits) => `hex:${digits}`)],
    });
    const next = random(2);
    configs.forEach((config, i) => {
      const nonce = Uint8Array.from({ length: config.nonceLength }, () => next() * 256);
      const cid = encodeQuicLbCid(config, { serverId: Uint8Array.from(Buffer.from(owned[i], 'hex')), nonce });
      for (const src of ['192.0.2.1', '203.0.113.99', 'fc00::77']) {
        expect(steer.steer(udp(short(cid), src), 0)).toBe(1);
        expect(steer.mayStart).toBe(false);
        expect(steer.steer(udp(long(0xe0, cid), src), 0)).toBe(1);
        expect(steer.mayStart).toBe(false);
        // A client sends its second Initial to the id that the server gave it.
        expect(steer.steer(udp(long(0xc0, cid), src), 0)).toBe(1);
        expect(steer.by).toBe(SteeredBy.quicCid);
        expect(steer.mayStart).toBe(true);
      }
      const stranger = encodeQuicLbCid(config, { serverId: new Uint8Array(config.serverIdLength), nonce });
      expect(steer.steer(udp(short(stranger)), 0)).toBe(Steered.unknownId);
      // A made-up id is no sign of something wrong.
      expect(steer.steer(udp(long(0xc0, stranger)), 0)).toBe(Steered.none);
      expect(steer.mayStart).toBe(false);
    });
    expect(steer.steer(udp(short(new Uint8Array(19).fill(0xe1))), 0)).toBe(Steered.none);
    expect(steer.steer(udp(short(new Uint8Array(19).fill(0x81))), 0)).toBe(Steered.none);
    expect(steer.steer(udp(long(0xe0, new Uint8Array(10))), 0)).toBe(Steered.none);
  });

  it('by stable UDP, and behind a connection id that names nobody', () => {
    const ids = [[0x030403], [5]];
    const payload = [0x52, 3, 4, 3, 0, 0, 0, 0, 1];
    const steer = steering({ stableUdp: true, ids }, { stableUdp: true, quic: { scheme: 'katran' }, ids });
    for (const service of [0, 1]) {
      expect(steer.steer(udp(payload), service)).toBe(0);
      expect(steer.by).toBe(SteeredBy.stableUdp);
      expect(steer.steer(udp([0x52, 9, 9, 9, 0, 0, 0, 0]), service)).toBe(Steered.unknownId);
      expect(steer.steer(udp([0x52, 0, 0, 0, 0, 0, 0, 0]), service)).toBe(Steered.none);
    }
  });

  it('by the TCP option, never of a SYN', () => {
    const steer = steering({ tcpServerId: true, ids: [[1022], [1025]] });
    expect(steer.steer(tcp([1, 4, 0, 0]), 0)).toBe(1);
    expect(steer.by).toBe(SteeredBy.tcpOption);
    expect(steer.steer(tcp([1, 4, 0, 0], TCP.SYN), 0)).toBe(Steered.none);
    expect(steer.steer(tcp([1, 4, 0, 0], TCP.SYN | TCP.ACK), 0)).toBe(Steered.none);
    expect(steer.steer(tcp([9, 9, 0, 0]), 0)).toBe(Steered.unknownId);
    expect(steer.steer(tcp([0, 0, 0, 0]), 0)).toBe(Steered.none);
    expect(steer.steer(udp(short(katranCid(1025))), 0)).toBe(Steered.none);
  });

  it('not where the service does not say so, and not in ICMP', () => {
    const steer = steering(
      {},
      { ids: [[1022], [1025]] },
      { quic: { scheme: 'katran' }, tcpServerId: true, stableUdp: true },
    );
    for (const service of [0, 1]) {
      expect(steer.steer(udp(short(katranCid(1022))), service)).toBe(Steered.none);
      expect(steer.steer(udp([0x52, 0, 0, 1, 0, 0, 0, 0]), service)).toBe(Steered.none);
      expect(steer.steer(tcp([1, 4, 0, 0]), service)).toBe(Steered.none);
      expect(steer.route(tcp([1, 4, 0, 0]), service)).toBe(Steered.none);
    }
    // A service without any ids has nobody to name.
    expect(steer.steer(udp(short(katranCid(1022))), 2)).toBe(Steered.unknownId);
    expect(
      steer.steer(
        guardedPacket(
          ip()
            .icmp({ type: 3 })
            .payload(short(katranCid(1022)))
            .build(),
        ),
        2,
      ),
    ).toBe(Steered.none);
  });

  it('keeps services apart', () => {
    const steer = steering(
      { tcpServerId: true, ids: [[7], [8]] },
      { tcpServerId: true, ids: [[8], [7]] },
      { quic: { scheme: 'katran' }, ids: [[8]] },
    );
    expect(steer.steer(tcp([8, 0, 0, 0]), 0)).toBe(1);
    expect(steer.steer(tcp([8, 0, 0, 0]), 1)).toBe(0);
    expect(steer.steer(tcp([8, 0, 0, 0]), 2)).toBe(Steered.none);
  });

  it('reads nothing outside the packet and never throws, whatever the bytes', () => {
    const configs = [0, 1, 2].map((rotation) => ({
      rotation,
      serverIdLength: 1 + rotation,
      nonceLength: 4 + rotation,
      key: rotation === 0 ? null : [...Array(16).keys()],
    }));
    const all = { stableUdp: true, tcpServerId: true, ids: [[1, 'hex:00', 'hex:0000']], routes: { '::/0': 0 } };
    const steer = steering({ ...all, quic: { scheme: 'katran' } }, { ...all, quic: { scheme: 'quic-lb', configs } });
    const next = random(33);
    for (let i = 0; i < 6000; i++) {
      const bytes = Uint8Array.from({ length: Math.floor(next() * 40) }, () => next() * 256);
      const packet = udp(bytes, i & 2 ? 'fc00::1' : undefined);
      expect(steer.steer(packet, i & 1)).toBeLessThanOrEqual(0);
      steer.route(packet, i & 1);
    }
  });
});

describe('steering by source', () => {
  it('takes the longest prefix, of either family', () => {
    const steer = steering(
      { routes: { '192.0.2.0/24': 1, '192.0.2.64/26': 2, 'fc00::/16': 3 } },
      { routes: { '0.0.0.0/0': 0 } },
      {},
    );
    expect(steer.route(udp([], '192.0.2.1'), 0)).toBe(1);
    expect(steer.route(udp([], '192.0.2.65'), 0)).toBe(2);
    expect(steer.route(udp([], '192.0.3.1'), 0)).toBe(Steered.none);
    expect(steer.route(udp([], 'fc00:1::9'), 0)).toBe(3);
    expect(steer.route(udp([], 'fd00:1::9'), 0)).toBe(Steered.none);
    expect(steer.route(udp([], '192.0.3.1'), 1)).toBe(0);
    expect(steer.route(udp([], 'fc00:1::9'), 1)).toBe(Steered.none);
    expect(steer.route(udp([], '192.0.2.1'), 2)).toBe(Steered.none);
    // No id is in it: the flow table comes first.
    expect(steer.steer(udp([], '192.0.2.1'), 0)).toBe(Steered.none);
  });
});

const vectors = katranVectors();

/** Katran's ids are the balancer's, whatever VIP they are used at: positions stand for all its backends. */
function sketchOf(suite: string, vip: KatranVip, backends: readonly string[]): ServiceSketch {
  const setup = katranSetup(suite)!;
  return {
    quic: vip.flags.includes('quic') ? { scheme: 'katran' } : undefined,
    stableUdp: vip.flags.includes('udp-stable-routing'),
    tcpServerId: setup.tcpServerId,
    ids: backends.map((backend) => [...setup.serverIds].filter(([, owner]) => owner === backend).map(([id]) => id)),
    routes: vip.flags.includes('src-routing')
      ? Object.fromEntries([...setup.sourceRoutes].map(([prefix, backend]) => [prefix, backends.indexOf(backend)]))
      : undefined,
  };
}

describe.skipIf(vectors === null)(`Katran's vectors${vectors === null ? ` (${NO_VECTORS})` : ''}`, () => {
  // What the connection table or the ring decides is for the whole path; here every packet with an id, and every routed source.
  it.each([
    ['base', 'quic-cid', { steered: 4, unknown: 2 }],
    ['tpr', 'tcp-server-id', { steered: 8, unknown: 2 }],
    ['udp_stable_rt', 'udp-stable-routing', { steered: 3, unknown: 0 }],
    ['lpm_src', 'src-routing', { steered: 6, unknown: 0 }],
  ])('%s', (suite, need, expected) => {
    const setup = katranSetup(suite)!;
    const backends = [...new Set([...setup.serverIds.values(), ...setup.sourceRoutes.values()])];
    const steer = steering(...setup.vips.map((vip) => sketchOf(suite, vip, backends)));
    const counts = { steered: 0, unknown: 0 };
    for (const { n, description, in: frame, outer, needs } of vectors!.suites[suite]) {
      if (!needs.includes(need)) continue;
      const packet = guardedPacket(frameOf(frame));
      const service = setup.vips.findIndex((vip) => {
        const { words } = parseAddress(vip.address);
        const same = [packet.dst0, packet.dst1, packet.dst2, packet.dst3].every((word, i) => word === words[i]);
        return same && vip.protocol === packet.protocol && [0, packet.destinationPort].includes(vip.port);
      });
      const found = need === 'src-routing' ? steer.route(packet, service) : steer.steer(packet, service);
      if (found === Steered.unknownId) counts.unknown++;
      if (found < 0) continue;
      counts.steered++;
      expect(backends[found], `${suite} ${n}: ${description}`).toBe(outer!.dst);
    }
    expect(counts).toEqual(expected);
  });
});
