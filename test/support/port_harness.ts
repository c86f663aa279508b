import { expect } from 'vitest';
import type { Port } from '../../src/dataplane/port.js';
import { PortCounter } from '../../src/shared/layout.js';

/** Ports under test, and what became of the packets that they sent. */
export interface PortHarness {
  /** At least two, on one packet memory; a port's position is its number. */
  readonly ports: readonly Port[];
  /** Frames that left by a port until now, oldest first. */
  sent(port: number): Uint8Array[] | Promise<Uint8Array[]>;
  close(): void | Promise<void>;
}

export const DEADLINE_MS = 5000;

/** A frame that can be told from all others: broadcast, EtherType 0x88b5, port and number, then a pattern. */
export function contractFrame(port: number, number: number, length = 60): Uint8Array {
  const frame = Buffer.alloc(length);
  frame.write('ffffffffffff' + '020000000001' + '88b5', 'hex');
  frame.writeUInt16BE(port, 14);
  frame.writeUInt32BE(number, 16);
  for (let i = 20; i < length; i++) frame[i] = (i * 13 + number) & 0xff;
  return new Uint8Array(frame);
}

export function frames(port: number, count: number): Uint8Array[] {
  return Array.from({ length: count }, (_, number) => contractFrame(port, number, 60 + (number % 5) * 100));
}

/** A copy of the packet in a slot, as offset and length say now. */
export function bytesOf(port: Port, slot: number): Uint8Array {
  return new Uint8Array(port.memory, port.burst.offset[slot], port.burst.length[slot]).slice();
}

/** Slots of the burst in hand that hold frames of this test. */
export function ours(port: Port, count: number): number[] {
  const view = new DataView(port.memory);
  const slots: number[] = [];
  for (let slot = 0; slot < count; slot++) {
    const { offset, length } = port.burst;
    if (length[slot] >= 20 && view.getUint16(offset[slot] + 12) === 0x88b5) slots.push(slot);
  }
  return slots;
}

/** Exchanges until at least one of our frames is there. */
export async function take(port: Port): Promise<number[]> {
  const deadline = performance.now() + DEADLINE_MS;
  while (performance.now() < deadline) {
    const slots = ours(port, port.exchange());
    if (slots.length > 0) return slots;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`port ${port.name}: no packet within ${DEADLINE_MS} ms`);
}

/** Waits for frames to have left. */
export async function sentBy(harness: PortHarness, port: number, count: number): Promise<Uint8Array[]> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const sent = await harness.sent(port);
    if (sent.length >= count || performance.now() > deadline) return sent;
    for (const each of harness.ports) each.exchange();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

export function expectConserved(ports: readonly Port[]): void {
  const { free, fill, rx, tx, held, total } = ports[0].counts();
  expect(Math.min(free, fill, rx, tx, held)).toBeGreaterThanOrEqual(0);
  expect(free + fill + rx + tx + held).toBe(total);
}

/** Every packet received has exactly one fate, or is in hand, or is held. */
export function expectAddsUp(ports: readonly Port[]): void {
  const sum = (counter: PortCounter): number => ports.reduce((total, port) => total + port.counters[counter], 0);
  const fates = [
    PortCounter.txPackets,
    PortCounter.txFull,
    PortCounter.txInvalid,
    PortCounter.passPackets,
    PortCounter.passLost,
    PortCounter.dropped,
  ];
  const settled = fates.reduce((total, counter) => total + sum(counter), 0);
  // Packets in hand, and those that were resumed and come with the next burst.
  const { rx, held } = ports[0].counts();
  expect(settled + rx + held).toBe(sum(PortCounter.rxPackets));
}
