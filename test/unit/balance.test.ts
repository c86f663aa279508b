/** What a service may say of its balancing, on the whole path: fields of the hash, floods, drains, ids, source routes, chains. */
import { describe, expect, it } from 'vitest';
import { Counter } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const BACKENDS = ['10.0.0.11', '10.0.0.12', '10.0.0.13', '10.0.0.14'];

function labOf(service: string, more = ''): Lab {
  return new Lab(`
interfaces: [eth0]
services:
  - name: web
    vip: 198.51.100.10
    ${service.trim().replaceAll('\n', '\n    ')}
    backends: [${BACKENDS.join(', ')}]
${more}`);
}

interface Sketch {
  src?: string;
  sport?: number;
  dport?: number;
  flags?: number;
}

function tcp({ src = '192.0.2.1', sport = 40000, dport = 80, flags = TCP.SYN }: Sketch = {}): Uint8Array {
  return new PacketBuilder().ethernet().ipv4({ src, dst: '198.51.100.10' }).tcp({ sport, dport, flags }).build();
}

function udp(
  { src = '192.0.2.1', sport = 40000, dport = 80 }: Sketch = {},
  payload: number | Uint8Array = 8,
): Uint8Array {
  return new PacketBuilder()
    .ethernet()
    .ipv4({ src, dst: '198.51.100.10' })
    .udp({ sport, dport })
    .payload(payload)
    .build();
}

/** Outer IPv4 destinations of what leaves. */
function backends(lab: Lab, frames: Uint8Array[]): string[] {
  return lab
    .run(frames)
    .sent.flat()
    .map((frame) => [...frame.subarray(30, 34)].join('.'));
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('fields of the hash', () => {
  it('that are left out do not matter, and the others do', () => {
    const lab = labOf('port: any\nflow_table: false\nhash_fields: [src, dport]');
    const bySport = backends(
      lab,
      range(50).map((i) => tcp({ sport: 1000 + i })),
    );
    expect(new Set(bySport).size).toBe(1);
    const bySrc = backends(
      lab,
      range(50).map((i) => tcp({ src: `192.0.2.${i + 1}` })),
    );
    expect(new Set(bySrc).size).toBe(4);
    const byDport = backends(
      lab,
      range(50).map((i) => tcp({ dport: 2000 + i })),
    );
    expect(new Set(byDport).size).toBe(4);
    expect(lab.violations()).toEqual([]);
  });

  it('of the destination port alone send every client of a port to one backend', () => {
    const lab = labOf('port: any\nflow_table: false\nhash_fields: dport');
    const one = backends(
      lab,
      range(50).map((i) => tcp({ src: `192.0.2.${i + 1}`, sport: 1000 + i, dport: 443 })),
    );
    expect(new Set(one).size).toBe(1);
  });

  it('pick the same backend on nodes that know nothing of each other', () => {
    const frames = range(200).map((i) => tcp({ sport: 1000 + i }));
    for (const hash of ['sluice', 'katran', 'katran-v2', 'glb']) {
      const pick = () =>
        backends(labOf(`port: 80\nflow_table: false\nhash: ${hash}\nhash_fields: [src, sport]`), frames);
      const first = pick();
      expect(pick()).toEqual(first);
      expect(new Set(first).size, hash).toBe(4);
    }
  });
});

describe('floods of new flows', () => {
  const frames = range(120).map((i) => tcp({ sport: 1000 + i }));

  it('pass by the flow table above the service’s rate', () => {
    const lab = labOf('port: 80\nflood: { max_new_per_second: 50 }');
    expect(backends(lab, frames)).toHaveLength(120);
    expect([lab.total(Counter.flowInsert), lab.total(Counter.flowBypass)]).toEqual([50, 70]);
    lab.nowMs += 1000;
    backends(
      lab,
      range(60).map((i) => tcp({ sport: 5000 + i })),
    );
    expect(lab.total(Counter.flowInsert)).toBe(100);
  });

  it('are dropped above it where the service says so, flows that are known are not', () => {
    const lab = labOf('port: 80\nflood: { max_new_per_second: 50, above: drop }');
    expect(backends(lab, frames)).toHaveLength(50);
    expect(lab.drops()).toEqual({ flood: 70 });
    expect(backends(lab, frames.slice(0, 50))).toHaveLength(50);
    expect(lab.violations()).toEqual([]);
  });

  it('of one service take nothing from another', () => {
    const lab = labOf(
      'port: 80\nflood: { max_new_per_second: 10, above: drop }',
      '  - { name: other, vip: 198.51.100.10, port: 81, backends: [10.0.0.11] }\n',
    );
    expect(backends(lab, frames)).toHaveLength(10);
    expect(
      backends(
        lab,
        range(40).map((i) => tcp({ sport: 1000 + i, dport: 81 })),
      ),
    ).toHaveLength(40);
  });
});

describe('UDP flows of a draining backend', () => {
  const frames = range(100).map((i) => udp({ sport: 1000 + i }));

  it.each([
    ['keep', 'stay with it'],
    ['move', 'leave it at once'],
  ])('%s: %s', (policy) => {
    const lab = labOf(`port: 80\nprotocol: udp\ndrain: { udp: ${policy} }`);
    const before = backends(lab, frames);
    lab.setBackend('web', '10.0.0.11', { state: 'draining' });
    const after = backends(lab, frames);
    const there = before.filter((backend) => backend === '10.0.0.11').length;
    expect(there).toBeGreaterThan(5);
    expect(after.filter((backend) => backend === '10.0.0.11')).toHaveLength(policy === 'keep' ? there : 0);
    before.forEach((backend, i) => {
      if (backend !== '10.0.0.11') expect(after[i]).toBe(backend);
    });
    expect(lab.backend('web', '10.0.0.11').flows).toBe(policy === 'keep' ? there : 0);
    expect(lab.violations()).toEqual([]);
  });
});

describe('source routes', () => {
  it('decide for new flows by the longest prefix, where the backend takes any', () => {
    const lab = new Lab(`
interfaces: [eth0]
services:
  - name: web
    vip: 198.51.100.10
    port: 80
    backends: [10.0.0.11, 10.0.0.12, { address: 10.0.0.13, weight: 0 }]
    source_routes:
      - { prefix: 192.0.2.0/24, backend: 10.0.0.11 }
      - { prefix: 192.0.2.128/25, backend: 10.0.0.12 }
      - { prefix: 203.0.113.0/24, backend: 10.0.0.13 }
`);
    const near = backends(
      lab,
      range(50).map((i) => tcp({ src: `192.0.2.${i + 1}` })),
    );
    const far = backends(
      lab,
      range(50).map((i) => tcp({ src: `192.0.2.${i + 130}` })),
    );
    const zero = backends(
      lab,
      range(50).map((i) => tcp({ src: `203.0.113.${i + 1}` })),
    );
    const other = backends(
      lab,
      range(50).map((i) => tcp({ src: `198.18.0.${i + 1}` })),
    );
    expect([new Set(near), new Set(far)]).toEqual([new Set(['10.0.0.11']), new Set(['10.0.0.12'])]);
    // Weight 0 keeps the ring away, not routes.
    expect(new Set(zero)).toEqual(new Set(['10.0.0.13']));
    expect([...new Set(other)].sort()).toEqual(['10.0.0.11', '10.0.0.12']);
    expect(lab.total(Counter.sourceRouted)).toBe(150);
    lab.setBackend('web', '10.0.0.11', { state: 'draining' });
    // Known flows stay, new ones go where somebody takes them.
    expect(new Set(backends(lab, [tcp({ src: '192.0.2.1' })]))).toEqual(new Set(['10.0.0.11']));
    expect(new Set(backends(lab, [tcp({ src: '192.0.2.99', sport: 7 })]))).toEqual(new Set(['10.0.0.12']));
  });
});

describe('QUIC connection ids', () => {
  /** A short header with Katran's version 1 id. */
  function short(id: number, sport: number): Uint8Array {
    const cid = new Uint8Array(8);
    cid[0] = 0x40 | ((id >> 10) & 0x3f);
    cid[1] = (id >> 2) & 0xff;
    cid[2] = (id << 6) & 0xff;
    return udp({ sport, dport: 443 }, Uint8Array.of(0x40, ...cid, 1, 2, 3, 4, 5, 6, 7, 8));
  }
  const yaml = `
interfaces: [eth0]
services:
  - name: quic
    vip: 198.51.100.10
    port: 443
    protocol: udp
    quic: katran
    backends:
      - { address: 10.0.0.11, server_ids: [1022] }
      - { address: 10.0.0.12, server_ids: [1023] }
      - { address: 10.0.0.13, server_ids: [1025], weight: 0 }
`;

  it('keep a connection on its backend when the client’s port changes', () => {
    const lab = new Lab(yaml);
    for (const [id, backend] of [
      [1022, '10.0.0.11'],
      [1023, '10.0.0.12'],
      [1025, '10.0.0.13'],
    ] as const) {
      expect(
        new Set(
          backends(
            lab,
            range(20).map((i) => short(id, 3000 + i)),
          ),
        ),
      ).toEqual(new Set([backend]));
    }
    expect(lab.total(Counter.idRouted)).toBe(60);
    // The same five-tuples again, under another id: the table holds another backend, and the id wins.
    expect(
      new Set(
        backends(
          lab,
          range(20).map((i) => short(1022, 3000 + i)),
        ),
      ),
    ).toEqual(new Set(['10.0.0.11']));
    expect(lab.backend('quic', '10.0.0.11').flows).toBe(20);
    expect(lab.violations()).toEqual([]);
  });

  it('that nobody has go by flow table and ring, and are counted', () => {
    const lab = new Lab(yaml);
    const first = backends(
      lab,
      range(20).map((i) => short(77, 3000 + i)),
    );
    expect([...new Set(first)].sort()).toEqual(['10.0.0.11', '10.0.0.12']);
    expect(
      backends(
        lab,
        range(20).map((i) => short(77, 3000 + i)),
      ),
    ).toEqual(first);
    expect(lab.total(Counter.idUnknown)).toBe(40);
  });

  it('of a backend that is gone or inactive do not stop the packet', () => {
    const lab = new Lab(yaml);
    lab.setBackend('quic', '10.0.0.11', { state: 'inactive' });
    expect(backends(lab, [short(1022, 1)])).toEqual(['10.0.0.12']);
    lab.setBackend('quic', '10.0.0.11', { state: 'draining' });
    expect(backends(lab, [short(1022, 2)])).toEqual(['10.0.0.11']);
  });
});

describe('chains of hops', () => {
  const service = 'port: 80\nflow_table: false\nhops: 2\nencapsulation: { kind: gue, gue: { variant: 0 } }';

  /** Outer destination and hops of GUE's private data: bytes behind Ethernet, IPv4, UDP and the GUE header. */
  function chain(frame: Uint8Array): string[] {
    const hops = frame[14 + 28 + 7];
    const words = range(hops).map((i) => [...frame.subarray(14 + 36 + 4 * i, 14 + 40 + 4 * i)].join('.'));
    return [[...frame.subarray(30, 34)].join('.'), ...words];
  }

  it('name another backend for each flow, and the former owner first while it drains', () => {
    const lab = labOf(service);
    const frames = range(300).map((i) => tcp({ sport: 1000 + i, flags: TCP.ACK }));
    const before = lab.run(frames).sent.flat().map(chain);
    expect(before.every(([first, second]) => BACKENDS.includes(first) && BACKENDS.includes(second))).toBe(true);
    expect(before.every(([first, second]) => first !== second)).toBe(true);
    lab.setBackend('web', '10.0.0.12', { state: 'draining' });
    const after = lab.run(frames).sent.flat().map(chain);
    before.forEach(([owner], i) => {
      if (owner === '10.0.0.12') {
        expect(after[i][0]).not.toBe('10.0.0.12');
        expect(after[i][1]).toBe('10.0.0.12');
      } else {
        expect(after[i][0]).toBe(owner);
      }
    });
    expect(lab.violations()).toEqual([]);
  });

  it('are kept when the flow table picks the backend: the others of the slot follow', () => {
    const lab = labOf(service.replace('flow_table: false\n', ''));
    const frames = range(100).map((i) => tcp({ sport: 1000 + i, flags: TCP.ACK }));
    const before = lab.run(frames).sent.flat().map(chain);
    lab.setBackend('web', '10.0.0.12', { state: 'draining' });
    const after = lab.run(frames).sent.flat().map(chain);
    expect(after.map(([first]) => first)).toEqual(before.map(([first]) => first));
    expect(after.every(([first, second]) => second !== undefined && first !== second)).toBe(true);
  });
});
