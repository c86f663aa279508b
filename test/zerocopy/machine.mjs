/**
 * One run of the virtual machine: QEMU without KVM, so that it runs anywhere, at a tenth of the speed or less.
 *
 * Four NICs in two pairs, each pair on a wire of its own (a QEMU hub). The far ends are for the tests to send from and receive at:
 *
 *   02:00:00:00:01:01 virtio-net (far) ── 02:00:00:00:01:02 virtio-net
 *   02:00:00:00:02:01 virtio-net (far) ── 02:00:00:00:02:02 igb
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** MiB. The daemon, the tests and their packet memory take some 400. */
const MEMORY = 1536;

/** virtio-net offers zero-copy only with VIRTIO_F_ACCESS_PLATFORM, i.e. when it goes through the kernel's DMA mappings. */
const VIRTIO = 'virtio-net-pci,iommu_platform=on,disable-legacy=on,romfile=';

function nic(wire, end, device) {
  const id = `wire${wire}-${end}`;
  return [
    ...['-netdev', `hubport,id=${id},hubid=${wire}`],
    ...['-device', `${device},netdev=${id},mac=02:00:00:00:0${wire}:0${end}`],
  ];
}

/**
 * @param {object} options
 * @param {{ kernel: string, root: string }} options.parts as packages.mjs has them
 * @param {string} options.initramfs
 * @param {string} options.console file that the kernel's messages go to
 * @param {(line: string) => void} options.onLine called for each line that the guest's program prints
 * @param {number} options.limitMs after which it is killed
 * @returns {Promise<{ timedOut: boolean, problem: string }>} when the machine has ended; `problem`: QEMU's own, '' for none
 */
export async function runMachine({ parts, initramfs, console: consoleFile, onLine, limitMs }) {
  const libraries = join(parts.root, 'usr/lib/x86_64-linux-gnu');
  writeFileSync(consoleFile, '');
  const arguments_ = [
    // Its own libc and libraries: they are newer than the machine's.
    join(libraries, 'ld-linux-x86-64.so.2'),
    '--library-path',
    libraries,
    join(parts.root, 'usr/bin/qemu-system-x86_64'),
    ...['-L', join(parts.root, 'usr/share/qemu'), '-L', join(parts.root, 'usr/share/seabios')],
    ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(MEMORY)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', parts.kernel, '-initrd', initramfs],
    // quiet: each character on the console costs. A panic ends the machine, with its text there.
    ...['-append', 'console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on'],
    ...['-serial', `file:${consoleFile}`, '-serial', 'stdio'],
    ...['-fsdev', 'local,id=root,path=/,security_model=none,readonly=on,multidevs=remap'],
    ...['-device', 'virtio-9p-pci,fsdev=root,mount_tag=root'],
    ...nic(1, 1, VIRTIO),
    ...nic(1, 2, VIRTIO),
    ...nic(2, 1, VIRTIO),
    ...nic(2, 2, 'igb,romfile='),
  ];
  // Ends with us, however we end.
  const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...arguments_], { stdio: ['ignore', 'pipe', 'pipe'] });
  let timedOut = false;
  let problem = '';
  const limit = setTimeout(() => {
    timedOut = true;
    qemu.kill('SIGKILL');
  }, limitMs);
  // A hub without the host on it is what we want.
  createInterface(qemu.stderr).on('line', (line) => {
    if (!line.includes('is not connected to host network')) problem += `${line}\n`;
  });
  createInterface(qemu.stdout).on('line', onLine);
  const status = await new Promise((resolve) => {
    qemu.on('error', (error) => resolve(error.message));
    qemu.on('close', (code, signal) => resolve(signal ?? code));
  });
  clearTimeout(limit);
  if (status !== 0 && !timedOut) problem += `QEMU ended with ${status}`;
  return { timedOut, problem: problem.trim() };
}

/** Lines of the console, without control sequences. */
export function consoleLines(file) {
  // eslint-disable-next-line no-control-regex
  const text = readFileSync(file, 'utf8').replace(/\x1b\[[0-9;?]*[A-Za-z]|\r|\x1bc/g, '');
  return text.split('\n').filter((line) => line.trim() !== '');
}
