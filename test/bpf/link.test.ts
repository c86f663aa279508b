/** BpfLink and queryXdp on veth pairs: attach, refuse, replace, detach, and what a dead process leaves behind. */
import { spawn } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import type { KernelError } from '../../src/errors.js';
import { bpfObjectPath, native, type BpfLink, type BpfObject } from '../../src/native.js';
import type { Namespace } from '../../src/playground/netns.js';
import { enterForTest, Redirect } from '../support/bpf.js';
import { AddonChild, compileBpf, until, XDP_TX_SOURCE } from '../support/bpf_child.js';
import { testPlayground } from '../support/netns.js';
import { PacketBuilder } from '../support/packet_builder.js';

/** This thread is in `here` for the whole test; va (2 queues) is the interface under test, vb its other end in `there`. */
let here: Namespace;
let there: Namespace;
let va: number;

beforeEach(() => {
  const playground = testPlayground();
  here = playground.namespace('a');
  there = playground.namespace('b');
  playground.veth({ namespace: here, name: 'va', queues: 2 }, { namespace: there, name: 'vb', queues: 2 });
  // Else router solicitations and the like are among the packets.
  for (const namespace of [here, there]) namespace.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1 });
  here.ip('link set va up');
  there.ip('link set vb up');
  enterForTest(here);
  va = native().linkInfo('va').ifindex;
});

function passProgram(): BpfObject {
  const object = new (native().BpfObject)(bpfObjectPath('pass'));
  onTestFinished(() => object.close());
  object.load();
  return object;
}

function attach(object: BpfObject, mode: 'native' | 'generic' = 'native', ifindex = va): BpfLink {
  const link = object.attachXdp('sluice_pass', ifindex, mode);
  onTestFinished(() => link.close());
  return link;
}

function failure(action: () => unknown): KernelError {
  try {
    action();
  } catch (error) {
    return error as KernelError;
  }
  throw new Error('it did not throw');
}

describe('attachXdp', () => {
  it.each(['native', 'generic'] as const)('attaches in %s mode until it is closed', (mode) => {
    expect(native().queryXdp(va)).toBeNull();
    const link = attach(passProgram(), mode);
    expect(link.id).toBeGreaterThan(0);
    expect(link.fd).toBeGreaterThan(2);
    const query = native().queryXdp(va);
    expect(query).toMatchObject({ mode, programName: 'sluice_pass', tag: expect.stringMatching(/^[0-9a-f]{16}$/) });
    expect(query?.programId).toBeGreaterThan(0);
    link.close();
    link.close();
    expect(native().queryXdp(va)).toBeNull();
    expect(link.fd).toBe(-1);
    expect(() => link.update(passProgram(), 'sluice_pass')).toThrow(/closed/);
  });

  it('outlives its object: the kernel holds the program', () => {
    const object = passProgram();
    const link = attach(object);
    object.close();
    expect(native().queryXdp(va)?.programName).toBe('sluice_pass');
    link.close();
  });

  it('detaches even while another process holds the descriptor', () => {
    const link = attach(passProgram());
    const holder = spawn('sleep', ['30'], { stdio: ['ignore', 'ignore', 'ignore', link.fd] });
    onTestFinished(() => void holder.kill('SIGKILL'));
    link.close();
    expect(native().queryXdp(va)).toBeNull();
    expect(readlinkSync(`/proc/${holder.pid}/fd/3`)).toBe('anon_inode:bpf_link');
  });
});

describe('attachXdp refuses, says why, and changes nothing', () => {
  it('when another sluice has the interface', () => {
    attach(passProgram());
    const before = native().queryXdp(va)!;
    const error = failure(() => attach(passProgram()));
    expect(error).toMatchObject({ code: 'EBUSY', syscall: 'bpf' });
    expect(error.message).toContain(`va in native mode, which has program ${before.programId} (sluice_pass, native)`);
    expect(error.remedy).toMatch(/left alone.*xdp off/);
    expect(native().queryXdp(va)).toEqual(before);
  });

  it('when a foreign program is there, attached by ip(8)', () => {
    const object = compileBpf('foreign', 'SEC("xdp") int not_ours(struct xdp_md *ctx) { return XDP_PASS; }');
    here.ip(`link set dev va xdpdrv obj ${object} sec xdp`);
    const before = native().queryXdp(va)!;
    expect(before).toMatchObject({ programName: 'not_ours', mode: 'native' });
    expect(failure(() => attach(passProgram()))).toMatchObject({
      code: 'EBUSY',
      remedy: expect.stringContaining(`program ${before.programId} (not_ours, native)`),
    });
    expect(native().queryXdp(va)).toEqual(before);
    here.ip('link set dev va xdpdrv off');
    attach(passProgram());
  });

  it('generic while native is active', () => {
    attach(passProgram());
    const error = failure(() => attach(passProgram(), 'generic'));
    expect(['EEXIST', 'EBUSY']).toContain(error.code);
    expect(error.message).toContain('sluice_pass, native');
    expect(error.remedy).not.toBe('');
  });

  it('native on a driver without XDP', () => {
    const error = failure(() => attach(passProgram(), 'native', 1));
    expect(error).toMatchObject({
      code: 'EOPNOTSUPP',
      remedy: expect.stringMatching(/lo has no native XDP: use mode generic/),
    });
    attach(passProgram(), 'generic', 1);
  });

  it('a jumbo MTU in native mode', () => {
    here.ip('link set va mtu 9000');
    there.ip('link set vb mtu 9000');
    expect(failure(() => attach(passProgram()))).toMatchObject({
      code: 'ERANGE',
      remedy: expect.stringMatching(/MTU.*3506/),
    });
    expect(native().queryXdp(va)).toBeNull();
  });

  it('an interface that is not there, and arguments that mean nothing', () => {
    const object = passProgram();
    expect(failure(() => attach(object, 'native', 9999))).toMatchObject({ code: 'ENODEV' });
    expect(failure(() => native().queryXdp(9999))).toMatchObject({ code: 'ENODEV' });
    expect(() => attach(object, 'offload' as 'native')).toThrow(RangeError);
    expect(() => attach(object, 'native', 0)).toThrow(RangeError);
    expect(() => object.attachXdp('nope', va, 'native')).toThrow(/no program "nope"/);
  });
});

describe('a process that gave up its capabilities', () => {
  it('still attaches and replaces what it loaded before: the load was the check', async () => {
    const child = new AddonChild(
      `const load = () => { const object = new addon.BpfObject(args[0]); object.load(); return object; };
       const first = load(), second = load();
       process.setgroups([]); process.setgid(65534); process.setuid(65534);
       const link = first.attachXdp('sluice_pass', Number(args[1]), 'native');
       link.update(second, 'sluice_pass'); say('replaced');
       try { load(); } catch (error) { say(error.code); }
       link.close();`,
      [bpfObjectPath('pass'), String(va)],
    );
    expect(await child.ended).toMatchObject({ code: 0, stdout: 'replaced\nEPERM\n', stderr: '' });
    expect(native().queryXdp(va)).toBeNull();
  });
});

describe('a process that ends', () => {
  const HOLD = `const object = new addon.BpfObject(args[0]); object.load();
    globalThis.link = object.attachXdp('sluice_pass', Number(args[1]), 'native'); say('attached');`;

  it.each<[string, string, NodeJS.Signals | null]>([
    ['by kill -9', 'setInterval(() => {}, 1000);', 'SIGKILL'],
    ['by SIGSEGV', 'setInterval(() => {}, 1000);', 'SIGSEGV'],
    ['by process.exit()', 'process.exit(0);', null],
    ['by an exception', 'throw new Error("deliberate");', null],
  ])('%s leaves no program on the interface', async (_name, then, signal) => {
    const child = new AddonChild(HOLD + then, [bpfObjectPath('pass'), String(va)]);
    await child.said('attached');
    if (signal) {
      expect(native().queryXdp(va)?.programName).toBe('sluice_pass');
      child.process.kill(signal);
    }
    await child.ended;
    await until(() => native().queryXdp(va) === null, 1000);
    attach(passProgram());
  });

  it('as a worker thread does the same', async () => {
    // A plain thread, not vitest's: it loads the addon into an environment of its own.
    const addon = new URL('../../build/Release/sluice.node', import.meta.url).pathname;
    const source = `const { parentPort, workerData } = require('node:worker_threads');
      const addon = require(workerData.addon);
      const object = new addon.BpfObject(workerData.object); object.load();
      globalThis.link = object.attachXdp('sluice_pass', workerData.ifindex, 'native');
      parentPort.postMessage('attached'); setInterval(() => {}, 1000);`;
    const workerData = { addon, object: bpfObjectPath('pass'), ifindex: va };
    const worker = new Worker(source, { eval: true, workerData });
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    expect(native().queryXdp(va)?.programName).toBe('sluice_pass');
    await worker.terminate();
    expect(native().queryXdp(va)).toBeNull();
  });
});

describe('update', () => {
  it('refuses what is no program, and keeps the one there is', () => {
    const link = attach(passProgram());
    const before = native().queryXdp(va);
    expect(() => link.update({} as BpfObject, 'sluice_pass')).toThrow(TypeError);
    expect(() => link.update(passProgram(), 'nope')).toThrow(RangeError);
    expect(native().queryXdp(va)).toEqual(before);
  });

  it('says that the interface is gone', () => {
    const link = attach(passProgram());
    here.ip('link del va');
    expect(failure(() => link.update(passProgram(), 'sluice_pass'))).toMatchObject({ code: 'ENOLINK' });
    link.close();
  });

  it('under load replaces the program without a packet missing one', async () => {
    using first = new Redirect();
    using second = new Redirect();
    const link = first.object.attachXdp('sluice_redirect', va, 'native');
    onTestFinished(() => link.close());

    // A live-frames run takes tens of ms to set up and tear down, whatever it sends.
    const rounds = 60;
    const frames = 128;
    const sender = new AddonChild(
      `const object = new addon.BpfObject(args[0]); object.load();
       const ifindex = addon.linkInfo('vb').ifindex; const data = Buffer.from(args[1], 'hex');
       // Portions that va's ring (256) holds, with a pause for it to be emptied.
       let round = 0;
       const timer = setInterval(() => {
         object.testRun('send_back', { data, ifindex, liveFrames: true, repeat: ${frames}, batchSize: 64 });
         if (round === 0) say('sending');
         if (++round === ${rounds}) { clearInterval(timer); say('done'); }
       }, 1);`,
      [compileBpf('send', XDP_TX_SOURCE), toHex(new PacketBuilder().ethernet().ipv4().udp().padTo(60).build())],
      there.name,
    );
    await sender.said('sending');
    let updates = 0;
    let over = false;
    void sender.ended.then(() => (over = true));
    while (!over) {
      link.update(updates++ % 2 === 0 ? second.object : first.object, 'sluice_redirect');
      await new Promise((resolve) => setImmediate(resolve));
    }
    const { code, stderr } = await sender.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });

    const seen = [first, second].map((program) => program.stats().seen ?? 0);
    expect(seen[0] + seen[1]).toBe(rounds * frames);
    expect(Math.min(...seen)).toBeGreaterThan(0);
    expect(updates).toBeGreaterThan(20);
    // Every one of them went on to the stack: nothing else was received, nothing lost.
    expect(Number(readStatistic('rx_packets'))).toBe(rounds * frames);
  }, 60_000);
});

function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** A counter of va, from this thread's namespace (sysfs shows the one it was mounted in). */
function readStatistic(name: 'rx_packets'): string {
  const line = readFileSync('/proc/thread-self/net/dev', 'utf8')
    .split('\n')
    .find((text) => text.trim().startsWith('va:'));
  const fields = line!.split(':')[1].trim().split(/\s+/);
  return fields[{ rx_packets: 1 }[name]];
}
