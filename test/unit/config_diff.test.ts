import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/errors.js';
import { assertLive, diffConfig, parseConfig } from '../../src/control/config/index.js';

const BASE = `
interfaces: [{name: eth0}, eth1]
flows: {timeouts: {udp: 30s}}
services:
  - {name: web, vip: 198.51.100.10, port: 80, backends: [10.0.0.1, {address: 10.0.0.2, weight: 2}]}
  - {name: dns, vip: 198.51.100.53, port: 53, protocol: udp, backends: [10.0.0.3]}
rules:
  - {name: a, match: {protocol: udp}, action: count}
  - {name: b, match: {protocol: tcp}, action: count}
`;

/** The difference that replacing `from` by `to` in BASE makes. */
function change(from: string, to: string): { restart: string[]; live: string[] } {
  expect(BASE).toContain(from);
  return diffConfig(parseConfig(BASE), parseConfig(BASE.replace(from, to)));
}

describe('a new configuration', () => {
  it('that says the same in other words changes nothing', () => {
    expect(diffConfig(parseConfig(BASE), parseConfig(BASE))).toEqual({ restart: [], live: [] });
    expect(change('udp: 30s', 'udp: 0.5m')).toEqual({ restart: [], live: [] });
    expect(change('10.0.0.1,', '{address: 10.0.0.1, weight: 1},')).toEqual({ restart: [], live: [] });
    expect(change('rules:', '# a comment\n\nrules:')).toEqual({ restart: [], live: [] });
    expect(change('eth1]', 'eth1]\nframes: {count: 8192}\nfilters: [sanity, rules]')).toEqual({
      restart: [],
      live: [],
    });
  });

  it.each([
    ['eth1]', 'eth2]', 'interfaces: eth0, eth1 → eth0, eth2'],
    ['{name: eth0}, eth1', 'eth1, eth0', 'interfaces: eth0, eth1 → eth1, eth0'],
    ['{name: eth0}', '{name: eth0, queues: 2}', 'interfaces[eth0].queues: all → [0, 1]'],
    ['{name: eth0}', '{name: eth0, mode: generic}', 'interfaces[eth0].mode: auto → generic'],
    ['{name: eth0}', '{name: eth0, poll: busy}', 'interfaces[eth0].poll: interrupt → busy'],
    ['{name: eth0}', '{name: eth0, host_path: false}', 'interfaces[eth0].host_path: true → false'],
    ['rules:', 'frames: {count: 16384}\nrules:', 'frames.count: 8192 → 16384'],
    ['rules:', 'frames: {size: 4096}\nrules:', 'frames.size: 2048 → 4096'],
    ['rules:', 'frames: {hugepages: true}\nrules:', 'frames.hugepages: false → true'],
    ['rules:', 'frames: {ring: 1024}\nrules:', 'frames.ring: 2048 → 1024'],
    ['rules:', 'frames: {burst: 32}\nrules:', 'frames.burst: 64 → 32'],
    ['flows: {', 'flows: {slots: 1024, ', 'flows.slots: 1048576 → 1024'],
    ['rules:', 'metrics: off\nrules:', 'metrics.listen: 127.0.0.1:9477 → off'],
    ['rules:', 'metrics: {listen: "[::1]:1"}\nrules:', 'metrics.listen: 127.0.0.1:9477 → [::1]:1'],
    ['rules:', 'control: {socket: /run/x.sock}\nrules:', 'control.socket: /run/sluice/control.sock → /run/x.sock'],
    ['rules:', 'log: {format: json}\nrules:', 'log.format: auto → json'],
  ])('with %s → %s needs a restart', (from, to, line) => {
    expect(change(from, to)).toEqual({ restart: [line], live: [] });
  });

  it.each([
    ['{name: eth0}', '{name: eth0, fallback: drop}', ['interfaces[eth0].fallback: pass → drop']],
    ['{name: eth0}', '{name: eth0, redirect: all}', ['interfaces[eth0].redirect: services → all']],
    ['{name: eth0}', '{name: eth0, checksum: repair}', ['interfaces[eth0].checksum: auto → repair']],
    ['udp: 30s', 'udp: 1m', ['flows.timeouts.udp: 30 → 60']],
    ['flows: {', 'flows: {max_new_per_second: 5, ', ['flows.max_new_per_second: 0 → 5']],
    ['rules:', 'encapsulation: {source: 10.0.0.9}\nrules:', ['encapsulation.source: by route → 10.0.0.9']],
    ['rules:', 'hash_key: secret\nrules:', ['hash_key: changed; flows that are not in a flow table move']],
    ['rules:', 'log: {level: debug}\nrules:', ['log.level: info → debug']],
    ['rules:', 'filters: [rules]\nrules:', ['filters: sanity, rules → rules']],
    ['rules:', 'filters: [{sanity: {checks: [land]}}, rules]\nrules:', ['filters: settings changed']],
    ['weight: 2', 'weight: 3', ['services[web].backends[10.0.0.2].weight: 2 → 3']],
    ['weight: 2', 'weight: 2, state: draining', ['services[web].backends[10.0.0.2].state: active → draining']],
    [
      '[10.0.0.3]',
      '[10.0.0.4]',
      ['services[dns].backends[10.0.0.4]: added', 'services[dns].backends[10.0.0.3]: removed'],
    ],
    ['port: 80', 'port: 81', ['services[web]: settings changed']],
    ['name: web', 'name: www', ['services[www]: added', 'services[web]: removed']],
    ['protocol: tcp}, action: count', 'protocol: tcp}, action: drop', ['rules[b]: changed']],
    ['  - {name: b, match: {protocol: tcp}, action: count}\n', '', ['rules[b]: removed']],
  ])('with %s → %s is applied live', (from, to, lines) => {
    expect(change(from, to)).toEqual({ restart: [], live: lines });
  });

  it('with rules in another order says so, since the first match decides', () => {
    const next = BASE.replace('name: a, match: {protocol: udp}', 'name: b, match: {protocol: tcp}').replace(
      /name: b, match: {protocol: tcp}, action: count}\n$/,
      'name: a, match: {protocol: udp}, action: count}\n',
    );
    expect(diffConfig(parseConfig(BASE), parseConfig(next))).toEqual({ restart: [], live: ['rules: order changed'] });
  });

  it('that needs a restart is refused whole, and everything that needs it is listed', () => {
    const diff = change('{name: eth0}', '{name: eth0, mode: copy, queues: 1}');
    let error: unknown;
    try {
      assertLive(diff);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(SluiceError);
    expect((error as SluiceError).code).toBe('SLUICE_CONFIG');
    expect((error as SluiceError).message).toBe(
      'these changes need a restart, so nothing was applied:\n  interfaces[eth0].queues: all → [0]\n  interfaces[eth0].mode: auto → copy',
    );
    expect((error as SluiceError).remedy).not.toBe('');
    expect(() => assertLive({ restart: [], live: ['rules[a]: changed'] })).not.toThrow();
  });
});
