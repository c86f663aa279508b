/** Another revision of this repository, compiled, beside the checkout and gone when the process is. */
import { spawnSync } from 'node:child_process';
import { existsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/native.js';
import { atExit, ChildError, run, temporaryDirectory } from '../process.js';

export interface Revision {
  /** As it was asked for. */
  name: string;
  commit: string;
  /** Of the compiled benches: its dist-bench/bench. */
  benches: string;
}

export interface Needs {
  /** Sources that it must have, from the root. */
  files: readonly string[];
  /** Its benches load the addon. */
  native: boolean;
}

type Tell = (line: string) => void;

/** What git says. @throws ChildError with its complaint */
function git(root: string, ...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync('git', ['-C', root, ...args], { encoding: 'utf8' });
  if (error) throw new ChildError(`git cannot be run, and a revision comes from it: ${error.message}`);
  if (status !== 0) throw new ChildError(`git ${args.join(' ')}: ${stderr.trim()}`);
  return stdout;
}

/** @throws ChildError where git knows no such revision */
export function resolveCommit(name: string, root = packageRoot): string {
  try {
    return git(root, 'rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`).trim();
  } catch (error) {
    if (error instanceof ChildError && error.message.includes('cannot be run')) throw error;
    throw new ChildError(`git knows no revision "${name}" here`);
  }
}

/** Files of these that the commit does not have. */
export function missingFiles(commit: string, files: readonly string[], root = packageRoot): string[] {
  const there = new Set(git(root, 'ls-tree', '--name-only', '-r', commit, '--', ...files).split('\n'));
  return files.filter((file) => !there.has(file));
}

/** Whether these paths are the same in the commit and in the checkout as it is. */
function unchanged(commit: string, ...paths: string[]): boolean {
  return (
    spawnSync('git', ['-C', packageRoot, 'diff', '--quiet', commit, '--', ...paths]).status === 0 &&
    git(packageRoot, 'ls-files', '--others', '--exclude-standard', '--', ...paths) === ''
  );
}

/**
 * Checks the revision out into a temporary worktree and compiles its benches. Packages and the addon are this checkout's where nothing that makes them differs.
 * @throws ChildError where git does not know it, it has no such bench, or it does not compile
 */
export async function checkOut(name: string, { files, native }: Needs, tell: Tell): Promise<Revision> {
  const commit = resolveCommit(name);
  const label = `${name} (${commit.slice(0, 12)})`;
  const missing = missingFiles(commit, files);
  if (missing.length > 0) throw new ChildError(`${label} has no such bench: ${missing.join(', ')} is not there`);
  const root = join(temporaryDirectory(), 'checkout');
  atExit(() => spawnSync('git', ['-C', packageRoot, 'worktree', 'remove', '--force', root]));
  git(packageRoot, '-c', 'core.hooksPath=/dev/null', 'worktree', 'add', '--quiet', '--detach', root, commit);
  await packages(commit, root, label, tell);
  if (native) await addon(commit, root, label, tell);
  tell(`${label}: compiling`);
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  await inside(label, [process.execPath, tsc, '-p', join(root, 'tsconfig.bench.json')]);
  return { name, commit, benches: join(root, 'dist-bench/bench') };
}

async function packages(commit: string, root: string, label: string, tell: Tell): Promise<void> {
  if (unchanged(commit, 'package-lock.json')) return symlinkSync(join(packageRoot, 'node_modules'), join(root, 'node_modules')); // prettier-ignore
  tell(`${label}: npm ci, its package-lock.json differs`);
  const quiet = ['--ignore-scripts', '--include=dev', '--no-audit', '--no-fund', '--silent'];
  await inside(label, ['npm', 'ci', '--prefix', root, ...quiet]);
}

async function addon(commit: string, root: string, label: string, tell: Tell): Promise<void> {
  const built = existsSync(join(packageRoot, 'build/Release'));
  if (built && unchanged(commit, 'native', 'bpf', 'binding.gyp', 'package-lock.json'))
    return symlinkSync(join(packageRoot, 'build'), join(root, 'build'));
  tell(`${label}: building its addon, native/, bpf/ or binding.gyp differ`);
  await inside(label, [process.execPath, join(root, 'setup.mjs'), '--only', 'native', '--quiet']);
}

/** Compilers complain on standard output. */
async function inside(label: string, command: readonly string[]): Promise<void> {
  try {
    await run(command);
  } catch (error) {
    if (!(error instanceof ChildError)) throw error;
    throw new ChildError(`${label} cannot be built: ${error.message}`);
  }
}
