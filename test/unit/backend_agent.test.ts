/** Settings of the backend agent, and when it asks for hardware addresses of hops. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { HopKeeper } from '../../src/control/agent/hops.js';
import { readSettings, resolveSettings, type RawSettings } from '../../src/control/agent/settings.js';
import { parseAddress } from '../../src/shared/addr.js';

const LEAST: RawSettings = { interface: ['eth0'], from: ['10.0.0.0/28'] };

describe('settings', () => {
  it('have defaults for all but interface and sources', () => {
    expect(resolveSettings(LEAST)).toMatchObject({
      interfaces: ['eth0'],
      vips: [],
      addresses: [],
      guePorts: [6080],
      secondHop: true,
      verifyUdpChecksum: true,
      mode: 'auto',
      sysctl: false,
      statsIntervalMs: 60_000,
      metrics: null,
    });
  });

  it('take options before the file', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-agent-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const path = join(directory, 'backend.yaml');
    writeFileSync(
      path,
      'interface: eth1\nfrom: [10.0.0.0/28, "fd00::/64"]\nvip: 198.51.100.0/24\ngue_port: 19523\nsecond_hop: off\nsysctl: true\nmetrics: 127.0.0.1:9478\n',
    );
    const file = readSettings(path);
    expect(resolveSettings(file, { gue_port: ['6080', '19523'], second_hop: 'on' })).toMatchObject({
      interfaces: ['eth1'],
      vips: [{ text: '198.51.100.0', length: 24 }],
      guePorts: [6080, 19523],
      secondHop: true,
      sysctl: true,
      metrics: { host: '127.0.0.1', port: 9478 },
    });
    expect(resolveSettings(file).secondHop).toBe(false);
    writeFileSync(path, 'interfaces: [eth0]\n');
    expect(() => readSettings(path)).toThrow(/there is no interfaces; there are interface, vip/);
    writeFileSync(path, 'interface: [eth0\n');
    expect(() => readSettings(path)).toThrow(path);
    writeFileSync(path, 'from: 10.0.0.1/28\n');
    expect(() => readSettings(path)).toThrow(
      expect.objectContaining({
        code: 'SLUICE_CONFIG',
        message: `${path}: from: "10.0.0.1/28" has bits set beyond its length`,
        remedy: expect.stringContaining('10.0.0.0/28') as string,
      }),
    );
    expect(() => readSettings(`${path}.none`)).toThrow(/cannot read/);
  });

  it.each<[RawSettings, RegExp]>([
    [{ from: ['10.0.0.1'] }, /no interface/],
    [{ interface: ['eth0'] }, /no outer source/],
    [{ ...LEAST, interface: ['../eth0'] }, /no name of an interface/],
    [{ ...LEAST, interface: ['sixteen-letters-'] }, /no name of an interface/],
    [{ ...LEAST, vip: ['198.51.100.1/24'] }, /^vip: .* bits set beyond/],
    [{ ...LEAST, from: ['nobody'] }, /^from: .* not an IP address/],
    [{ ...LEAST, address: ['::ffff:192.0.2.1'] }, /^address: .* IPv4-mapped/],
    [{ ...LEAST, gue_port: ['0'] }, /gue_port/],
    [{ ...LEAST, gue_port: ['1', '2', '3', '4', '5'] }, /5 GUE ports are too many/],
    [{ ...LEAST, second_hop: 'maybe' }, /second_hop/],
    [{ ...LEAST, udp_checksum: 'off' }, /udp_checksum/],
    [{ ...LEAST, mode: 'offload' }, /mode/],
    [{ ...LEAST, stats_interval: '-1' }, /stats_interval/],
    [{ ...LEAST, metrics: '9478' }, /address:port/],
  ])('refuse %j', (raw, why) => {
    expect(() => resolveSettings(raw)).toThrow(why);
    expect(() => resolveSettings(raw)).toThrow(expect.objectContaining({ code: 'SLUICE_USAGE' }));
  });
});

describe('hops', () => {
  it('are asked for when packets wait for them, and again while they are in use', () => {
    const asked: string[] = [];
    const keeper = new HopKeeper({ ask: ({ text }) => asked.push(text) });
    const hop = (forwarded: number, unresolved: number) => [
      { address: parseAddress('10.0.0.12'), forwarded, unresolved },
    ];
    const look = (nowMs: number, forwarded: number, unresolved: number): number => {
      asked.length = 0;
      keeper.look(hop(forwarded, unresolved), nowMs);
      return asked.length;
    };
    expect(look(0, 0, 1)).toBe(1);
    expect(asked).toEqual(['10.0.0.12']);
    expect(look(50, 0, 1)).toBe(0);
    expect(look(100, 0, 2)).toBe(1);
    expect(look(5_000, 100, 2)).toBe(0);
    expect(look(10_200, 200, 2)).toBe(1);
    // Idle: nobody needs it.
    expect(look(60_000, 200, 2)).toBe(0);
  });
});
