import { describe, expect, it } from 'vitest';
import { ChallengeVerdict, DEFAULT_CHALLENGE, SynChallenge } from '../../src/dataplane/mitigate/challenge.js';
import { TcpReason } from '../../src/dataplane/mitigate/connections.js';
import { DEFAULT_OUT_OF_STATE, OutOfState, type OutOfStateOptions } from '../../src/dataplane/mitigate/out_of_state.js';
import { TcpGuard, TcpVerdict } from '../../src/dataplane/mitigate/tcp_guard.js';
import { flow, hashed } from '../support/flow_packets.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed, random } from '../support/packets.js';
import { ACK, RST, SegmentPacket, SYN } from '../support/tcp_client.js';

const maker = new SegmentPacket();
const words = (): Int32Array => new Int32Array(64 * 16);
const stage = (options: Partial<OutOfStateOptions>): OutOfState =>
  new OutOfState({ ...DEFAULT_OUT_OF_STATE, ...options }, words());
const stray = (port = 1): ReturnType<SegmentPacket['of']> => maker.of(port, { flags: ACK, sequence: 5, payload: 0 });

describe('out-of-state TCP', () => {
  it('off looks at nothing, monitor counts, mitigate drops', () => {
    for (const [mode, count, reason] of [
      ['off', 0, TcpReason.none],
      ['monitor', 1, TcpReason.none],
      ['mitigate', 1, TcpReason.notFound],
    ] as const) {
      const filter = stage({ mode, adopt: 'never' });
      expect(filter.judge(stray(), 0), mode).toBe(reason);
      expect(filter.notFound, mode).toBe(count);
    }
  });

  it('lets all that is not TCP pass, and fragments without a header', () => {
    const filter = stage({ mode: 'mitigate', adopt: 'never' });
    expect(filter.judge(flow(1), 0)).toBe(TcpReason.none);
    expect(filter.judge(flow(1, { protocol: 6, l4: 0, flags: 3 }), 0)).toBe(TcpReason.none);
    expect(filter.judge(flow(1, { family: 0, protocol: 0 }), 0)).toBe(TcpReason.none);
  });

  it('counts by reason', () => {
    const filter = stage({ mode: 'mitigate', adopt: 'never' });
    const steps: [number, number][] = [[ACK, 1], [SYN | ACK, 1], [SYN, 9], [ACK, 1 << 30], [ACK, 10], [RST, 10], [ACK, 10]]; // prettier-ignore
    for (const [flags, sequence] of steps) filter.judge(maker.of(1, { flags, sequence, payload: 0 }), 0);
    expect(filter).toMatchObject({ notFound: 1, unexpected: 1, outOfSequence: 1, alreadyClosed: 1 });
  });

  it('learns for its time from the first packet, over the edge of the clock, and no longer', () => {
    const filter = stage({ mode: 'mitigate', adopt: 'learning', learningMs: 1000 });
    const start = 0x7fffffff - 500;
    expect(filter.judge(stray(1), start)).toBe(TcpReason.none);
    expect(filter.judge(stray(2), (start + 999) | 0)).toBe(TcpReason.none);
    expect(filter.judge(stray(3), (start + 1000) | 0)).toBe(TcpReason.notFound);
    // What was learnt stays.
    for (const port of [1, 2]) expect(filter.judge(stray(port), (start + 2000) | 0)).toBe(TcpReason.none);
    expect(filter.judge(stray(3), (start + 0x7fffffff) | 0)).toBe(TcpReason.notFound);
    expect(filter.isLearning).toBe(false);
  });

  it('adopts always when told so', () => {
    const filter = stage({ mode: 'mitigate', adopt: 'always', learningMs: 1 });
    for (let port = 1; port < 20; port++) expect(filter.judge(stray(port), port * 100_000)).toBe(TcpReason.none);
  });
});

describe('both TCP stages together', () => {
  const syn = (): ReturnType<typeof parsed> =>
    hashed(
      parsed(
        new PacketBuilder()
          .ethernet()
          .ipv4({ src: '203.0.113.9', dst: '198.51.100.1' })
          .tcp({ sport: 4000, dport: 80, flags: TCP.SYN, seq: 1000 })
          .build(),
      ),
    );
  const client = (flags: number, seq: number): ReturnType<typeof parsed> =>
    hashed(
      parsed(
        new PacketBuilder()
          .ethernet()
          .ipv4({ src: '203.0.113.9', dst: '198.51.100.1' })
          .tcp({ sport: 4000, dport: 80, flags, seq })
          .build(),
      ),
    );

  it('remember nothing of a SYN that is challenged, and know the RST that answers', () => {
    const guard = new TcpGuard(
      new SynChallenge({ ...DEFAULT_CHALLENGE, mode: 'always' }, [1, 2, 3, 4]),
      stage({ mode: 'mitigate', adopt: 'never' }),
    );
    const challenged = syn();
    expect(guard.judge(challenged, 0)).toBe(TcpVerdict.Tx);
    expect(guard.outOfState.connections.table.count).toBe(0);
    const cookie = challenged.view.getUint32(challenged.l4 + 8);
    expect(guard.judge(client(TCP.RST, cookie ^ 1), 1)).toBe(TcpVerdict.notFound);
    expect(guard.judge(client(TCP.RST, cookie), 1)).toBe(TcpVerdict.challengeAnswer);
    expect(guard.judge(syn(), 2)).toBe(TcpVerdict.Continue);
    expect(guard.judge(client(TCP.ACK, 1001), 3)).toBe(TcpVerdict.Continue);
    expect(guard.judge(client(TCP.SYN | TCP.ACK, 1001), 3)).toBe(TcpVerdict.unexpected);
    expect(guard.judge(client(TCP.ACK, 0xf0000000), 3)).toBe(TcpVerdict.Continue);
    expect(guard.judge(client(TCP.ACK, 0x80000000), 3)).toBe(TcpVerdict.outOfSequence);
    expect(guard.outOfState.connections.table.count).toBe(1);
  });

  it('never throw, never write into a packet that they let go on, and stay inside of every other', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const guard = new TcpGuard(
      new SynChallenge({ ...DEFAULT_CHALLENGE, mode: 'always', slots: 64 }, [1, 2, 3, 4]),
      stage({ mode: 'mitigate', adopt: 'always' }),
    );
    const builders = [
      () => new PacketBuilder().ethernet().ipv4(),
      () => new PacketBuilder().ethernet().vlan(5).ipv6(),
      () => new PacketBuilder().ethernet().ipv6().extension(60),
    ];
    const seen = new Set<number>();
    for (let round = 0; round < 20_000; round++) {
      const flags = next() < 0.5 ? TCP.SYN : Math.floor(next() * 256);
      const frame = builders[round % 3]()
        .tcp({ flags, seq: Math.floor(next() * 0x100000000) })
        .payload(round % 40)
        .build();
      for (let i = Math.floor(next() * 4); i > 0; i--)
        frame[12 + Math.floor(next() * (frame.length - 12))] = next() * 256;
      const packet = parsed(frame.subarray(0, next() < 0.1 ? Math.floor(next() * frame.length) : frame.length));
      if (packet.malformed !== 0) continue;
      const { data, dataEnd } = packet;
      if (packet.family !== 0) hashed(packet);
      const before = new Uint8Array(packet.view.buffer.slice(0));
      const verdict = guard.judge(packet, round);
      seen.add(verdict);
      const after = new Uint8Array(packet.view.buffer);
      const [from, to] = verdict === TcpVerdict.Tx ? [data, dataEnd] : [data, data];
      expect(Buffer.compare(after.subarray(0, from), before.subarray(0, from)), `seed ${seed}`).toBe(0);
      expect(Buffer.compare(after.subarray(to), before.subarray(to)), `seed ${seed}`).toBe(0);
      expect(packet.dataEnd, `seed ${seed}`).toBeLessThanOrEqual(dataEnd);
    }
    expect(seen).toContain(TcpVerdict.Tx);
    expect(seen).toContain(TcpVerdict.challengeNeeded);
    expect(seen).toContain(TcpVerdict.unexpected);
  });

  it('have one number for each drop reason', () => {
    expect([TcpVerdict.unexpected, TcpVerdict.notFound, TcpVerdict.outOfSequence, TcpVerdict.alreadyClosed]).toEqual([
      TcpReason.unexpected,
      TcpReason.notFound,
      TcpReason.outOfSequence,
      TcpReason.alreadyClosed,
    ]);
    expect(ChallengeVerdict.Continue).toBe(0);
  });
});
