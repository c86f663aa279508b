/** The doctor on real veth pairs: what it finds, that its commands mend it, and that it changes nothing. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os, { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runDoctor } from '../../src/control/doctor/doctor.js';
import type { Finding } from '../../src/control/doctor/finding.js';
import { readLinkFacts } from '../../src/control/doctor/link_facts.js';
import { realSystem } from '../../src/control/doctor/system.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const tag = `drt${process.pid % 100000}`;
const near = `${tag}a`;
const far = `${tag}b`;
const namespace = `${tag}ns`;

const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' });

function examine(...interfaces: string[]): Finding[] {
  return runDoctor(realSystem(), { interfaces, frameCount: 4096, frameSize: 2048 }).findings;
}

function finding(check: string): Finding | undefined {
  return examine(near).find((one) => one.check === check && one.subject === near);
}

/** Runs a finding's command as its reader would: pasted into a shell. */
function apply(fix: string | undefined): void {
  execFileSync('sh', ['-ec', fix ?? 'false'], { stdio: 'pipe' });
}

/** Everything about the two ends that the doctor could have changed. */
function state(): string {
  return [
    ip('-d', 'link', 'show', 'dev', near),
    ip('-n', namespace, '-d', 'link', 'show', 'dev', far),
    execFileSync('ethtool', ['-k', near], { encoding: 'utf8' }),
    execFileSync('ip', ['netns', 'exec', namespace, 'ethtool', '-k', far], { encoding: 'utf8' }),
  ].join('\n');
}

beforeEach(() => {
  ip('netns', 'add', namespace);
  ip(
    'link',
    'add',
    near,
    'numrxqueues',
    '2',
    'numtxqueues',
    '2',
    'type',
    'veth',
    'peer',
    'name',
    far,
    'netns',
    namespace,
  );
  ip('link', 'set', near, 'up');
  ip('-n', namespace, 'link', 'set', far, 'up');
});

afterEach(() => {
  spawnSync('ip', ['link', 'del', near]);
  spawnSync('ip', ['netns', 'del', namespace]);
});

describe('the doctor, on a veth pair', () => {
  it('knows the driver, its queues and its state, and changes nothing', () => {
    const before = state();
    const findings = examine(near);
    const levels = Object.fromEntries(
      findings.filter(({ subject }) => subject === near).map(({ check, level }) => [check, level]),
    );
    expect(levels).toMatchObject({ link: 'ok', driver: 'ok', queues: 'ok', mtu: 'ok', 'xdp-program': 'ok' });
    expect(findings.find(({ check }) => check === 'driver')?.text).toContain(
      'veth (virtual Ethernet pair): native XDP since 4.19, no zero-copy',
    );
    expect(findings.find(({ check }) => check === 'kernel')?.text).toContain(os.release());
    expect(state()).toBe(before);
  });

  it('opens an AF_XDP socket to see whether one can be had', () => {
    expect(examine(near).find(({ check }) => check === 'af-xdp')).toMatchObject({
      level: 'ok',
      text: 'an AF_XDP socket can be opened',
    });
  });

  it("finds the other end's checksum offload in its namespace, and its command mends it", () => {
    const found = finding('tx-checksum');
    expect(found).toMatchObject({ level: 'warn', fix: `ip netns exec ${namespace} ethtool -K ${far} tx off` });
    apply(found?.fix);
    expect(finding('tx-checksum')).toBeUndefined();
    apply(finding('tx-vlan')?.fix);
    expect(finding('tx-vlan')).toBeUndefined();
  });

  it('sees a missing carrier and brings the other end up', () => {
    ip('-n', namespace, 'link', 'set', far, 'down');
    const found = finding('link');
    expect(found).toMatchObject({ level: 'bad', text: expect.stringContaining('no carrier') });
    apply(found?.fix);
    expect(finding('link')?.level).toBe('ok');
  });

  it('sees that it is down', () => {
    ip('link', 'set', near, 'down');
    expect(finding('link')).toMatchObject({ level: 'bad', fix: `ip link set dev ${near} up` });
  });

  it('raises the MTU for encapsulation with its own command', () => {
    const found = finding('encapsulation');
    expect(found?.level).toBe('warn');
    apply(found?.fix);
    expect(finding('encapsulation')?.level).toBe('ok');
  });

  it('is right about the MTU from which on native XDP is refused', () => {
    const program = compileForeign();
    try {
      // The kernel looks at the MTU of the end that sends.
      ip('-n', namespace, 'link', 'set', far, 'mtu', '9000');
      expect(finding('mtu')?.level).toBe('bad');
      const attach = spawnSync('ip', ['link', 'set', 'dev', near, 'xdpdrv', 'obj', program.object, 'sec', 'xdp'], {
        encoding: 'utf8',
      });
      expect(attach.status).not.toBe(0);
      apply(finding('mtu')?.fix);
      ip('link', 'set', 'dev', near, 'xdpdrv', 'obj', program.object, 'sec', 'xdp');
    } finally {
      program.remove();
    }
  });

  it('names a foreign XDP program, and its command takes it off', () => {
    const program = compileForeign();
    try {
      for (const mode of ['xdpdrv', 'xdpgeneric']) {
        ip('link', 'set', 'dev', near, mode, 'obj', program.object, 'sec', 'xdp');
        const found = finding('xdp-program');
        expect(found).toMatchObject({ level: 'bad', text: expect.stringContaining('foreign_pass') });
        expect(found?.text).toContain(mode === 'xdpdrv' ? 'native mode' : 'generic mode');
        apply(found?.fix);
        expect(finding('xdp-program')?.level).toBe('ok');
      }
    } finally {
      program.remove();
    }
  });
});

describe('the doctor, on a program that a process holds', () => {
  it("names the process and the link, and knows sluice's own program", async () => {
    const script = `import { native, bpfObjectPath } from ${JSON.stringify(join(root, 'dist/native.js'))};
      const addon = native();
      const object = new addon.BpfObject(bpfObjectPath('pass'));
      object.load();
      const link = object.attachXdp(object.programs()[0], addon.linkInfo(${JSON.stringify(near)}).ifindex, 'native');
      console.log(link.id);
      setTimeout(() => {}, 20_000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const [line] = (await once(child.stdout, 'data')) as [Buffer];
      const found = finding('xdp-program');
      expect(found).toMatchObject({ level: 'info', text: expect.stringContaining('sluice_pass') });
      expect(found?.text).toContain(`held by node (${child.pid})`);
      expect(readLinkFacts(realSystem(), near)?.program?.linkId).toBe(Number(line.toString()));
    } finally {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
});

describe('sluice doctor, the command', () => {
  it('runs inside a namespace, prints JSON, and exits 69 for what is bad', () => {
    const command = join(root, 'dist/cli/commands/doctor.js');
    expect(existsSync(command), 'dist/ is built by: npm run setup').toBe(true);
    const script = `import { doctorCommand } from ${JSON.stringify(command)};
      await doctorCommand().parseAsync(process.argv.slice(1), { from: 'user' });`;
    const doctor = (...args: string[]) =>
      spawnSync(
        'ip',
        ['netns', 'exec', namespace, process.execPath, '--input-type=module', '-e', script, '--', ...args],
        { encoding: 'utf8' },
      );

    const good = doctor(far, '--json');
    expect(good.stderr).toBe('');
    const report = JSON.parse(good.stdout) as { findings: Finding[]; counts: { bad: number } };
    // The other end is in the namespace that this test runs in, which has no name there: the doctor says how to find it.
    expect(report.findings.find(({ check }) => check === 'peer')?.level).toBe('info');
    expect(report.counts.bad).toBe(0);
    expect(good.status).toBe(0);

    const bad = doctor('nosuch0');
    expect(bad.status).toBe(69);
    expect(bad.stdout).toMatch(/BAD {2}interface: no interface nosuch0/);
  });

  it('works without any privilege and says what it could not see', () => {
    const command = join(root, 'dist/cli/commands/doctor.js');
    const script = `process.setgroups([]); process.setgid(65534); process.setuid(65534);
      const { doctorCommand } = await import(${JSON.stringify(command)});
      await doctorCommand().parseAsync(process.argv.slice(1), { from: 'user' });`;
    const run = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', script, '--', near, '--json', '--frames', '1024'],
      { encoding: 'utf8' },
    );
    expect(run.stderr).toBe('');
    const report = JSON.parse(run.stdout) as { findings: Finding[]; counts: { bad: number } };
    const level = (check: string) => report.findings.find((one) => one.check === check)?.level;
    expect({ capabilities: level('capabilities'), driver: level('driver'), mtu: level('mtu') }).toEqual({
      capabilities: 'warn',
      driver: 'ok',
      mtu: 'ok',
    });
    expect(level('peer')).toBe('info');
    expect(report.counts.bad).toBe(0);
    expect(run.status).toBe(0);
  });
});

/** A program that is not ours by its name: what another tool would have left on the interface. */
function compileForeign(): { object: string; remove(): void } {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-doctor-'));
  const source = join(directory, 'foreign.bpf.c');
  const object = join(directory, 'foreign.bpf.o');
  const text = `#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int foreign_pass(struct xdp_md *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "Dual BSD/GPL";
`;
  writeFileSync(source, text);
  const include = `-I/usr/include/${os.machine()}-linux-gnu`;
  execFileSync('clang', ['-O2', '-g', '-target', 'bpf', include, '-c', source, '-o', object]);
  return { object, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
