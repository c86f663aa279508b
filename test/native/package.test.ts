/** What `npm pack` would publish: all that a consumer needs, nothing else, and it works where it is unpacked. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot as root } from '../../src/native.js';

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, string | { types: string; default: string }>;
  bin: Record<string, string>;
  dependencies: Record<string, string>;
};

let directory: string;
let files: string[];
let bytes: number;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-pack-'));
  const text = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', directory], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [packed] = JSON.parse(text) as { filename: string; unpackedSize: number; files: { path: string }[] }[];
  files = packed.files.map(({ path }) => path);
  bytes = packed.unpackedSize;
  // As npm would install it, with this clone's dependencies.
  mkdirSync(join(directory, 'node_modules'));
  execFileSync('tar', ['-xzf', join(directory, packed.filename), '-C', join(directory, 'node_modules')]);
  execFileSync('mv', [join(directory, 'node_modules/package'), join(directory, 'node_modules/sluice')]);
  for (const name of [...Object.keys(manifest.dependencies), 'typescript']) {
    symlinkSync(join(root, 'node_modules', name), join(directory, 'node_modules', name));
  }
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function node(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: directory, encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe('the package', () => {
  it('has what its exports and its command name, the addon, the BPF objects, and what they are built from', () => {
    const named = Object.values(manifest.exports).flatMap((entry) =>
      typeof entry === 'string' ? [entry] : [entry.types, entry.default],
    );
    const wanted = [
      ...[...named, ...Object.values(manifest.bin)].map((path) => path.replace(/^\.\//, '')),
      'build/Release/sluice.node',
      'build/Release/sluice-pcap',
      'build/bpf/redirect.bpf.o',
      'build/bpf/decap.bpf.o',
      'dist/dataplane/worker.js',
      'dist/dataplane/filter/typescript_hooks.js',
      'dist/dataplane/filter/transpile.js',
      'binding.gyp',
      'native/addon.cc',
      'bpf/redirect.bpf.c',
      'src/index.ts',
      'examples/readme.ts',
      'docs/library.md',
      'README.md',
      'LICENSE',
    ];
    expect(wanted.filter((path) => !files.includes(path))).toEqual([]);
  });

  it('has nothing else', () => {
    const known =
      /^(dist\/.+\.(js|d\.ts|js\.map)|build\/bpf\/\w+\.bpf\.o|build\/Release\/sluice(\.node|-pcap)|src\/.+\.ts|native\/(pcap\/)?[\w.]+\.(cc|h|md)|bpf\/[\w.]+\.(c|h|md)|examples\/[\w-]+\.(ts|yaml|md)|docs\/[\w-]+\.md|binding\.gyp|setup\.mjs|package\.json|LICENSE|(README|ARCHITECTURE|CHANGELOG)\.md)$/;
    expect(files.filter((path) => !known.test(path))).toEqual([]);
    expect(bytes).toBeLessThan(12e6);
  });

  it('has no compiled file whose source is gone', () => {
    const stale = files.filter((path) => {
      const source = /^dist\/(.+)\.(d\.ts|js|js\.map)$/.exec(path)?.[1];
      return source !== undefined && !files.includes(`src/${source}.ts`);
    });
    expect(stale).toEqual([]);
  });

  it('can be imported where it is installed, each of its entries', () => {
    const script = `
      const { openPort, parse, Verdict } = await import('sluice');
      const { loadConfig } = await import('sluice/config');
      console.log(typeof openPort, typeof parse, typeof loadConfig, Verdict.Drop);
      await openPort({ interface: 'nowhere0' }).catch(({ code }) => console.log(code));`;
    writeFileSync(join(directory, 'program.mjs'), script);
    const { status, stdout, stderr } = node('program.mjs');
    expect({ status, stdout, stderr }).toEqual({
      status: 0,
      stdout: 'function function function 1\nSLUICE_DEVICE\n',
      stderr: '',
    });
  });

  it('lets a filter have its names without the rest: no YAML, no schema', () => {
    writeFileSync(join(directory, 'loaded.mjs'), "import 'sluice';\n");
    const rest = ['yaml', 'zod', 'pino', 'prom-client', 'commander'];
    for (const name of rest) rmSync(join(directory, 'node_modules', name));
    const { status, stderr } = node('loaded.mjs');
    expect([status, stderr]).toEqual([0, '']);
    for (const name of rest) symlinkSync(join(root, 'node_modules', name), join(directory, 'node_modules', name));
  });

  it('runs TypeScript by `--import sluice/ts`, types and all', () => {
    writeFileSync(
      join(directory, 'program.ts'),
      "import { Verdict, type Policy } from 'sluice';\nenum Two { two = 2 }\nconst policy: Policy = () => Verdict.Drop;\nconsole.log(policy(undefined as never) + Two.two);\n",
    );
    expect(node('--import', 'sluice/ts', 'program.ts')).toEqual({ status: 0, stdout: '3\n', stderr: '' });
  });

  it('has the compiler of expressions where its command looks for it', () => {
    const main = 'node_modules/sluice/dist/cli/main.js';
    const { status, stdout, stderr } = node(main, 'rules', 'compile', '--only', 'bytecode', 'ip');
    expect({ status, stdout, stderr }).toEqual({
      status: 0,
      stdout: '4,40 0 0 12,21 0 1 2048,6 0 0 262144,6 0 0 0\n',
      stderr: '',
    });
    rmSync(join(directory, 'node_modules/sluice/build/Release/sluice-pcap'));
    expect(node(main, 'rules', 'compile', 'ip')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/not built[^]*npm run setup/) as string,
    });
  });

  it('has a command that answers', () => {
    const { status, stdout } = node('node_modules/sluice/dist/cli/main.js', '--help');
    expect(status).toBe(0);
    expect(stdout).toContain('doctor');
  });
});
