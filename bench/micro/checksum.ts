/** packet/checksum.ts: sums by length, and the incremental update. */
import { fold, sumBytes, updateChecksum } from '../../src/dataplane/packet/checksum.js';
import { BURST, measure, type MicroCase } from './harness.js';
import { checksum, CHUNK, HEADROOM } from './packets.js';

const memory = new Uint8Array(BURST * CHUNK);
const view = new DataView(memory.buffer);
for (let i = 0; i < memory.length; i++) memory[i] = Math.imul(i, 0x9e3779b1) >>> 24;

/** The last of a burst's packets. */
const LAST = (BURST - 1) * CHUNK + HEADROOM;

function sumCase(bytes: number): MicroCase {
  const at = (i: number): number => i * CHUNK + HEADROOM;
  const body = (): number => {
    let total = 0;
    for (let i = 0; i < BURST; i++) total = (total + (~fold(sumBytes(view, i * CHUNK + HEADROOM, bytes)) & 0xffff)) | 0;
    return total;
  };
  let expected = 0;
  for (let i = 0; i < BURST; i++) expected += checksum(memory.subarray(at(i), at(i) + bytes));
  return { name: `of ${bytes} bytes`, body, expected };
}

/** One 16-bit field after the other changes, each update building on the one before: latency, not throughput. */
function updateCase(): MicroCase {
  const before = checksum(memory.subarray(LAST, LAST + 20));
  const body = (): number => {
    let sum = before;
    for (let i = 0; i < BURST; i++) sum = updateChecksum(sum, i, i + 1);
    return sum;
  };
  // Fields 0 → 64, one step at a time: the same as one change from 0 to 64.
  let expected = before - BURST;
  if (expected <= 0) expected += 0xffff;
  return { name: 'updated for a 16-bit field (RFC 1624)', body, expected };
}

measure([sumCase(64), sumCase(1500), updateCase()]);
