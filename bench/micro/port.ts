/**
 * The crossing into native code, and the loop port that the path bench stands on. The socket lives on a veth pair in a network
 * namespace that has no name and ends with this process.
 */
import { spawnSync } from 'node:child_process';
import { LoopPort } from '../../src/dataplane/ports/loop.js';
import { MemoryPool } from '../../src/dataplane/ports/memory_pool.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { Verdict } from '../../src/dataplane/verdict.js';
import { SluiceError } from '../../src/errors.js';
import { native, type NativeAddon } from '../../src/native.js';
import { BURST, measure, skip, type MicroCase } from './harness.js';
import { CHUNK, CLIENT_PORT, frame } from './packets.js';

/** Calls a body makes: so many that a clock reading is nothing against them. */
const CALLS = 100;

/** Exchange of the loop port, every packet sent: what the path bench pays to stand without a kernel. */
function loopCase(name: string, flows: number, chunks: number): MicroCase {
  const frames = Array.from({ length: flows }, (_, i) =>
    frame({ family: 4, protocol: IpProtocol.udp, bytes: 64, sport: CLIENT_PORT + i }),
  );
  const pool = new MemoryPool({ frameCount: chunks, chunkSize: CHUNK });
  const port = new LoopPort(pool, { frames, chunks, burst: BURST, clock: () => 1000 });
  const { verdict, length } = port.burst;
  const body = (): number => {
    const count = port.exchange();
    let sum = 0;
    for (let i = 0; i < count; i++) {
      verdict[i] = Verdict.Tx;
      sum = (sum + length[i]) | 0;
    }
    return sum;
  };
  return { name, body, expected: 64 * BURST };
}

/** null, and said why, where the addon is not built. */
function addon(): NativeAddon | null {
  try {
    return native();
  } catch (error) {
    if (!(error instanceof SluiceError) || error.code !== 'SLUICE_NATIVE') throw error;
    skip(`native calls: ${error.message}`);
    return null;
  }
}

/** close() of what is closed does nothing: what is left is the way there and back through Node-API's C++ wrapper. */
function emptyCall({ Umem }: NativeAddon): MicroCase {
  const umem = new Umem({ frameCount: 64, chunkSize: CHUNK });
  umem.close();
  const body = (): number => {
    for (let i = 0; i < CALLS; i++) umem.close();
    return CALLS;
  };
  return { name: 'a native call that does nothing', body, expected: CALLS, calls: CALLS };
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

/** Moves this thread into a new namespace, nameless at once, so that nothing is left of it when the process is gone. */
function enterNewNamespace({ enterNetns }: NativeAddon): void {
  const name = `slbench-${process.pid}`;
  ip('netns', 'add', name);
  try {
    enterNetns(`/run/netns/${name}`);
  } finally {
    ip('netns', 'delete', name);
  }
}

/** exchange() with nothing received and nothing to send: four rings looked at, no system call. */
function idleExchange(bindings: NativeAddon): MicroCase {
  enterNewNamespace(bindings);
  ip('link', 'add', 'b0', 'type', 'veth', 'peer', 'b1');
  // Without IPv6 no neighbour discovery comes along; no XDP program is attached, so nothing could reach the socket anyway.
  for (const end of ['b0', 'b1']) ip('link', 'set', end, 'addrgenmode', 'none', 'up');
  const umem = new bindings.Umem({ frameCount: 4096, chunkSize: CHUNK });
  const socket = new bindings.XskSocket(umem, { interface: 'b0', queue: 0, mode: 'copy', index: 0 });
  const body = (): number => {
    let packets = 0;
    for (let i = 0; i < CALLS; i++) packets += socket.exchange();
    return packets;
  };
  return { name: 'exchange() of an AF_XDP socket, idle', body, expected: 0, calls: CALLS };
}

measure([
  loopCase('exchange() of the loop port, 64 flows', 64, 64),
  loopCase('exchange() of the loop port, 4,096 flows', 4096, 4096),
  loopCase('exchange() of the loop port, packets written whole', 16_384, 4096),
]);
const bindings = addon();
if (bindings !== null) {
  measure([emptyCall(bindings)]);
  if (process.geteuid?.() === 0) measure([idleExchange(bindings)]);
  else skip('exchange() of an AF_XDP socket: needs root');
}
