import { describe, expect, it } from 'vitest';
import { convert, CONVERT_SOURCES, type ConvertSource } from '../../src/control/convert/index.js';
import { SluiceError } from '../../src/errors.js';
import { randomness } from '../support/randomness.js';

const WORDS: Record<'ipvs' | 'katran', readonly string[]> = {
  ipvs: (
    '-A -A -E -D -a -a -e -d -C --set -t -u -f --sctp-service 198.51.100.10:80 198.51.100.10:80 198.51.100.10:0 [2001:db8::10]:443 7 ' +
    '-s rr wrr sh mh fo lblc -b sh-port flag-1 -p 300 -M 255.255.0.0 -r 10.0.0.11:80 10.0.0.12 [fd00::11]:443 10.0.0.11:81 ' +
    '224.0.0.1:80 198.51.100.10 -g -i -m --tun-type gue gre --tun-port 6080 --tun-csum -w 0 1 2147483647 -x -y 9 -o --pe sip ' +
    'ipvsadm ; && \\ \' " $X ` # -Ln --weight=3 -- - = 0.0.0.0/0:80 999.1.1.1:80 [::]:0 name:http'
  ).split(' '),
  katran: (
    'katran_goclient katranc -A -A -E -D -a -a -e -d -C -t -u 198.51.100.10:443 198.51.100.10:443 198.51.100.10:0 [2001:db8::10]:80 ' +
    '198.51.100.0/24:80 -vf QUIC_VIP NO_SPORT DPORT_HASH UDP_STABLE_ROUTING -unset -r 10.0.0.11 10.0.0.12 fd00::11 198.51.100.10 0.0.0.0 -w 0 5 ' +
    '9999999999 -quic_mapping 10.0.0.11=7 10.0.0.99=8 =1 -del_qm -new_hc -somark 3 -l -s -server h:1 ; && \\ \' " $X ' +
    'VIP: 198.51.100.11 Port: 80 Protocol: tcp ->10.0.0.13 weight: 1 flags: exiting'
  ).split(' '),
};

const LINES: Record<'ipvs' | 'katran', readonly string[]> = {
  ipvs: [
    '-A -t 198.51.100.10:80 -s sh -p 60',
    '-a -t 198.51.100.10:80 -r 10.0.0.11:80 -i -w 3',
    '-A -u [2001:db8::10]:53 -s rr',
    '-a -u [2001:db8::10]:53 -r [fd00::53]:53 -g',
  ],
  katran: [
    'katranc -A -u 198.51.100.10:443 -vf QUIC_VIP',
    'katranc -a -u 198.51.100.10:443 -r 10.0.0.11 -w 2',
    'VIP: 198.51.100.12 Port: 53 Protocol: udp',
    ' ->10.0.0.14 weight: 1 flags: ',
    "Vip's flags:  NO_LRU ",
  ],
};

function script(kind: 'ipvs' | 'katran', random: (limit: number) => number): string {
  const pick = (list: readonly string[]): string => list[random(list.length)];
  return Array.from({ length: 1 + random(12) }, () => {
    if (random(3) === 0) return pick(LINES[kind]);
    return Array.from({ length: 1 + random(9) }, () => pick(WORDS[kind])).join(' ');
  }).join('\n');
}

const VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  80,
  65536,
  1e300,
  '',
  'tcp',
  'active',
  '10.0.0.11',
  '198.51.100.10',
  '198.51.100.77/24',
  'fd00::11',
  '::/0',
  '0.0.0.0/0',
  '/',
  '1/2/3',
  '00112233445566778899aabbccddeeff',
  [],
  {},
  [[]],
  [null],
];

/** A table in which one value somewhere, or a few, is another. */
function table(random: (limit: number) => number): string {
  const root = {
    healthchecks: { interval_ms: 2000, timeout_ms: 1000, trigger: 3 },
    tables: [0, 1].map((n) => ({
      name: `t${n}`,
      hash_key: '00112233445566778899aabbccddeeff',
      seed: 'ffeeddccbbaa99887766554433221100',
      binds: [
        { ip: `198.51.100.1${n}`, proto: 'tcp', port: 80 },
        { ip: '2001:db8::/64', proto: 'udp', port_start: 1000 + 10 * n, port_end: 1005 + 10 * n },
      ],
      backends: [1, 2].map((b) => ({ ip: `10.0.${n}.${b}`, state: 'active', healthchecks: { http: 80, gue: 19523 } })),
    })),
  };
  for (let changes = 1 + random(3); changes > 0; changes--) {
    let at: Record<string, unknown> = root;
    for (;;) {
      const keys = Object.keys(at);
      if (keys.length === 0) break;
      const key = keys[random(keys.length)];
      const below = at[key];
      if (typeof below === 'object' && below !== null && random(4) > 0) at = below as Record<string, unknown>;
      else {
        at[key] = structuredClone(VALUES[random(VALUES.length)]);
        break;
      }
    }
  }
  const text = JSON.stringify(root, null, random(3));
  // Now and then no JSON at all.
  const cut = random(text.length);
  return random(5) > 0 ? text : text.slice(0, cut) + '{"[,:\n'[random(6)] + text.slice(cut);
}

function garbage(random: (limit: number) => number): string {
  return Array.from({ length: random(400) }, () =>
    String.fromCharCode(random(3) === 0 ? random(0x3000) : random(128)),
  ).join('');
}

/** Converts; the result must be a configuration, an error one that a person can use. */
function attempt(text: string, from: ConvertSource, seed: number): 'converted' | 'refused' {
  try {
    const { notes } = convert([{ name: 'f', text }], { from, interface: 'eth0' });
    // It reads its result itself: what the configuration refuses should not have come so far.
    expect(
      notes.filter(({ message }) => message.includes('sluice check refuses')),
      `${from} ${seed}`,
    ).toEqual([]);
    const lines = text.split('\n').length;
    for (const note of notes) {
      expect(note.message, `${from} ${seed}`).not.toBe('');
      expect(note.line).toBeGreaterThanOrEqual(0);
      expect(note.line).toBeLessThanOrEqual(lines);
    }
    return 'converted';
  } catch (error) {
    if (!(error instanceof SluiceError))
      throw new Error(`${from}, seed ${seed}: ${String(error)}\n${text}`, { cause: error });
    expect(error.message).not.toBe('');
    return 'refused';
  }
}

describe('whatever the input', () => {
  it.each([
    ['ipvs', 500, (random: (limit: number) => number) => script('ipvs', random)],
    ['katran', 500, (random: (limit: number) => number) => script('katran', random)],
    ['glb', 400, table],
  ] as const)('%s: a configuration comes out, or an error', (from, rounds, make) => {
    const count = { converted: 0, refused: 0 };
    for (let seed = 1; seed <= rounds; seed++) count[attempt(make(randomness(seed * 7919)), from, seed)]++;
    // Otherwise the texts are not what they should be.
    expect(count.converted).toBeGreaterThan(rounds / 10);
    expect(count.refused).toBeGreaterThan(0);
  });

  it.each(CONVERT_SOURCES)('%s: also for what is no text of anybody', (from) => {
    for (let seed = 1; seed <= 300; seed++) attempt(garbage(randomness(seed)), from, seed);
    for (const text of [
      '',
      '\n',
      '{}',
      '[',
      '\0',
      '-',
      '"',
      "'",
      '\\',
      '-A -t',
      '{"tables":[{}]}',
      '['.repeat(100_000),
    ])
      attempt(text, from, 0);
  });

  it('a large input takes no longer than its size', () => {
    const service = (i: number): string =>
      `-A -t 198.51.${i >> 8}.${i & 255}:80 -s rr\n-a -t 198.51.${i >> 8}.${i & 255}:80 -r 10.0.0.1:80 -i\n`;
    const text = Array.from({ length: 5000 }, (_, i) => service(i)).join('');
    const started = performance.now();
    expect(convert([{ name: 'f', text }], { from: 'ipvs', interface: 'eth0' }).services).toBe(5000);
    for (const hostile of [
      '"'.repeat(200_000),
      `${'\\'.repeat(200_000)}`,
      `-A ${'$('.repeat(100_000)}`,
      ' #'.repeat(100_000),
    ]) {
      attempt(hostile, 'ipvs', 0);
      attempt(hostile, 'katran', 0);
    }
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});
