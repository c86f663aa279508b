/**
 * A kernel whose virtio-net and igb have zero-copy, and a QEMU that has their devices, from newer suites of the Debian mirror that
 * this machine's apt already uses. apt itself resolves, downloads and checks signatures, in directories of its own: the machine's
 * package lists, sources and installed packages are neither used nor changed, and nothing needs root.
 *
 * Into the cache directory go
 *
 *   vmlinuz            the kernel
 *   modules/*.ko       the modules that the guest loads, decompressed, named so that their order is the order to load them in
 *   root/              QEMU and its libraries, down to libc and ld.so
 *   ready.json         what it is; written last
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

/** What is needed cannot be had here, and why: a reason to skip, not a failure. */
export class Unavailable extends Error {}

/** Tried in this order. */
const SUITES = ['forky', 'sid'];
/** virtio_net and igb of 6.12 answer EOPNOTSUPP to XDP_ZEROCOPY; 7.2 is the first that was seen to bind. */
const MINIMUM_KERNEL = [7, 2];
const QEMU = 'qemu-system-x86';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
/** For the root file system over 9p; the NICs; `Pass` to the host; what `ss --xdp` asks. With all that they depend on. */
const MODULES = ['9p', '9pnet_virtio', 'virtio_net', 'igb', 'tun', 'xsk_diag', 'unix_diag'];
/** Seconds that one step may take: a mirror that stalls is no mirror. */
const STEP_LIMIT_S = 120;

/**
 * @param {string} directory where it is kept from run to run
 * @param {(line: string) => void} say
 * @returns {{ kernel: string, modules: string[], root: string, release: string, qemu: string }} `modules` in the order to load them
 * @throws Unavailable
 */
export function obtain(directory, say) {
  const ready = join(directory, 'ready.json');
  if (!existsSync(ready)) {
    if (process.arch !== 'x64') throw new Unavailable(`only for x86-64 as yet, this is ${process.arch}`);
    // Beside it and renamed whole: a run that is killed, or two at once, leave no half of it behind.
    const unfinished = `${directory}.${process.pid}`;
    try {
      mkdirSync(unfinished, { recursive: true });
      assemble(unfinished, say);
      rmSync(directory, { recursive: true, force: true });
      renameSync(unfinished, directory);
    } catch (error) {
      if (!existsSync(ready)) throw error;
    } finally {
      rmSync(unfinished, { recursive: true, force: true });
    }
  }
  const modules = readdirSync(join(directory, 'modules')).sort();
  return {
    kernel: join(directory, 'vmlinuz'),
    modules: modules.map((name) => join(directory, 'modules', name)),
    root: join(directory, 'root'),
    ...JSON.parse(readFileSync(ready, 'utf8')),
  };
}

function assemble(directory, say) {
  const mirror = mirrorInUse();
  const reasons = [];
  for (const suite of SUITES) {
    const apt = privateApt(join(directory, `apt-${suite}`), mirror, suite);
    try {
      apt('apt-get', 'update', '--error-on=any');
    } catch (error) {
      reasons.push(`${suite}: ${error.message}`);
      continue;
    }
    const release = kernelRelease(apt);
    if (release === null) {
      reasons.push(`${suite} has no kernel ${MINIMUM_KERNEL.join('.')} or newer`);
      continue;
    }
    const kernel = [`linux-binary-${release}`, `linux-modules-${release}`];
    say(`fetching Linux ${release} and QEMU from Debian ${suite}, about 170 MB, to be kept`);
    apt('apt-get', 'install', '-y', '--download-only', '--no-install-recommends', QEMU, ...kernel);
    unpack(directory, join(directory, `apt-${suite}`, 'archives'), release);
    const qemu = /^Version: (?:\d+:)?(.+)$/m.exec(apt('apt-cache', 'show', '--no-all-versions', QEMU))?.[1] ?? '?';
    rmSync(join(directory, `apt-${suite}`), { recursive: true });
    writeFileSync(join(directory, 'ready.json'), JSON.stringify({ release, qemu, suite }));
    return;
  }
  throw new Unavailable(reasons.join('; '));
}

/** Where this machine's apt gets its own Debian from. */
function mirrorInUse() {
  const args = ['indextargets', '--format', '$(REPO_URI)|$(RELEASE)|$(COMPONENT)', 'Created-By: Packages'];
  const { error, stdout } = spawnSync('apt-get', args, { encoding: 'utf8' });
  if (error) throw new Unavailable('no apt-get: the kernel and QEMU come as Debian packages');
  const codename = /^VERSION_CODENAME=(\w+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const line = stdout.split('\n').find((text) => text.endsWith(`|${codename}|main`));
  if (!line) throw new Unavailable(`apt has no Debian mirror as its source (looked for ${codename} main)`);
  return line.split('|')[0];
}

/**
 * apt over one suite of one mirror, with nothing installed as far as it knows. Of the machine's settings it keeps how to
 * reach the network; hooks and the like stay out.
 */
function privateApt(directory, mirror, suite) {
  for (const name of ['lists/partial', 'archives/partial']) mkdirSync(join(directory, name), { recursive: true });
  const keyring = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : '';
  writeFileSync(join(directory, 'sources.list'), `deb ${keyring}${mirror} ${suite} main\n`);
  writeFileSync(join(directory, 'status'), '');
  const dump = spawnSync('apt-config', ['dump'], { encoding: 'utf8' }).stdout ?? '';
  const network = dump.split('\n').filter((line) => /^Acquire::(https?|ForceIPv[46]|Check-)/.test(line));
  const settings = {
    Dir: directory,
    'Dir::State': directory,
    'Dir::State::status': join(directory, 'status'),
    'Dir::State::lists': join(directory, 'lists'),
    'Dir::Cache': directory,
    'Dir::Cache::archives': join(directory, 'archives'),
    'Dir::Etc': directory,
    'Dir::Etc::parts': '/dev/null',
    'Dir::Etc::sourcelist': join(directory, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::Etc::trusted': '/etc/apt/trusted.gpg',
    'Dir::Etc::trustedparts': '/etc/apt/trusted.gpg.d',
    'Dir::Bin::dpkg': '/usr/bin/dpkg',
    'Acquire::Languages': 'none',
    'Acquire::http::Timeout': '20',
    'Acquire::Retries': '1',
    // The files are not where apt's own user may read, which apt would mention each time.
    'APT::Sandbox::User': '',
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} "${value}";`);
  const config = join(directory, 'apt.conf');
  writeFileSync(config, `${[...network, ...lines].join('\n')}\n`);
  return (command, ...args) => run(command, args, { APT_CONFIG: config, LC_ALL: 'C' });
}

/** "7.2.12+deb14-amd64", or null when the suite's kernel is too old. */
function kernelRelease(apt) {
  let described;
  try {
    described = apt('apt-cache', 'show', '--no-all-versions', 'linux-image-amd64');
  } catch {
    return null;
  }
  const release = /\blinux-image-((\d+)\.(\d+)[\w.+-]*-amd64)\b/.exec(/^Depends: (.*)$/m.exec(described)?.[1] ?? '');
  if (!release) return null;
  const [major, minor] = [Number(release[2]), Number(release[3])];
  const enough = major > MINIMUM_KERNEL[0] || (major === MINIMUM_KERNEL[0] && minor >= MINIMUM_KERNEL[1]);
  return enough ? release[1] : null;
}

function unpack(directory, archives, release) {
  const root = join(directory, 'root');
  mkdirSync(root);
  for (const name of readdirSync(archives)) {
    if (name.endsWith('.deb')) run('dpkg-deb', ['--extract', join(archives, name), root]);
  }
  const tree = join(root, 'usr/lib/modules', release);
  renameSync(join(tree, 'vmlinuz'), join(directory, 'vmlinuz'));
  mkdirSync(join(directory, 'modules'));
  const order = loadOrder(MODULES, moduleReader(tree));
  for (const [i, { name, bytes }] of order.entries()) {
    writeFileSync(join(directory, 'modules', `${String(i).padStart(2, '0')}-${name}.ko`), bytes);
  }
  rmSync(tree, { recursive: true });
}

/** A function from a module's name to its ELF file, null for one that is built in. */
function moduleReader(tree) {
  const files = readdirSync(tree, { recursive: true, encoding: 'utf8' }).filter((file) => /\.ko(\.xz)?$/.test(file));
  const plain = (name) => name.replaceAll('-', '_');
  const byName = new Map(files.map((file) => [plain(basename(file).replace(/\.ko.*/, '')), join(tree, file)]));
  return (name) => {
    const file = byName.get(plain(name));
    if (file === undefined) return null;
    return file.endsWith('.xz') ? run('xz', ['-dc', file], {}, 'buffer') : readFileSync(file);
  };
}

/**
 * Modules with what they depend on (`depends=` of their .modinfo section), each after all that it needs.
 * @param {string[]} wanted
 * @param {(name: string) => Buffer | null} read
 * @returns {{ name: string, bytes: Buffer }[]}
 */
export function loadOrder(wanted, read) {
  const order = new Map();
  const add = (name) => {
    if (order.has(name)) return;
    const bytes = read(name);
    if (bytes === null) return;
    const depends = /\0depends=([^\0]*)\0/.exec(bytes.toString('latin1'))?.[1] ?? '';
    for (const other of depends.split(',')) if (other !== '') add(other);
    order.set(name, bytes);
  };
  for (const name of wanted) add(name);
  return [...order].map(([name, bytes]) => ({ name, bytes }));
}

/** Output of a program; Unavailable with the last of what it said when it fails. */
function run(command, args, env = {}, encoding = 'utf8') {
  const result = spawnSync(command, args, {
    env: { ...process.env, ...env },
    encoding,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: STEP_LIMIT_S * 1000,
    maxBuffer: 256 << 20,
  });
  if (!result.error && result.status === 0) return result.stdout;
  const said = String(result.stderr ?? '')
    .trim()
    .split('\n')
    .slice(-3)
    .join(' / ');
  const why = result.error?.message ?? (said || `exit ${result.status ?? result.signal}`);
  throw new Unavailable(`${command} ${args[0]}: ${why}`);
}
