/**
 * p0f signatures against kernels: netfilter's osf match (nfnetlink_osf.c), which knows the fingerprints of p0f v2, where the two say the same; and
 * what this machine's own kernel sends.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { p0fProgram } from '../../src/control/expression/p0f_program.js';
import { packageRoot } from '../../src/native.js';
import { readCapture } from '../../src/pcap/capture.js';
import { writeBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import type { Program } from '../../src/shared/cbpf/program.js';
import { randomSource, type Random } from '../support/cbpf_programs.js';
import { testPlayground } from '../support/netns.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const SYNS = 60;
const FINGERPRINTS = 40;
const [LEFT, RIGHT] = ['10.96.0.1', '10.96.0.2'];
const RIGHT6 = 'fd96::2';
const MAC = '02:00:00:00:96:02';

function lab() {
  const playground = testPlayground();
  const left = playground.namespace('left');
  const right = playground.namespace('right');
  playground.veth({ namespace: left, name: 'eth0' }, { namespace: right, name: 'eth0' });
  for (const host of [left, right]) host.sysctl({ 'net/ipv6/conf/eth0/accept_dad': 0 });
  left.ip(`address add ${LEFT}/24 dev eth0`, 'address add fd96::1/64 dev eth0 nodad', 'link set eth0 up');
  right.ip(
    ...[`link set eth0 address ${MAC}`, `address add ${RIGHT}/24 dev eth0`, `address add ${RIGHT6}/64 dev eth0 nodad`],
    'link set eth0 up',
  );
  return { playground, left, right };
}

function matches(program: Program, frame: Uint8Array): boolean {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  return interpret(program, view, 14, frame.length - 14, frame.length - 14) !== 0;
}

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)];

/** Layouts of whole words: osf has one letter for each option, p0f a word, the third is the bytes. */
const OPTIONS: Record<string, { p0f: string; bytes: (mss: number, scale: number) => number[] }> = {
  M: { p0f: 'mss', bytes: (mss) => [2, 4, mss >> 8, mss & 255] },
  S: { p0f: 'sok', bytes: () => [4, 2] },
  T: { p0f: 'ts', bytes: () => [8, 10, 1, 2, 3, 4, 0, 0, 0, 0] },
  N: { p0f: 'nop', bytes: () => [1] },
  W: { p0f: 'ws', bytes: (_mss, scale) => [3, 3, scale] },
};
const LAYOUTS = ['M', 'MSTNW', 'MNWNNS', 'MNWNNTSNN', 'MNNS', 'MNWSTNNN', 'MNNT'].filter(
  (layout) => bytesOf(layout, 0, 0).length % 4 === 0,
);

function bytesOf(layout: string, mss: number, scale: number): number[] {
  return [...layout].flatMap((letter) => OPTIONS[letter].bytes(mss, scale));
}

interface Syn {
  layout: string;
  mss: number;
  window: number;
  ttl: number;
  df: boolean;
  data: number;
}

function randomSyn(random: Random): Syn {
  const mss = pick(random, [1460, 1400, 1300]);
  const units = [mss, 1460, 1448, mss + 40, 1500];
  const window = random(4) === 0 ? 1000 * random(60) + 1 : pick(random, units) * pick(random, [2, 4, 20, 44]);
  // More than 35 hops are one thing that the two do not agree on: osf does not count them.
  const ttl = pick(random, [64, 64, 60, 36, 65, 66, 128]);
  return {
    layout: pick(random, LAYOUTS),
    mss,
    window: window & 0xffff,
    ttl,
    df: random(3) > 0,
    data: random(6) === 0 ? 8 : 0,
  };
}

/** A fingerprint near a SYN, as pf.os has it and as p0f v3 has it. */
function fingerprint(random: Random, { layout, mss, window, df }: Syn): { osf: string; p0f: string } {
  const size = 40 + bytesOf(layout, 0, 0).length;
  const count = (unit: number): number[] => (window % unit === 0 && window > 0 ? [window / unit] : []);
  const windows: [osf: string, p0f: string][] = [
    ['*', '*'],
    [`${window}`, `${window}`],
    ...[...count(mss), ...count(1460), ...count(1448), 44].map((n): [string, string] => [`S${n}`, `mss*${n}`]),
    ...[...count(mss + 40), ...count(1500), 4].map((n): [string, string] => [`T${n}`, `mtu*${n}`]),
    ['%2', '%2'],
    ['%1000', '%1000'],
  ];
  const wss = pick(random, windows);
  const initial = pick(random, [64, 64, 65, 70]);
  const osfOptions = [...layout].map((letter) => (letter === 'M' || letter === 'W' ? `${letter}*` : letter));
  const kinds = [...layout].map((letter) => OPTIONS[letter].p0f);
  return {
    osf: `${wss[0]}:${initial}:${+df}:${size}:${osfOptions.join(',')}`,
    // An identification that is never 0.
    p0f: `4:${initial}:0:*:${wss[1]},*:${kinds.join(',')}:${df ? 'df,id+' : ''}:0`,
  };
}

function frameOf(syn: Syn, port: number): Uint8Array {
  return new PacketBuilder()
    .ethernet({ dst: MAC, src: '02:00:00:00:96:01' })
    .ipv4({ src: LEFT, dst: RIGHT, ttl: syn.ttl, id: 7, dontFragment: syn.df })
    .tcp({
      sport: 999,
      dport: port,
      seq: 5,
      flags: TCP.SYN,
      window: syn.window,
      options: bytesOf(syn.layout, syn.mss, 7),
    })
    .payload(new Uint8Array(syn.data))
    .build();
}

describe('netfilter’s osf match', () => {
  it('and signatures say the same of SYNs, where they can say the same', () => {
    const { playground, left, right } = lab();
    const random = randomSource(Number(process.env.SEED ?? 20261121));
    const syns = Array.from({ length: SYNS }, () => randomSyn(random));
    const prints = Array.from({ length: FINGERPRINTS }, () => fingerprint(random, pick(random, syns)));
    const programs = prints.map(({ p0f }) => p0fProgram(p0f));
    // The kernel has one list of fingerprints for all namespaces.
    const genre = (i: number): string => `${playground.tag}x${i}`;
    const file = playground.path('pf.os');
    writeFileSync(file, prints.map(({ osf }, i) => `${osf}:\t${genre(i)}:a:b:sluice test ${i}\n`).join(''));
    right.exec('nfnl_osf', '-f', file);
    onTestFinished(() => void right.exec('nfnl_osf', '-f', file, '-d'));
    const rules = syns.flatMap((_, s) => prints.map((_, f) => `-A S${s} -p tcp -m osf --genre ${genre(f)} --ttl 1`));
    const text = [
      '*filter',
      ...syns.map((_, s) => `:S${s} - [0:0]`),
      ...syns.map((_, s) => `-A INPUT -p tcp --dport ${1000 + s} -j S${s}`),
      ...rules,
      'COMMIT\n',
    ].join('\n');
    const rulesFile = playground.path('rules');
    writeFileSync(rulesFile, text);
    right.exec('iptables-restore', rulesFile);
    const frames = syns.map((syn, s) => frameOf(syn, 1000 + s));
    const framesFile = playground.path('frames.json');
    writeFileSync(framesFile, JSON.stringify(frames.map((frame) => Buffer.from(frame).toString('hex'))));
    const native = pathToFileURL(join(packageRoot, 'dist/native.js')).href;
    const sender = `import { readFileSync } from 'node:fs'; import { native } from '${native}';
      const socket = new (native().PacketSocket)({ interface: 'eth0' });
      for (const frame of JSON.parse(readFileSync('${framesFile}', 'utf8'))) socket.send(Buffer.from(frame, 'hex'));
      socket.close();`;
    left.exec(process.execPath, '--input-type=module', '-e', sender);
    const counted = right.exec('iptables-save', '-c').split('\n');
    expect(counted.filter((line) => /-A INPUT/.test(line) && line.startsWith('[1:'))).toHaveLength(SYNS);
    let both = 0;
    const wrong: string[] = [];
    for (const line of counted) {
      const match = /^\[(\d+):\d+\] -A S(\d+) .*--genre \S+x(\d+) /.exec(`${line} `);
      if (match === null) continue;
      const [hits, s, f] = match.slice(1).map(Number);
      const ours = matches(programs[f], frames[s]);
      if (ours !== hits > 0)
        wrong.push(`${JSON.stringify(syns[s])}: osf ${prints[f].osf} ${hits}, p0f ${prints[f].p0f} ${ours}`);
      if (ours && hits > 0) both++;
    }
    expect(wrong).toEqual([]);
    expect(both).toBeGreaterThan(FINGERPRINTS);
  }, 60_000);
});

describe('this kernel', () => {
  it('sends SYNs of the signatures of Linux, and finds them itself when it runs the programs', async () => {
    const { playground, left, right } = lab();
    const options = 'mss,sok,ts,nop,ws';
    // The window is 44 segments of 1460, and 45 of 1440: 64240 rounded up to whole segments (tcp_select_initial_window).
    const ipv4 = p0fProgram(`4:64:0:1460:mss*44,*:${options}:df,id+:0`);
    const ipv6 = p0fProgram(`6:64:0:1440:mss*45,*:${options}:flow:0`);
    const either = p0fProgram(`*:64:0:*:*,*:${options}:df,id+,flow:0`);
    const others = [`4:64:0:1460:mss*20,*:${options}:df,id+:0`, '*:64:0:*:*,*:mss,nop,ws,sok,ts:*:0'].map(p0fProgram);
    right.exec('iptables', ...inKernel(ipv4));
    right.exec('ip6tables', ...inKernel(ipv6));
    const file = playground.path('syns.pcap');
    const command = ['-i', 'eth0', '-w', file, '-c', '2', '-U', 'dst port 4242'];
    const tcpdump = spawn('ip', right.commandLine('tcpdump', command), { stdio: ['ignore', 'ignore', 'pipe'] });
    onTestFinished(() => void tcpdump.kill());
    const ended = once(tcpdump, 'exit');
    // It says that it listens.
    await once(tcpdump.stderr, 'data');
    const client = `const net = require('node:net');
      for (const host of ['${RIGHT}', '${RIGHT6}']) net.connect(4242, host).on('error', () => undefined);`;
    left.exec(process.execPath, '-e', client);
    await ended;
    const capture = readCapture(file);
    const frames = [0, 1].map((i) => capture.packet(i).data).toSorted((one, two) => one[14] - two[14]);
    expect(frames.map((frame) => frame[14] >> 4)).toEqual([4, 6]);
    const found = [ipv4, ipv6, either, ...others].map((program) => frames.map((frame) => matches(program, frame)));
    expect(found).toEqual([
      [true, false],
      [false, true],
      [true, true],
      [false, false],
      [false, false],
    ]);
    for (const tool of ['iptables', 'ip6tables']) expect(right.exec(tool, '-L', 'INPUT', '-vnx')).toMatch(/^ +1 /m);
  }, 30_000);
});

/** A rule that counts what the kernel finds with a program. */
function inKernel(program: Program): string[] {
  return ['-A', 'INPUT', '-m', 'bpf', '--bytecode', writeBytecode(program)];
}
