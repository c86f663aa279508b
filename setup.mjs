#!/usr/bin/env node
/**
 * Everything that a fresh clone needs before `npm run demo` or `npm test`, in four steps:
 *
 *   apt      compilers, headers and tools from the distribution
 *   npm      node_modules/, exactly as package-lock.json says, without running any package's scripts
 *   native   the addon (build/Release/sluice.node), the compiler of expressions (build/Release/sluice-pcap) and the BPF
 *            objects (build/bpf/*.bpf.o)
 *   dist     TypeScript to JavaScript (dist/; with --bench also dist-bench/, and the reference programs in C, build/bench/)
 *
 * A step that is already right is skipped, so a second run takes a fraction of a second. "Right" is decided by content (a
 * hash of what goes in, kept beside what comes out), not by time stamps, so a checkout or a copy never confuses it.
 *
 *   node setup.mjs [--only apt|peers|npm|native|dist|bench]… [--bench] [--peers] [--check] [--quiet]
 *
 * --peers installs what the benches compare with and nothing else needs (DPDK: 200 small packages). --check says what is missing and exits 1,
 * changing nothing. Nothing is downloaded but by apt and npm, from the registries that they are configured for. This file uses Node's own modules only: it runs before anything is installed.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(fileURLToPath(import.meta.url));
const MINIMUM_NODE = [20, 19];

/**
 * What comes from apt, and why. `probe` tells whether the thing is there without asking dpkg, so that a tool built by hand or
 * another distribution will do: a bare name is looked up in PATH, an absolute path must exist.
 *
 * Left out because these bring them along: libelf-dev and zlib1g-dev (libbpf-dev), libc6-dev and linux-libc-dev (g++: the UAPI
 * headers, if_xdp.h among them), gcc (g++), setpriv, prlimit and unshare (util-linux, always there). llvm is not needed: clang
 * writes BPF bytecode and its BTF by itself.
 */
const PACKAGES = [
  { name: 'clang', probe: 'clang', why: 'compiles bpf/*.bpf.c to BPF bytecode' },
  {
    name: 'libbpf-dev',
    probe: '/usr/include/bpf/libbpf.h',
    why: 'loads BPF objects from the addon, and has bpf_helpers.h',
  },
  { name: 'libpcap-dev', probe: '/usr/include/pcap/pcap.h', why: 'compiles pcap-filter expressions' },
  { name: 'g++', probe: 'g++', why: 'compiles the native addon' },
  { name: 'make', probe: 'make', why: 'runs the build that node-gyp writes' },
  { name: 'python3', probe: 'python3', why: 'runs node-gyp' },
  { name: 'iproute2', probe: 'ip', why: 'namespaces and veth pairs of the demo and the tests' },
  { name: 'ethtool', probe: 'ethtool', why: 'offloads and queues: doctor, demo, tests' },
  { name: 'bpftool', probe: 'bpftool', why: 'tests look for BPF objects left behind' },
  {
    name: 'iptables',
    probe: 'iptables',
    why: "the kernel's own hashlimit and connlimit, which tests hold ours against",
  },
  { name: 'iputils-ping', probe: 'ping', why: 'reachability in the demo and the tests' },
  { name: 'procps', probe: 'sysctl', why: 'settings of namespaces in tests, and commands that the doctor prints' },
  { name: 'ipset', probe: 'ipset', why: 'what our sets are compared with, in tests' },
  { name: 'nftables', probe: 'nft', why: 'a NAT and a firewall between client and node, in tests' },
  { name: 'tcpdump', probe: 'tcpdump', why: 'an eye on packets that is not ours, in tests and in the playground' },
  { name: 'curl', probe: 'curl', why: 'to talk to the playground of demo --keep by hand' },
];

/** What the pps bench holds sluice against where it is there; only installed when asked for (--peers). */
const PEERS = [{ name: 'dpdk-dev', probe: 'dpdk-testpmd', why: "DPDK's testpmd, with net_af_xdp, in the pps bench" }];

/** Names in other distributions, for the message only. */
const ELSEWHERE =
  'Fedora: dnf install clang libbpf-devel libpcap-devel elfutils-libelf-devel gcc-c++ make python3 iproute ethtool bpftool curl tcpdump iptables iputils\n' +
  '  Arch: pacman -S clang libbpf libpcap gcc make python iproute2 ethtool bpf curl tcpdump iptables iputils';

const STEPS = ['apt', 'peers', 'npm', 'native', 'dist', 'bench'];

// ---------------------------------------------------------------------------------------------------------------------
// Helpers

/** A failure that the reader can act on; printed without a stack. */
class SetupError extends Error {}

const options = parseArguments(process.argv.slice(2));
const missing = [];

function parseArguments(args) {
  const parsed = { only: [], bench: false, peers: false, check: false, quiet: false };
  for (let i = 0; i < args.length; i++) {
    const [name, inline] = args[i].split('=', 2);
    if (name === '--only') {
      const step = inline ?? args[++i];
      if (!STEPS.includes(step)) usage(`--only takes one of ${STEPS.join(', ')}, not ${step ?? 'nothing'}`);
      parsed.only.push(step);
    } else if (name === '--bench') parsed.bench = true;
    else if (name === '--peers') parsed.peers = true;
    else if (name === '--check') parsed.check = true;
    else if (name === '--quiet') parsed.quiet = true;
    else if (name === '--help' || name === '-h') usage();
    else usage(`unknown option ${args[i]}`);
  }
  return parsed;
}

function usage(problem) {
  const text = `usage: node setup.mjs [--only ${STEPS.join('|')}]... [--bench] [--peers] [--check] [--quiet]`;
  if (problem) console.error(`setup: ${problem}`);
  (problem ? console.error : console.log)(text);
  process.exit(problem ? 2 : 0);
}

/** One line before work is done, with what and why. Under --check it is the finding instead. Returns whether to go on. */
function announce(step, what, why) {
  if (options.check) {
    missing.push(step);
    console.log(`setup: ${step}: to do: ${what} (${why})`);
    return false;
  }
  if (!options.quiet) console.log(`setup: ${step}: ${what} (${why})`);
  return true;
}

/** Runs a program without a shell. Its output is shown only when it fails: the last lines, with what to do. */
function run(step, file, args, advice, extraEnv = {}) {
  const result = spawnSync(file, args, {
    cwd: root,
    env: { ...process.env, ...extraEnv },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 256 << 20,
  });
  if (!result.error && result.status === 0) return result.stdout;
  const output = `${result.stdout ?? ''}${result.stderr ?? ''}`.trimEnd().split('\n');
  const reason = result.error?.message ?? (result.signal ? `killed by ${result.signal}` : `exit ${result.status}`);
  // tsc lists what it emitted after its errors; that says nothing here.
  const telling = output.filter((line) => !line.startsWith('TSFILE: '));
  const tail = telling.slice(-25).map((line) => `  | ${line}`);
  const lines = [
    `step "${step}" failed (${reason})`,
    `  command: ${[file, ...args].join(' ')}`,
    ...tail,
    `  what to do: ${advice}`,
  ];
  throw new SetupError(lines.join('\n'));
}

/** All files under the given files and directories, relative to the root, sorted. */
function filesUnder(...entries) {
  const found = [];
  const visit = (relative) => {
    const stat = fs.statSync(path.join(root, relative), { throwIfNoEntry: false });
    if (stat?.isFile()) found.push(relative);
    if (!stat?.isDirectory()) return;
    for (const name of fs.readdirSync(path.join(root, relative))) visit(path.join(relative, name));
  };
  entries.forEach(visit);
  return found.sort();
}

/** Hash of the content of files and of some words about the surroundings. */
function fingerprint(files, ...surroundings) {
  const hash = createHash('sha256');
  for (const file of files)
    hash
      .update(`${file}\0`)
      .update(fs.readFileSync(path.join(root, file)))
      .update('\0');
  return hash.update(JSON.stringify(surroundings)).digest('hex');
}

const readJson = (relative) => {
  try {
    return JSON.parse(fs.readFileSync(path.join(root, relative), 'utf8'));
  } catch {
    return undefined;
  }
};

const exists = (relative) => fs.existsSync(path.join(root, relative));

function onPath(command) {
  // sbin: an ordinary user's PATH on Debian lacks it, and ethtool and bpftool live there.
  const directories = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/sbin', '/sbin'];
  return directories.some((directory) => directory !== '' && fs.existsSync(path.join(directory, command)));
}

/** When a process started, in ticks since boot; '' when there is none. Tells a lock's owner from a later process of its id. */
function startTime(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[19];
  } catch {
    return '';
  }
}

/** Two set-ups at once would write the same files: the second waits for the first. Stale locks (owner gone) are taken over. */
function withLock(work) {
  const lock = path.join(root, 'build', '.setup-lock');
  fs.mkdirSync(path.dirname(lock), { recursive: true });
  for (let waited = false; ;) {
    try {
      fs.writeFileSync(lock, `${process.pid} ${startTime(process.pid)}`, { flag: 'wx' });
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const [owner, since] = fs.readFileSync(lock, { encoding: 'utf8', flag: 'a+' }).split(' ');
    // An empty file is an owner between creating and writing; the sleep below gives it time.
    if (owner && startTime(owner) !== since) fs.rmSync(lock, { force: true });
    else {
      if (!waited && !options.quiet)
        console.log(`setup: waiting for another set-up to finish (process ${owner || '?'})`);
      waited = true;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    }
  }
  try {
    work();
  } finally {
    fs.rmSync(lock, { force: true });
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Steps

function apt(packages = PACKAGES) {
  const present = (probe) => (probe.startsWith('/') ? fs.existsSync(probe) : onPath(probe));
  // dpkg is asked only about what the probe did not find: asking costs more than all the probes.
  let absent = packages.filter((wanted) => !present(wanted.probe));
  const debian = onPath('dpkg-query') && onPath('apt-get');
  if (debian && absent.length > 0) {
    const format = ['-W', '-f', '${Package} ${db:Status-Abbrev}\n', ...absent.map((wanted) => wanted.name)];
    const answer = spawnSync('dpkg-query', format, { encoding: 'utf8' }).stdout ?? '';
    const installed = answer.split('\n').filter((line) => line.split(' ')[1]?.startsWith('ii'));
    const names = new Set(installed.map((line) => line.split(' ')[0]));
    absent = absent.filter((wanted) => !names.has(wanted.name));
  }
  if (absent.length === 0) return;
  const names = absent.map((wanted) => wanted.name);
  const what = `installing ${names.join(' ')}`;
  if (!announce('apt', what, absent.map((wanted) => `${wanted.name} ${wanted.why}`).join('; '))) return;
  const command = `apt-get install -y --no-install-recommends ${names.join(' ')}`;
  if (!debian) {
    throw new SetupError(
      `step "apt": this is not Debian or Ubuntu. Install by hand what is missing (${names.join(', ')}):\n  ${ELSEWHERE}`,
    );
  }
  if (process.getuid?.() !== 0) {
    throw new SetupError(`step "apt" needs root. Run:\n  sudo apt-get update && sudo ${command}\nand then this again.`);
  }
  const environment = { DEBIAN_FRONTEND: 'noninteractive' };
  const lock = ['-o', 'DPkg::Lock::Timeout=300'];
  run(
    'apt',
    'apt-get',
    [...lock, 'update', '-q'],
    'look at /etc/apt/sources.list* and the network, then run it again.',
    environment,
  );
  const args = [...lock, 'install', '-q', '-y', '--no-install-recommends', ...names];
  run('apt', 'apt-get', args, `run it by hand and read what apt says: ${command}`, environment);
}

/**
 * npm writes node_modules/.package-lock.json last, so it says what was installed completely. Optional packages for other
 * platforms are in the lock file but not there.
 */
function modulesAreRight() {
  const wanted = readJson('package-lock.json')?.packages;
  const actual = readJson('node_modules/.package-lock.json')?.packages;
  if (!wanted || !actual) return false;
  for (const [name, entry] of Object.entries(wanted)) {
    if (name === '' || entry.link) continue;
    const there = actual[name];
    if (there ? there.version !== entry.version || there.integrity !== entry.integrity : !entry.optional) return false;
  }
  return Object.keys(actual).every((name) => name in wanted);
}

function npm() {
  if (modulesAreRight()) return;
  const why = exists('node_modules') ? 'node_modules differs from package-lock.json' : 'no node_modules yet';
  if (!announce('npm', 'npm ci --ignore-scripts', why)) return;
  const args = ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund'];
  run(
    'npm',
    'npm',
    args,
    'check that the npm registry answers (npm ping), and that package-lock.json fits package.json.',
  );
}

/** The directory whose include/node has the headers of the running Node: beside it (nvm, tarball, NodeSource), or /usr. */
function nodeDirectory() {
  const beside = path.resolve(fs.realpathSync(process.execPath), '..', '..');
  for (const directory of [beside, '/usr/local', '/usr']) {
    try {
      const header = fs.readFileSync(path.join(directory, 'include/node/node_version.h'), 'utf8');
      const major = /#define NODE_MAJOR_VERSION (\d+)/.exec(header)?.[1];
      if (major === process.versions.node.split('.')[0]) return directory;
    } catch {
      // No headers here; the next place may have them.
    }
  }
  throw new SetupError(
    `step "native": no headers of Node ${process.versions.node}: ${beside}/include/node is not there.\n` +
      '  what to do: install Node from nodejs.org, NodeSource or nvm (each ships its headers), or the package libnode-dev.',
  );
}

function native() {
  const sources = filesUnder('native', 'bpf', 'bench/reference', 'binding.gyp');
  const gyp = fs.readFileSync(path.join(root, 'binding.gyp'), 'utf8');
  const outputs = [...new Set([...gyp.matchAll(/"(build\/bpf\/[\w.]+)"/g)].map((match) => match[1]))];
  outputs.push('build/Release/sluice.node', 'build/Release/sluice-pcap');
  const modules = readJson('package-lock.json')?.packages ?? {};
  const tools = ['node-gyp', 'node-addon-api'].map((name) => modules[`node_modules/${name}`]?.version);
  const hash = fingerprint(sources, process.version, process.arch, tools);
  const stamp = 'build/.setup-native.json';
  const lost = outputs.find((output) => !exists(output));
  if (!lost && readJson(stamp)?.hash === hash) return;
  const why = lost ? `${lost} is not there` : 'native/, bpf/, binding.gyp or Node changed';
  if (!announce('native', 'building the addon, the compiler of expressions and the BPF objects', why)) return;
  fs.rmSync(path.join(root, stamp), { force: true });
  const gypScript = path.join(root, 'node_modules/node-gyp/bin/node-gyp.js');
  const args = [gypScript, 'configure', 'build', `--nodedir=${nodeDirectory()}`, '--jobs=max', '--loglevel=warn'];
  run(
    'native',
    process.execPath,
    args,
    'read the compiler message above; a missing header or tool is installed by: node setup.mjs --only apt',
  );
  fs.writeFileSync(path.join(root, stamp), JSON.stringify({ hash }));
}

/** Compiles with tsc when the hash of its inputs changed, then removes files of sources that are gone. */
function compile(step, config, directory, inputs) {
  const compiler = readJson('package-lock.json')?.packages?.['node_modules/typescript']?.version;
  const files = filesUnder(...inputs).filter((file) => /\.(ts|mts|json)$/.test(file));
  const hash = fingerprint(files, compiler);
  const stamp = `${directory}/.setup-stamp.json`;
  const before = readJson(stamp);
  if (before?.hash === hash && before.emitted.every(exists)) return;
  const why =
    before?.hash === hash ? `files are gone from ${directory}/` : before ? 'sources changed' : 'not compiled yet';
  if (!announce(step, `compiling TypeScript to ${directory}/`, why)) return;
  fs.rmSync(path.join(root, stamp), { force: true });
  const args = [path.join(root, 'node_modules/typescript/bin/tsc'), '-p', config, '--listEmittedFiles'];
  const output = run(step, process.execPath, args, 'correct the errors above; `npm run typecheck` shows them all.');
  const emitted = new Set(
    [...output.matchAll(/^TSFILE: (.+)$/gm)].map((match) => path.relative(root, path.resolve(root, match[1]))),
  );
  for (const file of filesUnder(directory)) if (!emitted.has(file)) fs.rmSync(path.join(root, file));
  fs.writeFileSync(path.join(root, stamp), JSON.stringify({ hash, emitted: [...emitted] }));
}

function dist() {
  compile('dist', 'tsconfig.build.json', 'dist', ['src', 'tsconfig.json', 'tsconfig.build.json']);
}

/** What the benches are held against: a program of C or C++ for each job, in build/bench/. `path.cc` is compiled by its own bench. */
function references() {
  const sources = filesUnder('bench/reference');
  const programs = sources.filter((file) => /\.(c|cc)$/.test(file) && path.basename(file) !== 'path.cc');
  const outputs = programs.map((file) => `build/bench/${path.parse(file).name}`);
  const hash = fingerprint(sources, process.arch);
  const stamp = 'build/bench/.setup-stamp.json';
  if (readJson(stamp)?.hash === hash && outputs.every(exists)) return;
  if (!announce('bench', 'compiling bench/reference/ to build/bench/', 'sources changed, or not compiled yet')) return;
  fs.rmSync(path.join(root, 'build/bench'), { recursive: true, force: true });
  fs.mkdirSync(path.join(root, 'build/bench'), { recursive: true });
  const flags = ['-O2', '-Wall', '-Wextra', '-Werror'];
  for (const [i, source] of programs.entries()) {
    const [compiler, standard] = source.endsWith('.c') ? ['gcc', '-std=gnu11'] : ['g++', '-std=c++17'];
    run('bench', compiler, [standard, ...flags, '-o', outputs[i], source], 'read the compiler message above.');
  }
  fs.writeFileSync(path.join(root, stamp), JSON.stringify({ hash }));
}

function bench() {
  references();
  compile('bench', 'tsconfig.bench.json', 'dist-bench', ['bench', 'src', 'tsconfig.json', 'tsconfig.bench.json']);
}

// ---------------------------------------------------------------------------------------------------------------------

function main() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor < MINIMUM_NODE[1])) {
    throw new SetupError(`Node ${process.versions.node} is too old: sluice needs ${MINIMUM_NODE.join('.')} or newer.`);
  }
  if (process.platform !== 'linux') throw new SetupError('sluice is built on AF_XDP: it needs Linux.');
  const steps = { apt: () => apt(), peers: () => apt(PEERS), npm, native, dist, bench };
  const chosen = options.only.length > 0 ? [...options.only] : ['apt', 'npm', 'native', 'dist'];
  if (options.bench && !chosen.includes('bench')) chosen.push('bench');
  if (options.peers && !chosen.includes('peers')) chosen.push('peers');
  const started = performance.now();
  const work = () => STEPS.filter((step) => chosen.includes(step)).forEach((step) => steps[step]());
  if (options.check) work();
  else withLock(work);
  if (missing.length > 0) {
    console.log(`setup: ${missing.length} of ${chosen.length} steps to do; run: npm run setup`);
    process.exitCode = 1;
  } else if (!options.quiet) {
    console.log(`setup: ${chosen.join(', ')} in place (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  }
}

try {
  main();
} catch (error) {
  console.error(error instanceof SetupError ? `setup: ${error.message}` : error);
  process.exitCode = 1;
}
