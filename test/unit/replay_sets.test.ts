/** Sets of a configuration over a capture: no daemon, no workers, and the capture's clock. */
import { expect, it } from 'vitest';
import { parseConfig } from '../../src/control/config/index.js';
import { replay } from '../../src/control/replay.js';
import { classicFile } from '../support/capture_bytes.js';
import { PacketBuilder } from '../support/packet_builder.js';

const CONFIG = `
interfaces: [eth0]
services: [{name: web, vip: 192.0.2.1, port: 80, protocol: udp, backends: [10.0.0.1]}]
sets:
  - {name: bad, type: hash:net, timeout: 0, drop: src, entries: ["203.0.113.0/24 timeout 2", "203.0.113.7 nomatch"]}
  - {name: pairs, type: "hash:ip,port", entries: ["203.0.113.7,udp:80", "198.51.100.9,udp:80"]}
rules:
  - {name: seen, match: {set: {name: pairs, key: "src,dst"}}, action: count}
  - {name: not-both, match: {set: [bad, pairs]}, action: drop}
mitigation: {limits: [{name: limited, rate: 1/s, burst: 1, match: {set: {name: pairs, key: "src,dst"}, src: 198.51.100.9}}]}
`;

it('a replay drops and counts what is in sets, until its time is over', async () => {
  const packets: [source: string, ms: number][] = [
    ['203.0.113.1', 0],
    ['203.0.113.7', 10],
    ['198.51.100.8', 20],
    ['203.0.113.2', 1900],
    ['203.0.113.2', 3100],
    ['198.51.100.9', 3200],
    ['198.51.100.9', 3201],
  ];
  const input = classicFile(
    { little: true, nanoseconds: true },
    packets.map(([src, ms]) => ({
      seconds: 1_700_000_000 + Math.floor(ms / 1000),
      fraction: (ms % 1000) * 1_000_000,
      data: new PacketBuilder()
        .ethernet()
        .ipv4({ src, dst: '192.0.2.1' })
        .udp({ sport: 5, dport: 80 })
        .payload(20)
        .build(),
    })),
  );
  const report = await replay({ config: parseConfig(CONFIG), input });
  expect(report.reasons).toEqual({ set: 2, limited: 1 });
  expect(report.rules.map(({ name, packets }) => [name, packets])).toEqual([
    ['seen', 3],
    ['not-both', 0],
  ]);
  expect(report.violations).toEqual([]);
});
