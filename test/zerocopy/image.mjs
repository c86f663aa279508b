/** What the guest boots from: an initramfs of one static program, the kernel's modules and the command to run. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** File types of cpio's mode field, as in st_mode. */
const DIRECTORY = 0o040755;
const EXECUTABLE = 0o100755;

/**
 * @param {string} path of the file to write
 * @param {string[]} modules files, in the order to load them
 * @param {string[]} command working directory, then the program (absolute) and its arguments; no line ends in them
 */
export function writeInitramfs(path, modules, command) {
  mkdirSync(dirname(path), { recursive: true });
  const init = join(dirname(path), 'init');
  const compiler = spawnSync('gcc', ['-O2', '-Wall', '-Wextra', '-static', '-o', init, join(here, 'init.c')], {
    encoding: 'utf8',
  });
  if (compiler.status !== 0) throw new Error(`gcc: ${compiler.error?.message ?? compiler.stderr}`);
  const entries = [
    { name: 'init', mode: EXECUTABLE, bytes: readFileSync(init) },
    { name: 'command', mode: EXECUTABLE, bytes: Buffer.from(command.map((line) => `${line}\n`).join('')) },
    { name: 'dev', mode: DIRECTORY },
    { name: 'modules', mode: DIRECTORY },
    ...modules.map((file) => ({ name: `modules/${basename(file)}`, mode: EXECUTABLE, bytes: readFileSync(file) })),
  ];
  writeFileSync(path, cpio(entries));
}

/**
 * An archive in cpio's "newc" format, the one that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).
 * @param {{ name: string, mode: number, bytes?: Buffer }[]} entries directories before what is in them
 * @returns {Buffer}
 */
export function cpio(entries) {
  const parts = [];
  const put = (name, mode, bytes, inode) => {
    // inode, mode, uid, gid, links, mtime, size, device and its minor, those of a device file, name's length, checksum
    const numbers = [inode, mode, 0, 0, 1, 0, bytes.length, 0, 0, 0, 0, Buffer.byteLength(name) + 1, 0];
    const header = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}${name}\0`;
    parts.push(padded(Buffer.from(header)), padded(bytes));
  };
  entries.forEach(({ name, mode, bytes = Buffer.alloc(0) }, i) => put(name, mode, bytes, i + 1));
  put('TRAILER!!!', 0, Buffer.alloc(0), 0);
  return Buffer.concat(parts);
}

function padded(bytes) {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
