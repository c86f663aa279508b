import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/errors.js';
import { readCapture, type Capture } from '../../src/pcap/capture.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { classicFile, join, pattern, Section, seeded } from '../support/capture_bytes.js';

/** Set SLUICE_FUZZ_ROUNDS for a longer run; each round mutates every sample once. */
const ROUNDS = Number(process.env['SLUICE_FUZZ_ROUNDS'] ?? 4000);

function samples(): Uint8Array[] {
  const files: Uint8Array[] = [];
  for (const little of [true, false]) {
    const packets = [1, 2, 3].map((seed) => ({ seconds: seed, fraction: 5, data: pattern(14 + seed, seed) }));
    files.push(classicFile({ little, nanoseconds: little }, packets));
    const one = new Section(little);
    const two = new Section(!little);
    files.push(
      join(
        one.header(-1n, [[4, 'fuzz']]),
        one.interface([
          [2, 'eth0'],
          [9, Uint8Array.of(0x8a)],
          [14, one.u64(-5n)],
        ]),
        one.enhanced(0, 77n, pattern(20), [
          [1, 'a comment'],
          [2, one.u32(2)],
        ]),
        one.simple(pattern(17)),
        one.block(5, pattern(12)),
        two.header(),
        two.interface([[9, Uint8Array.of(12)]], 1, 16),
        two.simple(pattern(16), 64),
        two.obsolete(0, 1n << 63n, pattern(19)),
      ),
    );
  }
  const writer = new PcapngWriter('memory');
  writer.addInterface({ name: 'eth0' });
  writer.writePacket({ interfaceId: 0, timestampNs: 5n, data: pattern(60), comment: 'verdict=tx', direction: 'out' });
  files.push(writer.bytes().slice());
  return files;
}

const INTERESTING = [0, 1, 2, 3, 4, 6, 0x7f, 0x80, 0xff];

function mutate(file: Uint8Array, random: (limit: number) => number): Uint8Array {
  let bytes: Uint8Array = file.slice();
  for (let edits = 1 + random(4); edits > 0; edits--) {
    const at = random(bytes.length);
    switch (random(5)) {
      case 0:
        bytes[at] = INTERESTING[random(INTERESTING.length)]!;
        break;
      case 1:
        bytes[at]! ^= 1 << random(8);
        break;
      case 2: // a whole word, where lengths and types are
        bytes.fill(random(2) * 255, at & ~3, (at & ~3) + 4);
        break;
      case 3:
        bytes = bytes.slice(0, at);
        break;
      default: // doubles or removes a stretch
        bytes = join(bytes.subarray(0, at), bytes.subarray(random(bytes.length)));
    }
    if (bytes.length === 0) return bytes;
  }
  return bytes;
}

/** Reads all there is; every packet has to lie within the file. Returns the number of packets. */
function readAll(file: Uint8Array, capture: Capture): number {
  for (let i = 0; i < capture.length; i++) {
    const packet = capture.packet(i);
    const from = packet.data.byteOffset - file.byteOffset;
    if (packet.data.buffer !== file.buffer || from < 0 || from + packet.data.length > file.length) {
      throw new Error(`packet ${i} lies outside the file`);
    }
    if (typeof packet.timestampNs !== 'bigint' || capture.interfaces[packet.interfaceId] === undefined) {
      throw new Error(`packet ${i} is not whole`);
    }
  }
  return capture.length;
}

describe('captures with random damage', () => {
  it('are read or refused with a SluiceError that names a byte of the file, and never anything else', () => {
    const random = seeded(20251120);
    const originals = samples();
    let readable = 0;
    let refused = 0;
    let packets = 0;
    for (let round = 0; round < ROUNDS; round++) {
      for (const original of originals) {
        const file = mutate(original, random);
        let strictError: unknown = null;
        try {
          packets += readAll(file, readCapture(file));
          readable++;
        } catch (error) {
          if (!(error instanceof SluiceError) || error.code !== 'SLUICE_FORMAT') {
            throw new Error(`round ${round}: ${Buffer.from(file).toString('hex')}`, { cause: error });
          }
          const at = Number(/^\(memory\), byte (\d+): /.exec(error.message)?.[1] ?? NaN);
          if (!(at >= 0 && at <= file.length)) throw error;
          strictError = error;
          refused++;
        }
        // A lenient read finds the same damage at the same byte, or refuses the file for the same reason.
        try {
          const lenient = readCapture(file, { strict: false });
          readAll(file, lenient);
          expect(lenient.damage?.message).toBe((strictError as Error | null)?.message);
        } catch (error) {
          if (!(error instanceof SluiceError)) throw error;
          expect(error.message).toBe((strictError as Error | null)?.message);
        }
      }
    }
    // Both outcomes have to have been seen, or the mutations test nothing.
    expect(readable).toBeGreaterThan(ROUNDS / 4);
    expect(refused).toBeGreaterThan(ROUNDS / 4);
    expect(packets).toBeGreaterThan(ROUNDS / 4);
  }, 120_000);
});
