import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { runDirectory } from '../../src/playground/owner.js';
import { compiledProgram, splitLines } from '../../src/playground/process.js';
import type { SceneResult } from '../../src/playground/scenes/scene.js';
import { listNamespaces, run } from '../../src/playground/system.js';

interface Finished {
  pid: number;
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `sluice demo`; `onLine` may act on what it prints. */
function demo(args: string[], onLine: (line: string, pid: number) => void = () => undefined): Promise<Finished> {
  const child = spawn(process.execPath, [compiledProgram('cli/main'), 'demo', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  let stderr = '';
  splitLines(child.stdout, (line) => {
    lines.push(line);
    onLine(line, child.pid!);
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  return new Promise((resolve) =>
    child.once('close', (code) => resolve({ pid: child.pid!, code, stdout: lines.join('\n'), stderr })),
  );
}

const programIds = () =>
  (JSON.parse(run('bpftool', ['-j', 'prog', 'list'])) as { id: number; name?: string }[])
    .filter((program) => program.name?.startsWith('sluice_'))
    .map((program) => program.id);

/** What the demo of that process left on the machine. `before`: BPF programs that were there when it started. */
function leftBy(pid: number, before: number[]) {
  const tag = `sl${pid.toString(36)}`;
  // The second is that of the scene with a playground of its own.
  const tags = [tag, `${tag}_2`];
  return {
    namespaces: listNamespaces().filter((name) => tags.some((prefix) => name.startsWith(`${prefix}-`))),
    directories: tags.filter((one) => existsSync(runDirectory(one))),
    programs: programIds().filter((id) => !before.includes(id)),
  };
}

const NOTHING = { namespaces: [], directories: [], programs: [] };

describe('sluice demo', () => {
  it('plays all scenes, all of them hold, and nothing is left', { timeout: 180_000 }, async () => {
    const before = programIds();
    const { pid, code, stdout, stderr } = await demo(['--json']);
    const { ok, scenes } = JSON.parse(stdout) as { ok: boolean; scenes: SceneResult[] };
    expect(scenes.flatMap((scene) => scene.failures)).toEqual([]);
    expect([code, ok, scenes.length, stderr]).toEqual([0, true, 6, '']);
    // Where the rule runs is where its packets are dropped.
    expect(scenes[2].facts).toMatchObject({
      off: { sent: 40_000, inWorkers: 40_000, inKernel: 0, lost: 0 },
      auto: { sent: 40_000, inWorkers: 0, inKernel: 40_000, lost: 0 },
      http: { failed: 0 },
    });
    const { facts, lines } = scenes[1];
    expect(facts).toMatchObject({ nodes: 2, replaced: ['b1', 'b2', 'b3'], kernelReset: 0 });
    expect(Object.values(facts.broken as Record<string, number>)).toEqual([0, 0, 0, 0, 0, 0]);
    // Every held connection of the beginning, and those that followed it.
    expect(facts.held).toBeGreaterThan(60);
    expect(facts.finished).toBe(facts.opened);
    expect(lines.at(-1)).toMatch(/^✓ 0 connections broken/);
    // The kernel frees programs a moment after their last descriptor.
    await expect.poll(() => leftBy(pid, before)).toEqual(NOTHING);
  });

  it.each([
    // One playground, and two.
    { scene: 3, when: /^3\/6/ },
    { scene: 2, when: /backends are up/ },
  ])('cleans up after Ctrl-C in the middle of scene $scene', async ({ scene, when }) => {
    const before = programIds();
    const { pid, code, stdout } = await demo(['--only', String(scene)], (line, child) => {
      if (when.test(line)) setTimeout(() => process.kill(child, 'SIGINT'), 700);
    });
    expect(code).toBe(130);
    expect(stdout).toContain('interrupted');
    // Plain lines: no escape code where there is no terminal.
    expect(stdout).not.toMatch(/\x1b/);
    // The kernel frees programs a moment after their last descriptor.
    await expect.poll(() => leftBy(pid, before)).toEqual(NOTHING);
  });

  it('leaves a playground that works when asked to, and removes it when asked to', async () => {
    const kept = await demo(['--keep', '--only', '1']);
    expect([kept.code, kept.stderr]).toEqual([0, '']);
    const command = /^ {2}ip (netns exec \S+ curl http:\S+)$/m.exec(kept.stdout)![1].split(' ');
    expect(run('ip', command)).toMatch(/^\{"backend":"b\d"/);
    const status = /status --socket (\S+)$/m.exec(kept.stdout)![1];
    expect(
      JSON.parse(run(process.execPath, [compiledProgram('cli/main'), 'status', '--json', '--socket', status])),
    ).toMatchObject({
      ready: true,
    });

    const { stdout } = await demo(['--clean']);
    expect(stdout).toMatch(/^removed: sl/);
    expect(kept.stdout).toContain(/removed: (\S+)$/.exec(stdout)![1]);
    expect(() => run('ip', command)).toThrow();
  });

  it('says so when it is not run as root', () => {
    const args = [
      '--reuid',
      '65534',
      '--regid',
      '65534',
      '--clear-groups',
      process.execPath,
      compiledProgram('cli/main'),
      'demo',
    ];
    expect(() => run('setpriv', args)).toThrow(/only root may do[^]*sudo npm run demo/);
  });
});
