import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { replay } from '../../src/control/replay.js';
import { syntheticNextHop } from '../../src/control/replay_hops.js';
import { readCapture } from '../../src/pcap/capture.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { formatMac, parseAddress, parsePrefix } from '../../src/shared/addr.js';
import type { Config, InterfaceConfig } from '../../src/shared/config.js';
import { classicFile } from '../support/capture_bytes.js';
import { makeConfig, makeNextHop, makeService } from '../support/configs.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const directory = mkdtempSync(join(tmpdir(), 'sluice-replay-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** A capture of frames at these ms. */
function capture(frames: Uint8Array[], atMs: (i: number) => number = (i) => i): Uint8Array {
  const packets = frames.map((data, i) => {
    const ms = atMs(i);
    return { seconds: 1_700_000_000 + Math.floor(ms / 1000), fraction: (ms % 1000) * 1_000_000, data };
  });
  return classicFile({ little: true, nanoseconds: true }, packets);
}

const tcp = (sport: number, flags: number = TCP.SYN, dst = '192.0.2.1'): Uint8Array =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: '203.0.113.9', dst })
    .tcp({ sport, dport: 80, flags })
    .payload('x')
    .build();
const udp = (dport: number): Uint8Array =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: '203.0.113.9', dst: '192.0.2.1' })
    .udp({ sport: 5, dport })
    .payload(20)
    .build();

function iface(name: string, parts: Partial<InterfaceConfig> = {}): InterfaceConfig {
  return {
    name,
    queues: 'all',
    mode: 'auto',
    poll: 'interrupt',
    checksum: 'auto',
    fallback: 'pass',
    redirect: 'services',
    hostPath: true,
    ...parts,
  };
}

const config = (parts: Partial<Config> = {}): Config =>
  makeConfig({
    interfaces: [iface('eth0')],
    services: [makeService({ vip: '192.0.2.1', backends: ['10.0.0.1', '10.0.0.2'] })],
    filters: [{ kind: 'rules' }],
    rules: [
      { name: 'seen', match: { protocol: 17 }, action: 'count' },
      { name: 'flood', match: { protocol: 17, dport: { first: 9, last: 9 } }, action: 'drop' },
    ],
    ...parts,
  });

const ALL = ['tx', 'redirect', 'pass', 'drop'] as const;

async function run(input: Uint8Array, parts: Partial<Config> = {}, options = {}) {
  const writer = new PcapngWriter('memory');
  const report = await replay({ config: config(parts), input, output: writer, outputs: ALL, ...options });
  return { report, bytes: writer.bytes().slice(), packets: [...readCapture(writer.bytes())] };
}

describe('replay', () => {
  it('sends a service’s packets to its backends, encapsulated as a worker would', async () => {
    const { report, packets } = await run(capture([tcp(1000), tcp(1001), tcp(1002), tcp(1003), tcp(1004)]));
    expect(packets).toHaveLength(5);
    for (const [i, packet] of packets.entries()) {
      const backend = /^verdict=tx service=web backend=(10\.0\.0\.[12])$/.exec(packet.comment!)?.[1];
      expect(backend, packet.comment).toBeDefined();
      const inner = tcp(1000 + i).subarray(14);
      const expected = new PacketBuilder()
        .ethernet({ dst: `02:00:0a:00:00:0${backend!.slice(-1)}`, src: '02:73:6c:75:69:63' })
        .ipv4({ src: '198.18.0.1', dst: backend, ttl: 64, id: 0, dontFragment: true, protocol: 4 })
        .payload(inner)
        .build();
      expect(packet.data).toEqual(expected);
      expect(packet.timestampNs).toBe(1_700_000_000_000_000_000n + BigInt(i) * 1_000_000n);
    }
    expect(report.verdicts).toEqual({ tx: 5, redirect: 0, pass: 0, drop: 0, aborted: 0 });
    expect(report.services).toEqual([{ name: 'web', packets: 5, bytes: 5 * 41 }]);
    expect(report.backends.reduce((sum, backend) => sum + backend.packets, 0)).toBe(5);
    expect(report.flows).toMatchObject({ miss: 5, inserted: 5, hit: 0 });
    expect(report.violations).toEqual([]);
  });

  it('says of each packet what happened to it and why', async () => {
    const frames = [
      udp(9),
      udp(10),
      tcp(1, TCP.SYN, '192.0.2.77'),
      tcp(1).subarray(0, 20),
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: '203.0.113.9', dst: '192.0.2.1' })
        .tcp({ dport: 80 })
        .payload(1461)
        .build(),
    ];
    const { report, packets } = await run(capture(frames), {
      icmp: { echo: 'answer', tooBig: 'drop', maxPerSecond: 0 },
    });
    expect(packets.map((packet) => packet.comment)).toEqual([
      'verdict=drop reason=rule rule=seen rule=flood',
      'verdict=pass rule=seen',
      'verdict=pass',
      'verdict=drop reason=ipv4_truncated',
      'verdict=drop reason=too_big',
    ]);
    expect(report).toMatchObject({
      captured: 5,
      cut: 0,
      packets: 5,
      bytes: frames.reduce((sum, frame) => sum + frame.length, 0),
      tooLong: 0,
      verdicts: { tx: 0, redirect: 0, pass: 2, drop: 3, aborted: 0 },
      reasons: { rule: 1, ipv4_truncated: 1, too_big: 1 },
      noService: 2,
      rules: [
        { name: 'seen', packets: 2 },
        { name: 'flood', packets: 1 },
      ],
      written: 5,
      errors: [],
      damage: null,
      durationMs: 4,
      violations: [],
    });
  });

  it('gives the same report and the same bytes each time, and the same verdicts in bursts', async () => {
    const frames = Array.from({ length: 500 }, (_, i) =>
      i % 7 === 0 ? udp(9 + (i % 2)) : tcp(1000 + (i % 50), TCP.ACK),
    );
    const input = capture(frames, (i) => Math.floor(i / 20) * 3);
    const first = await run(input);
    const again = await run(input);
    expect(again.report).toEqual(first.report);
    expect(Buffer.compare(again.bytes, first.bytes)).toBe(0);
    const inBursts = await run(input, {}, { lockstep: false });
    expect(inBursts.report).toEqual(first.report);
    expect(inBursts.packets.map((packet) => packet.data)).toEqual(first.packets.map((packet) => packet.data));
    expect(first.report.verdicts.tx).toBe(428);
    expect(first.report.flows.hit).toBe(378);
  });

  it('lets flows age by the capture’s clock', async () => {
    const frames = [tcp(1000), tcp(1000, TCP.ACK), tcp(1000, TCP.ACK)];
    const young = await run(capture(frames, (i) => i * 4_000));
    expect(young.report.flows).toMatchObject({ miss: 1, hit: 2, expired: 0 });
    // Longer than tcpSyn (5 s) after the SYN, then longer than tcpEstablished (300 s).
    const old = await run(capture(frames, (i) => [0, 6_000, 400_000][i]));
    expect(old.report.flows).toMatchObject({ miss: 3, hit: 0, expired: 2 });
    expect(old.report.durationMs).toBe(400_000);
  });

  it('redirects to the port that a known next hop leads out of', async () => {
    const nextHops = new Map([['10.0.0.1', makeNextHop('10.0.0.1', { interface: 'eth1' })]]);
    const parts = {
      interfaces: [iface('eth0'), iface('eth1')],
      services: [makeService({ backends: ['10.0.0.1'] })],
    };
    const { report, bytes } = await run(capture([tcp(1)]), parts, { nextHops });
    const written = readCapture(bytes);
    expect(report.verdicts).toMatchObject({ tx: 0, redirect: 1 });
    expect(written.interfaces.map(({ name }) => name)).toEqual(['eth0', 'eth1']);
    expect(written.packet(0)).toMatchObject({
      interfaceId: 1,
      comment: 'verdict=redirect service=web backend=10.0.0.1',
    });
    const back = await run(capture([tcp(1)]), parts, { nextHops, interface: 'eth1' });
    expect(back.report.verdicts).toMatchObject({ tx: 1, redirect: 0 });
  });

  it('balances IPv6 over IPv6 with made-up next hops', async () => {
    const frame = new PacketBuilder()
      .ethernet()
      .ipv6({ src: '2001:db8::9', dst: '2001:db8::1' })
      .tcp({ dport: 80, flags: TCP.SYN })
      .build();
    const services = [makeService({ vip: '2001:db8::1', backends: ['2001:db8:1::1'] })];
    const { report, packets } = await run(capture([frame]), { services });
    expect(report.verdicts.tx).toBe(1);
    expect(packets[0].data.subarray(54)).toEqual(frame.subarray(14));
    expect(packets[0].data[0] & 0x03).toBe(0x02);
  });

  it('repairs checksums only where the config says so', async () => {
    const frame = new PacketBuilder()
      .ethernet()
      .ipv4({ src: '203.0.113.9', dst: '192.0.2.1' })
      .tcp({ sport: 7, dport: 80, checksum: 'pseudo' })
      .payload('hello')
      .build();
    const whole = new PacketBuilder()
      .ethernet()
      .ipv4({ src: '203.0.113.9', dst: '192.0.2.1' })
      .tcp({ sport: 7, dport: 80 })
      .payload('hello')
      .build();
    for (const [checksum, expected] of [
      ['auto', frame],
      ['repair', whole],
    ] as const) {
      const { packets } = await run(capture([frame]), { interfaces: [iface('eth0', { checksum })] });
      expect(packets[0].data.subarray(34)).toEqual(expected.subarray(14));
    }
  });

  it('runs a user’s filter with the capture’s clock, and tells which packet it threw over', async () => {
    const path = join(directory, 'filter.mjs');
    writeFileSync(
      path,
      `export default { name: 'mine', create: ({ nowMs, options }) => (packet) => {
         if (nowMs() === options.throwAt) throw new Error('at ' + nowMs());
         return nowMs() === options.dropAt ? 1 : -1;
       } };`,
    );
    const filters: Config['filters'] = [{ kind: 'module', name: 'mine', path, options: { throwAt: 20, dropAt: 10 } }];
    const input = capture([tcp(1), tcp(2), tcp(3), tcp(4)], (i) => i * 10);
    for (const lockstep of [true, false]) {
      const { report, packets } = await run(input, { filters }, { lockstep });
      expect(report).toMatchObject({
        verdicts: { tx: 2, drop: 1, aborted: 1 },
        reasons: { filter: 1, policy_threw: 1 },
        filters: [{ name: 'mine', dropped: 1 }],
        errors: [{ packet: 3, message: 'at 20' }],
        violations: [],
      });
      const comments = packets.map((packet) => packet.comment);
      expect(comments.slice(1, 3)).toEqual(
        lockstep
          ? ['verdict=drop reason=filter filter=mine', 'verdict=aborted reason=policy_threw']
          : ['verdict=drop', 'verdict=aborted'],
      );
    }
  });

  it('counts packets that no frame can hold, and loses passed ones without a host path', async () => {
    const long = new PacketBuilder().ethernet().ipv4({}).udp({ dport: 1 }).payload(1800).build();
    const { report, packets } = await run(capture([long, udp(10)]), {
      interfaces: [iface('eth0', { hostPath: false })],
    });
    expect(report).toMatchObject({ captured: 2, packets: 1, tooLong: 1, verdicts: { pass: 1 }, violations: [] });
    expect(packets.map((packet) => packet.comment)).toEqual(['verdict=pass lost=no-host rule=seen']);
  });

  it('replays what is before the damage when asked to, and refuses otherwise', async () => {
    const cut = capture([tcp(1), tcp(2)]).subarray(0, -1);
    await expect(run(cut)).rejects.toThrow(/byte 95: packet 2 says/);
    const { report } = await run(cut, {}, { strict: false });
    expect(report).toMatchObject({ captured: 1, packets: 1, verdicts: { tx: 1 } });
    expect(report.damage).toMatch(/byte 95: packet 2 says it has 55 bytes/);
  });

  it('writes a file, but not before it is sure of input and config, and never over the input', async () => {
    const input = join(directory, 'in.pcap');
    const output = join(directory, 'out.pcapng');
    writeFileSync(input, capture([tcp(1), udp(9)]));
    const options = { config: config(), input, output };
    await expect(replay({ ...options, input: join(directory, 'none') })).rejects.toMatchObject({
      code: 'SLUICE_USAGE',
    });
    await expect(replay({ ...options, interface: 'eth9' })).rejects.toThrow('the config has no interface eth9');
    await expect(
      replay({
        ...options,
        config: config({ filters: [{ kind: 'module', name: 'x', path: join(directory, 'no.mjs'), options: null }] }),
      }),
    ).rejects.toMatchObject({ code: 'SLUICE_CONFIG' });
    expect(existsSync(output)).toBe(false);
    await expect(replay({ ...options, output: input })).rejects.toThrow('is the capture that is read');
    expect(readCapture(readFileSync(input)).length).toBe(2);
    const report = await replay(options);
    expect(report.written).toBe(1);
    expect([...readCapture(output)].map((packet) => packet.comment)).toEqual([
      expect.stringMatching(/^verdict=tx service=web backend=/),
    ]);
  });

  it('reports without an output file', async () => {
    const report = await replay({ config: config(), input: capture([udp(9)]) });
    expect(report).toMatchObject({ verdicts: { drop: 1 }, written: 0 });
  });

  it('ends when it is told to', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(run(capture([udp(9)]), {}, { signal })).rejects.toThrow('enough');
  });
});

describe('syntheticNextHop', () => {
  it('makes a locally administered unicast address that belongs to the backend alone', () => {
    const macs = ['10.0.0.1', '10.0.0.2', '2001:db8::1', '2001:db8::2'].map((text) =>
      formatMac(syntheticNextHop(parseAddress(text), 'eth0').dmac!),
    );
    expect(macs.slice(0, 2)).toEqual(['02:00:0a:00:00:01', '02:00:0a:00:00:02']);
    expect(new Set(macs).size).toBe(4);
    for (const mac of macs) expect(mac.slice(0, 2)).toBe('02');
    expect(formatMac(syntheticNextHop(parsePrefix('2001:db8::1'), 'eth0').dmac!)).toBe(macs[2]);
  });
});
