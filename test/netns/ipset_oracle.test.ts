/**
 * The kernel's own sets, driven by ipset(8) in a network namespace, against ours: the same random commands one by one, with the same outcome each, then the
 * same entries, then the same answers to `test`.
 */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { restoreSets, saveSet, SetRegistry, type IpSet } from '../../src/control/sets/index.js';
import { SluiceError } from '../../src/errors.js';
import type { SetType } from '../../src/shared/sets/index.js';
import { random } from '../support/packets.js';

const COMMANDS = 110;
const PROBES = 90;

interface Answers {
  /** Exit status of each line, 1 for all failures. */
  codes: number[];
  /** What `ipset save` printed. */
  save: string;
}

/** Runs each line by ipset in a new namespace, which goes with the process; `save` behind the first `saveAfter`. */
function kernel(lines: readonly string[], saveAfter: number): Answers {
  const script = lines.map(
    (line, i) => `ipset -q ${line} >/dev/null 2>&1; echo $?${i + 1 === saveAfter ? '; ipset save' : ''}`,
  );
  const run = spawnSync('unshare', ['-n', 'bash'], { input: script.join('\n'), encoding: 'utf8', maxBuffer: 1 << 26 });
  expect(run.stderr).toBe('');
  const printed = run.stdout.split('\n').filter((line) => line !== '');
  return {
    codes: printed.filter((line) => /^\d+$/.test(line)).map((code) => Math.min(1, Number(code))),
    save: printed.filter((line) => !/^\d+$/.test(line)).join('\n'),
  };
}

/** 0 or 1, as ipset's exit status. */
function attempt(act: () => boolean | void): number {
  try {
    return act() === false ? 1 : 0;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return 1;
  }
}

function ours(set: IpSet, line: string): number {
  const exist = line.startsWith('-exist ');
  const [verb, , element, ...options] = line.replace('-exist ', '').split(' ');
  const nomatch = options.includes('nomatch');
  const timeout = options.includes('timeout') ? Number(options[options.indexOf('timeout') + 1]) : undefined;
  if (verb === 'add') return attempt(() => set.add(element, { nomatch, timeout }, exist));
  if (verb === 'del') return attempt(() => set.del(element, exist));
  return attempt(() => set.test(element, nomatch));
}

class Lines {
  constructor(
    private readonly next: () => number,
    private readonly type: SetType,
    private readonly family: 4 | 6,
    private readonly timeouts: boolean,
    private readonly masked: boolean,
  ) {}

  /** Few addresses, so that they meet; edges of the space among them. */
  element(): string {
    const place = this.family === 4 ? this.place4() : this.place6();
    if (!this.type.endsWith(',port')) return place;
    const icmp = this.family === 4 ? 'icmp:8/0' : 'icmpv6:128/0';
    const other = this.family === 4 ? 'icmpv6:1/0' : 'icmp:1/0';
    return `${place},${this.pick(['80', 'tcp:80', 'tcp:80-82', 'udp:80', 'udp:53', 'sctp:80', 'udplite:7', 'gre:0', '47:0', 'gre:5', '0:0', icmp, icmp, other])}`;
  }

  change(): string {
    const isNet = this.type.startsWith('hash:net');
    const exist = this.next() < 0.5 ? '-exist ' : '';
    if (this.next() < 0.25) return `${exist}del s ${this.element()}`;
    const nomatch = this.next() < (isNet ? 0.25 : 0.03) ? ' nomatch' : '';
    const timeout =
      this.timeouts && this.next() < 0.3 ? ` timeout ${this.pick(['0', '1000', '2147483', '2147484'])}` : '';
    return `${exist}add s ${this.element()}${timeout}${nomatch}`;
  }

  /** One address or network; ipset answers for the first of a range of hosts, where we refuse. */
  probe(): string {
    const isNet = this.type.startsWith('hash:net');
    let element = this.element();
    while (/-/.test(element) || (!isNet && element.includes('/') && !/^[^/]*icmp/.test(element)))
      element = this.element();
    return `test s ${element}${this.type.startsWith('hash:net') && this.next() < 0.2 ? ' nomatch' : ''}`;
  }

  private place4(): string {
    const low = (): string => `10.0.${this.integer(2)}.${this.integer(10)}`;
    const kind = this.next();
    if (kind < 0.45) return low();
    if (kind < 0.7) return `${low()}/${24 + this.integer(9)}`;
    if (kind < 0.9) {
      const ends = [this.integer(20), this.integer(20)];
      // The kernel masks the first address, then exchanges the two: a range the other way round adds one that no packet's masked address equals.
      if (this.masked) ends.sort((a, b) => a - b);
      return `10.0.0.${ends[0]}-10.0.0.${ends[1]}`;
    }
    const wide = [
      '0.0.0.0/1',
      '128.0.0.0/2',
      '10.0.0.0/8',
      '0.0.0.0-255.255.255.255',
      '10.0.0.0/33',
      '0.0.0.0/0',
      '0.0.0.0',
    ];
    const hosts = ['0.0.0.0', '255.255.255.255', '10.0.0.0/33', '0.0.0.0/0', '255.255.255.254-255.255.255.255'];
    return this.pick(this.type.startsWith('hash:net') ? wide : hosts);
  }

  private place6(): string {
    const low = (): string => `2001:db8::${this.pick(['', '1:', '0:8000:'])}${this.integer(10)}`;
    const kind = this.next();
    if (kind < 0.5) return low();
    if (kind < 0.9)
      return `${low()}/${this.pick(['1', '31', '32', '33', '63', '64', '96', '97', '112', '124', '126', '127', '128'])}`;
    return this.pick(['::', '::/0', '::1', '::/1', 'ffff::/16', '2001:db8::1-2001:db8::5', '2001:db8::/129']);
  }

  private integer(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  private pick(list: readonly string[]): string {
    return list[this.integer(list.length)];
  }
}

/** What a save has, without what need not be the same: order, times, hash parameters. Read and written by us, so that both are in one form. */
function entriesOf(save: string): string[] {
  const registry = new SetRegistry({ seconds: () => 1 });
  const { notes } = restoreSets(save, registry, 'save');
  expect(notes).toEqual([]);
  return [...saveSet(registry.get('s'))].map((line) => line.replace(/ timeout \d+/, '')).sort();
}

describe('ipset and sluice', () => {
  it.each([
    ['hash:ip', 4, '', 1],
    ['hash:ip', 4, 'netmask 28 timeout 500', 2],
    ['hash:ip', 6, 'netmask 124', 3],
    ['hash:ip', 4, 'maxelem 12', 4],
    ['hash:net', 4, '', 5],
    ['hash:net', 4, 'timeout 500', 6],
    ['hash:net', 6, '', 7],
    ['hash:ip,port', 4, '', 8],
    ['hash:ip,port', 6, 'timeout 0', 9],
    ['hash:net,port', 4, '', 10],
    ['hash:net,port', 6, 'counters comment', 11],
  ] as const)('agree on %s of IPv%i %s', (type, family, options, seed) => {
    const lines = new Lines(random(seed), type, family, options.includes('timeout'), options.includes('netmask'));
    const create = `create s ${type} family ${family === 4 ? 'inet' : 'inet6'} ${options}`;
    const changes = Array.from({ length: COMMANDS }, () => lines.change());
    const probes = Array.from({ length: PROBES }, () => lines.probe());
    const answers = kernel([create, ...changes, ...probes], 1 + changes.length);
    expect(answers.codes).toHaveLength(1 + COMMANDS + PROBES);
    expect(answers.codes[0]).toBe(0);

    const registry = new SetRegistry({ seconds: () => 1 });
    restoreSets(create, registry);
    const set = registry.get('s');
    const differing: string[] = [];
    const compare = (line: string, code: number): void => {
      const found = ours(set, line);
      if (found !== code) differing.push(`${line}: ipset ${code}, sluice ${found}`);
    };
    changes.forEach((line, i) => compare(line, answers.codes[1 + i]));
    expect(differing).toEqual([]);
    expect([...saveSet(set)].map((line) => line.replace(/ timeout \d+/, '')).sort()).toEqual(entriesOf(answers.save));
    probes.forEach((line, i) => compare(line, answers.codes[1 + COMMANDS + i]));
    expect(differing).toEqual([]);
    // Both answers came up, among commands as well as among probes.
    for (const codes of [answers.codes.slice(1, 1 + COMMANDS), answers.codes.slice(1 + COMMANDS)]) {
      expect(new Set(codes).size).toBe(2);
    }
  });

  it('reads back what we write', () => {
    const registry = new SetRegistry({ seconds: () => 1 });
    const set = registry.create({
      name: 's',
      type: 'hash:net,port',
      family: 'inet',
      timeout: 900,
      counters: true,
      comment: true,
    });
    set.add('10.0.0.0-10.0.0.9,tcp:1-3', { packets: 7, bytes: 700, comment: 'seven of them' });
    set.add('10.0.0.0/8,icmp:3/4', { nomatch: true, timeout: 0 });
    const text = [...saveSet(set)].join('\n');
    const run = spawnSync('unshare', ['-n', 'bash', '-c', 'ipset restore && ipset save'], {
      input: `${text}\n`,
      encoding: 'utf8',
    });
    expect(run.stderr).toBe('');
    expect(entriesOf(run.stdout)).toEqual(entriesOf(text));
    expect(run.stdout).toContain('nomatch packets 0 bytes 0');
  });
});
