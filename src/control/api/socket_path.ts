/**
 * The place of the control socket: a directory that is ours alone, a lock that only one daemon holds, and no socket left
 * by a dead one. Whoever may open the socket rules the network of this host, so nothing here is lenient.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, closeSync, constants, lstatSync, mkdirSync, openSync, rmSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { SluiceError } from '../../errors.js';

/** How long a socket may take to answer a connection before it counts as somebody's all the same, ms. */
const PROBE_MS = 1000;

/** Room for a path in sockaddr_un, bytes, the closing NUL included (unix(7)). */
const SUN_PATH_BYTES = 108;

/** Refuses a path that bind(2) would cut short without saying so. */
export function checkSocketPath(path: string): void {
  if (path === '' || path.includes('\0')) {
    throw new SluiceError('SLUICE_CONFIG', `the control socket's path ${JSON.stringify(path)} is no file name`);
  }
  const bytes = Buffer.byteLength(path);
  if (bytes >= SUN_PATH_BYTES) {
    throw new SluiceError(
      'SLUICE_CONFIG',
      `the control socket's path is ${bytes} bytes long: ${path}`,
      `Choose one of at most ${SUN_PATH_BYTES - 1} bytes.`,
    );
  }
}

/**
 * Makes the socket's directory with mode 0700, or makes sure that the one that is there is ours alone to write to. The
 * parent must exist: Node's recursive mkdir never ends under /proc.
 */
export function prepareDirectory(socketPath: string): void {
  const directory = dirname(socketPath);
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw fileError(error, `cannot make the directory ${directory} of the control socket`);
    }
  }
  const stats = lstatSync(directory);
  const remedy = `Set control.socket to a path in a directory that only sluice writes to, as /run/sluice.`;
  if (!stats.isDirectory()) {
    throw new SluiceError('SLUICE_PERMISSION', `${directory} is not a directory of its own`, remedy);
  }
  if (!ours(stats)) {
    throw new SluiceError('SLUICE_PERMISSION', `the directory ${directory} belongs to user ${stats.uid}`, remedy);
  }
  if ((stats.mode & 0o022) !== 0) {
    const mode = (stats.mode & 0o7777).toString(8);
    throw new SluiceError('SLUICE_PERMISSION', `others may write to the directory ${directory} (mode ${mode})`, remedy);
  }
}

/**
 * Takes the lock beside the socket; the kernel lets go of it when the descriptor is closed or the process dies. Returns
 * the descriptor. Throws SLUICE_STATE when another process holds it.
 *
 * Node has no flock(2). A lock belongs to the open file, not to the process: flock(1) (util-linux) takes it on the
 * descriptor that it inherits and leaves it with us.
 */
export function takeLock(socketPath: string): number {
  const path = `${socketPath}.lock`;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw fileError(error, `cannot open the lock file ${path}`);
  }
  const result = spawnSync('flock', ['--exclusive', '--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
  if (result.status === 0) return fd;
  closeSync(fd);
  if (result.error !== undefined) {
    throw new SluiceError(
      'SLUICE_STATE',
      `cannot run flock to lock ${path}: ${result.error.message}`,
      'Install util-linux, which has flock(1).',
    );
  }
  throw alreadyRunning(socketPath);
}

/** Removes the socket of a daemon that died. Call with the lock held. Throws when it is alive, or is no socket of ours. */
export async function removeStaleSocket(socketPath: string): Promise<void> {
  let stats: Stats;
  try {
    stats = lstatSync(socketPath);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw fileError(error, `cannot look at ${socketPath}`);
  }
  const remedy = 'Remove it yourself if nobody needs it, or set another control.socket.';
  if (!stats.isSocket()) throw new SluiceError('SLUICE_STATE', `${socketPath} is there and is not a socket`, remedy);
  if (!ours(stats)) throw new SluiceError('SLUICE_STATE', `the socket ${socketPath} is user ${stats.uid}'s`, remedy);
  if (await answers(socketPath)) throw alreadyRunning(socketPath);
  rmSync(socketPath, { force: true });
}

/** Sets mode 0600 on the socket just bound. */
export function protectSocket(socketPath: string): void {
  chmodSync(socketPath, 0o600);
}

function ours(stats: Stats): boolean {
  return stats.uid === process.geteuid?.();
}

/** Whether anybody listens. Only a refusal says no: a daemon too busy to accept is alive. */
function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    const done = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    socket.setTimeout(PROBE_MS, () => done(true));
    socket.once('connect', () => done(true));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      done(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    );
  });
}

function alreadyRunning(socketPath: string): SluiceError {
  return new SluiceError(
    'SLUICE_STATE',
    `another sluice runs with the control socket ${socketPath}`,
    'Look at it with: sluice status. To run two, give each its own control.socket.',
  );
}

function fileError(error: unknown, what: string): SluiceError {
  const { code, message } = error as NodeJS.ErrnoException;
  const denied = code === 'EACCES' || code === 'EPERM' || code === 'EROFS';
  return new SluiceError(
    denied ? 'SLUICE_PERMISSION' : 'SLUICE_STATE',
    `${what}: ${message}`,
    denied ? 'Run as root, or set control.socket to a path in a directory of your own.' : '',
    { cause: error },
  );
}
