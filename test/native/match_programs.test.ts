/** Programs of p0f signatures and DNS names in the kernel: its engine of classic programs, and as XDP programs that its verifier takes. */
import { expect, it } from 'vitest';
import { KernelRuns } from '../../src/control/ebpf/kernel_runs.js';
import { dnsProgram } from '../../src/control/expression/dns_program.js';
import { p0fProgram } from '../../src/control/expression/p0f_program.js';
import { SluiceError } from '../../src/errors.js';
import { native } from '../../src/native.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import type { Program } from '../../src/shared/cbpf/program.js';
import { randomSource } from '../support/cbpf_programs.js';
import { patternNear, patternText, randomMessage, randomName } from '../support/dns_reference.js';
import { synFields } from '../support/p0f_reference.js';
import { randomSyn, signatureNear } from '../support/p0f_random.js';

const PACKETS = 300;
const random = randomSource(Number(process.env.SEED ?? 20261121));
const viewOf = (packet: Uint8Array): DataView => new DataView(packet.buffer, packet.byteOffset, packet.length);

/** Packets that some of the programs match, in all engines the same. */
function agree(programs: readonly Program[], packets: readonly Uint8Array[]): number {
  // The kernel runs nothing shorter than an Ethernet header.
  const frames = packets
    .filter((packet) => packet.length >= 14)
    .map((packet) => ({ data: viewOf(packet), wireLength: packet.length }));
  const runs = new KernelRuns(frames);
  let matched = 0;
  for (const program of programs) {
    const ours = frames.map(({ data, wireLength }) => interpret(program, data, 0, data.byteLength, wireLength));
    const run = runs.run(program);
    if (!run.ok) throw new Error(run.error);
    expect(Array.from(ours, (_, i) => run.results[i])).toEqual(ours);
    const filter = new (native().SocketFilter)(program.words);
    const classic = frames.map(({ data }) => filter.run(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
    filter.close();
    expect(classic).toEqual(ours);
    matched += ours.filter((result) => result !== 0).length;
  }
  return matched;
}

it('match the same SYNs', () => {
  const packets = Array.from({ length: PACKETS }, () => randomSyn(random));
  const programs: Program[] = [];
  for (const packet of packets) {
    const fields = synFields(packet);
    if (fields === null || programs.length === 60) continue;
    try {
      programs.push(p0fProgram(signatureNear(random, fields)));
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
    }
  }
  expect(agree(programs, packets)).toBeGreaterThan(20);
}, 60_000);

it('match the same messages', () => {
  const names = Array.from({ length: PACKETS }, () => randomName(random));
  const packets = names.map((name) => randomMessage(random, name, random(2) * 254 + 1));
  const programs: Program[] = [];
  for (const name of names) {
    if (programs.length === 25) break;
    try {
      programs.push(dnsProgram([patternNear(random, name), patternNear(random, names[0])].map(patternText)));
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
    }
  }
  programs.push(dnsProgram(Array.from({ length: 100 }, (_, i) => `*.name${i}.example.com`).concat('*.com')));
  expect(agree(programs, packets)).toBeGreaterThan(50);
}, 60_000);
