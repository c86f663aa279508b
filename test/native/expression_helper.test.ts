/** The compiler of expressions as a process: what it can reach, and what hostile text does to it. */
import { execFileSync, spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileExpression, compileExpressions, EXPRESSION_LIMITS } from '../../src/control/expression/compile.js';
import { packageRoot } from '../../src/native.js';

const HELPER = join(packageRoot, 'build/Release/sluice-pcap');
/** Takes the optimiser longer than any limit here: its time grows with the square of the number of different tests. */
const BOMB = Array.from({ length: 300 }, (_, i) => `(port ${i} and not host 10.1.${i >> 4}.${i & 15})`).join(' or ');
const QUICK = { ...EXPRESSION_LIMITS, textBytes: 65536, cpuMs: 200 };

const frame = (text: string | Buffer): Buffer => {
  const body = Buffer.from(text as string);
  const head = Buffer.alloc(4);
  head.writeUInt32LE(body.length);
  return Buffer.concat([head, body]);
};

/** Statuses and texts of its answers; "compiled" for a program. */
function ask(...texts: (string | Buffer)[]): string[] {
  const { stdout, status } = spawnSync(HELPER, ['2000', '256'], { input: Buffer.concat(texts.map(frame)) });
  expect(status).toBe(0);
  const answers: string[] = [];
  for (let at = 0; at < stdout.length;) {
    const length = stdout.readUInt32LE(at + 4);
    const body = stdout.subarray(at + 8, at + 8 + length);
    answers.push(stdout.readUInt32LE(at) === 0 ? 'compiled' : body.toString());
    at += 8 + length;
  }
  return answers;
}

async function started(): Promise<ChildProcessWithoutNullStreams> {
  const child = spawn(HELPER, ['2000', '256'], { stdio: 'pipe' });
  child.stdin.write(frame('tcp'));
  await once(child.stdout, 'data');
  return child;
}

describe('the compiler of expressions, confined', () => {
  it('has three descriptors and cannot open a fourth, no privileges, and few system calls', async () => {
    const child = await started();
    try {
      const proc = `/proc/${child.pid}`;
      const status = readFileSync(`${proc}/status`, 'utf8');
      expect(status).toMatch(/^Seccomp:\s+2$/m);
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
      expect(status).toMatch(/^CapEff:\s+0+$/m);
      expect(status).toMatch(/^Uid:\s+65534\s+65534\s+65534/m);
      expect(status).toMatch(/^Gid:\s+65534\s+65534\s+65534/m);
      expect(status).toMatch(/^Groups:\s*$/m);
      expect(readFileSync(`${proc}/limits`, 'utf8')).toMatch(/^Max open files\s+0\s+0/m);
      expect(readdirSync(`${proc}/fd`).sort()).toEqual(['0', '1', '2']);
    } finally {
      child.stdin.end();
    }
    expect(await once(child, 'exit')).toEqual([0, null]);
  });

  it('defines every function through which libpcap asks for names', () => {
    const symbols = (args: string[]): string[] =>
      execFileSync('nm', ['-D', ...args], { encoding: 'utf8' })
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/\s+/).at(-1)!.split('@')[0]);
    const libpcap = /libpcap\.so\S* => (\S+)/.exec(execFileSync('ldd', [HELPER], { encoding: 'utf8' }))![1];
    const resolver = /^(get(addrinfo|nameinfo|host|net|serv|proto)|ether_(hostton|ntohost)|freeaddrinfo|res_)/;
    const asked = symbols(['--undefined-only', libpcap]).filter((name) => resolver.test(name));
    expect(asked).toContain('getaddrinfo');
    const own = symbols(['--defined-only', HELPER]);
    expect(asked.filter((name) => !own.includes(name))).toEqual([]);
  });

  it('knows the ports and protocols of /etc/services and /etc/protocols, and its own when there are none', () => {
    const names = [
      'port domain',
      'ip proto ospf',
      'udp port ntp',
      'portrange ftp-ssh',
      'ether proto \\ip',
      'tcp port www',
    ];
    expect(ask(...names)).toEqual(names.map(() => 'compiled'));
    // An empty /etc over the real one, in a mount namespace of its own.
    const script = 'mount -t tmpfs none /etc && exec "$0" 2000 256';
    const bare = spawnSync('unshare', ['--mount', 'sh', '-c', script, HELPER], {
      input: Buffer.concat(names.map(frame)),
    });
    expect([bare.status, bare.stderr.toString()]).toEqual([0, '']);
    const { stdout } = spawnSync(HELPER, ['2000', '256'], { input: Buffer.concat(names.map(frame)) });
    expect(bare.stdout.equals(stdout)).toBe(true);
  });
});

describe('the compiler of expressions, under hostile text', () => {
  it('answers whatever the bytes are, and goes on', () => {
    const invalid = Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x80]);
    const answers = ask('a\0b', 'tcp\nport\r\n80', invalid, Buffer.alloc(1 << 20, 'a'), '('.repeat(10_000), 'tcp');
    expect(answers[0]).toMatch(/NUL/);
    expect(answers[1]).toBe('compiled');
    expect(answers[2]).toMatch(/syntax error/);
    expect(answers[3]).toMatch(/longer than/);
    expect(answers[4]).toMatch(/syntax error|memory exhausted/);
    expect(answers[5]).toBe('compiled');
  });

  it('survives random text of its own language', () => {
    const words =
      'tcp udp ip ip6 host net port and or not ( ) [ ] + - * / & | << >> = != > < 0 1 80 0xff 10.0.0.1 ::1 vlan mpls pppoes geneve 1:2:3:4:5:6 len less \\ip : % ^ protochain proto src dst ether multicast portrange 1-5 arp icmp6 mask /24'.split(
        ' ',
      );
    let state = 1;
    const random = (limit: number): number => (state = (Math.imul(state, 1103515245) + 12345) >>> 1) % limit;
    const texts = Array.from({ length: 3000 }, () =>
      Array.from({ length: 1 + random(12) }, () => words[random(words.length)]).join(' '),
    );
    const results = compileExpressions(texts);
    expect(results).toHaveLength(texts.length);
    const died = results.flatMap((result, i) =>
      !result.ok && /died|takes more|not valid/.test(result.error) ? [texts[i]] : [],
    );
    expect(died).toEqual([]);
    expect(results.filter(({ ok }) => ok).length).toBeGreaterThan(50);
  });

  it('refuses wrong arguments and a request that is cut off', () => {
    expect(spawnSync(HELPER, []).status).toBe(2);
    expect(spawnSync(HELPER, ['0', '256']).status).toBe(2);
    expect(spawnSync(HELPER, ['2000', '256'], { input: frame('tcp port 80').subarray(0, 9) }).status).toBe(4);
    expect(spawnSync(HELPER, ['2000', '256'], { input: Buffer.from([1, 0]) }).status).toBe(4);
  });
});

describe('compileExpressions', () => {
  it('loses only the expression that goes over its time', () => {
    const results = compileExpressions(['tcp', BOMB, 'udp', `${BOMB} or arp`, 'arp'], QUICK);
    expect(results.map(({ ok }) => ok)).toEqual([true, false, true, false, true]);
    expect(results[1]).toEqual({ ok: false, error: expect.stringMatching(/more than 0.2 s to compile/) as string });
  });

  it('loses only the expression that is not done when the clock has run out', () => {
    const limits = { ...QUICK, cpuMs: 20_000, wallMs: 150 };
    const results = compileExpressions(['tcp port 1', BOMB, 'udp port 1'], limits);
    expect(results.map(({ ok }) => ok)).toEqual([true, false, true]);
    expect(results[1]).toEqual({ ok: false, error: expect.stringMatching(/not compiled after 0.15 s/) as string });
  });

  it('loses only the expression that goes over the memory', () => {
    const results = compileExpressions(['tcp', BOMB, 'udp'], { ...QUICK, cpuMs: 10_000, memoryMib: 10 });
    expect(results.map(({ ok }) => ok)).toEqual([true, false, true]);
    expect(results[1]).toEqual({ ok: false, error: expect.stringMatching(/more than 10 MiB to compile/) as string });
  });

  it('refuses what is too long, has a NUL, or compiles to more instructions than a program may have', () => {
    expect(compileExpression('x'.repeat(65_001))).toMatchObject({
      ok: false,
      error: expect.stringMatching(/65001 bytes/) as string,
    });
    expect(compileExpression('tcp\0')).toEqual({ ok: false, error: 'a NUL character at character 4' });
    const long = compileExpression('vlan and '.repeat(900) + 'tcp');
    expect(long).toMatchObject({ ok: false, error: expect.stringMatching(/\d+ instructions, at most 4096/) as string });
  });

  it.each([
    ['foo', 'syntax error at character 1: "foo"'],
    ['tcp port 80 $ and udp', 'syntax error at character 13: "$"'],
    ['münchen', 'syntax error at character 1: "m"'],
    ['((tcp)', 'syntax error: something is missing at the end'],
    ['host localhost', "unknown host 'localhost': names of hosts are never looked up: write the address"],
    ['tcp port nosuch', "unknown port 'nosuch': /etc/services does not have the name: write the number"],
    ['tcp and udp', 'expression rejects all packets'],
  ])('says what is wrong with %s', (text, error) => {
    expect(compileExpression(text)).toEqual({ ok: false, error });
  });

  it('gives the same object again for a text that it knows', () => {
    const [first] = compileExpressions(['tcp port 4711']);
    expect(compileExpressions(['udp', 'tcp port 4711'])[1]).toBe(first);
  });
});
