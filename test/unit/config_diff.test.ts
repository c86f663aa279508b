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
    ['rules:', 'fragments: {slots: 1024}\nrules:', 'fragments.slots: 4096 → 1024'],
    ['rules:', 'fragments: {held: 64}\nrules:', 'fragments.held: 256 → 64'],
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
    ['port: 80', 'port: 81', ['services[web].port: [80] → [81]']],
    ['port: 80', 'port: any', ['services[web].port: [80] → any']],
    ['protocol: udp, backends', 'protocol: [udp, tcp], backends', ['services[dns].protocol: [17] → [17, 6]']],
    ['vip: 198.51.100.10', 'vip: 198.51.100.0/28', ['services[web].vip: 198.51.100.10 → 198.51.100.0/28']],
    ['port: 80', 'port: 80, ring_size: 251', ['services[web].ring_size: 65537 → 251']],
    ['port: 80', 'port: 80, flow_table: false', ['services[web].flow_table: true → false']],
    [
      'port: 80',
      'port: 80, hash_fields: [src]',
      ['services[web].hash_fields: [src, sport, dst, dport, protocol] → [src]'],
    ],
    [
      'port: 80',
      'port: 80, hops: 2, encapsulation: {kind: gue, gue: {variant: 0, checksum: computed}}',
      [
        'services[web].hops: 1 → 2',
        'services[web].encapsulation.kind: ipip → gue',
        'services[web].encapsulation.gue.variant: 1 → 0',
        'services[web].encapsulation.gue.checksum: zero → computed',
      ],
    ],
    ['port: 80', 'port: 80, flood: {max_new_per_second: 5}', ['services[web].flood.max_new_per_second: 0 → 5']],
    ['port: 80', 'port: 80, drain: {timeout: 10m}', ['services[web].drain.timeout: 0 → 600']],
    ['port: 80', 'port: 80, health: tcp', ['services[web].health: added']],
    ['port: 80', 'port: 80, mss_clamp: auto', ['services[web].mss_clamp: off → auto']],
    ['port: 80', 'port: 80, tcp_server_id: true', ['services[web].tcp_server_id: false → true']],
    [
      'protocol: udp, backends',
      'protocol: udp, stable_udp: true, backends',
      ['services[dns].stable_udp: false → true'],
    ],
    ['protocol: udp, backends', 'protocol: udp, quic: katran, backends', ['services[dns].quic: none → katran']],
    [
      'weight: 2',
      'weight: 2, server_ids: [7, "hex:0a0b"]',
      ['services[web].backends[10.0.0.2].server_ids: [] → [7, hex:0a0b]'],
    ],
    [
      'port: 80',
      'port: 80, source_routes: [{prefix: 192.0.2.0/24, backend: 10.0.0.1}]',
      ['services[web].source_routes: 0 routes → 1 routes'],
    ],
    ['rules:', 'encapsulation: gue\nrules:', ['encapsulation.kind: ipip → gue']],
    [
      'rules:',
      'encapsulation: {source: [10.0.0.9, "fd00::/64"]}\nrules:',
      ['encapsulation.source: by route → 10.0.0.9, fd00::/64'],
    ],
    [
      'rules:',
      'icmp: {echo: pass, too_big: drop, max_per_second: 5}\nrules:',
      ['icmp.echo: answer → pass', 'icmp.too_big: reply → drop', 'icmp.max_per_second: 1000 → 5'],
    ],
    [
      'rules:',
      'fragments: {policy: drop, out_of_order: drop, timeout: 1s}\nrules:',
      ['fragments.policy: follow → drop', 'fragments.out_of_order: hold → drop', 'fragments.timeout: 2 → 1'],
    ],
    [
      'rules:',
      'decapsulate: {addresses: 10.0.0.1, from: 10.0.0.0/8, gue_ports: [6080, 9886]}\nrules:',
      [
        'decapsulate.addresses: [] → [10.0.0.1]',
        'decapsulate.from: [] → [10.0.0.0/8]',
        'decapsulate.gue_ports: [6080] → [6080, 9886]',
      ],
    ],
    ['name: web', 'name: www', ['services[www]: added', 'services[web]: removed']],
    ['protocol: tcp}, action: count', 'protocol: tcp}, action: drop', ['rules[b]: changed']],
    ['  - {name: b, match: {protocol: tcp}, action: count}\n', '', ['rules[b]: removed']],
  ])('with %s → %s is applied live', (from, to, lines) => {
    expect(change(from, to)).toEqual({ restart: [], live: lines });
  });

  it('keeps keys out of what it says', () => {
    const glb = (key: string): string => `hash: glb, glb: {hash_key: "${key.repeat(16)}", seed: "${key.repeat(16)}"}`;
    const web = (keys: string) => parseConfig(BASE.replace('port: 80', `port: 80, ${keys}`));
    expect(diffConfig(web(glb('ab')), web(glb('cd'))).live).toEqual(['services[web].glb: keys changed']);
    const quic = (key: string) =>
      parseConfig(
        BASE.replace(
          'protocol: udp,',
          `protocol: udp, quic: {quic_lb: [{server_id_length: 2, nonce_length: 6${key}}]},`,
        ),
      );
    const [plain, one, two] = ['', `, key: "${'ab'.repeat(16)}"`, `, key: "${'cd'.repeat(16)}"`].map(quic);
    expect(diffConfig(one, two).live).toEqual(['services[dns].quic: keys changed']);
    const shown = (key: string): string => `[{rotation: 0, server_id_length: 2, nonce_length: 6, key: ${key}}]`;
    expect(diffConfig(plain, one).live).toEqual([`services[dns].quic: ${shown('none')} → ${shown('given')}`]);
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
