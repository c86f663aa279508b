/** Captures as loads of `sluice gen`: which can be sent, what of them is changed, and the order of what is written. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { genCommand } from '../../src/cli/commands/gen.js';
import { readEngine, readReplayPlan, type GenOptions } from '../../src/cli/commands/gen_options.js';
import type { SluiceError } from '../../src/errors.js';
import type { Replay } from '../../src/generator/load.js';
import { readReplay } from '../../src/generator/replay.js';
import { ReplayWriter } from '../../src/generator/replay_writer.js';
import { parseMac } from '../../src/shared/addr.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';

const LIMITS = { interface: 'va', packetsPerSecond: 0, packets: 0, durationMs: 1000, cpu: null };
const OPTIONS = { interface: 'va', sport: '1024', template: 'udp', flows: '1', size: '64', pcap: 'x.pcap' };
let directory: string;

beforeAll(() => (directory = mkdtempSync(join(tmpdir(), 'sluice-replay-'))));
afterAll(() => rmSync(directory, { recursive: true }));

/** A frame of this length; its bytes tell which it is. */
const frame = (tag: number, length: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (tag * 37 + i) & 255));

/** A classic capture file of these frames; `wire`: how long the first of them was. */
function capture(frames: readonly Buffer[], wire?: number): string {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65535, 16);
  header.writeUInt32LE(1, 20);
  const records = frames.flatMap((data, i) => {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(data.length, 8);
    record.writeUInt32LE(i === 0 ? (wire ?? data.length) : data.length, 12);
    return [record, data];
  });
  const path = join(directory, `${frames.length}-${wire ?? 0}-${frames[0]?.length ?? 0}.pcap`);
  writeFileSync(path, Buffer.concat([header, ...records]));
  return path;
}

const FRAMES = [frame(1, 60), frame(2, 1514), frame(3, 60), frame(4, 300)];

describe('a capture', () => {
  it('is its frames, one after the other, and the lengths that there are', () => {
    const { frames, ends, sizes } = readReplay(capture(FRAMES), null);
    expect([...ends]).toEqual([60, 1574, 1634, 1934]);
    expect(Buffer.from(frames).equals(Buffer.concat(FRAMES))).toBe(true);
    expect(sizes).toEqual([
      { bytes: 60, weight: 2 },
      { bytes: 300, weight: 1 },
      { bytes: 1514, weight: 1 },
    ]);
  });

  it('gets other hardware addresses, and nothing else, when asked', () => {
    const addresses = { source: parseMac('02:00:00:00:00:01'), destination: parseMac('02:00:00:00:00:02') };
    const { frames, ends } = readReplay(capture(FRAMES), addresses);
    FRAMES.forEach((whole, i) => {
      const sent = Buffer.from(frames.subarray(ends[i] - whole.length, ends[i]));
      expect(sent.subarray(0, 12).toString('hex')).toBe('020000000002020000000001');
      expect(sent.subarray(12).equals(whole.subarray(12))).toBe(true);
    });
  });

  it.each([
    ['has no packets', () => capture([])],
    ['packet 0 of .* has 60 of its 1514 bytes', () => capture([frame(1, 60)], 1514)],
    ['has 13 bytes, which cannot be sent', () => capture([frame(1, 13)])],
    ['has 3001 bytes, which cannot be sent', () => capture([frame(1, 3001)])],
    ['nothing.pcap', () => join(directory, 'nothing.pcap')],
  ])('is refused: %s', (said, path) => {
    expect(() => readReplay(path(), null)).toThrow(new RegExp(said));
  });
});

describe('what is written', () => {
  it('is each frame in turn, then all again, whatever was there before', () => {
    const replay: Replay = { ...LIMITS, ...readReplay(capture(FRAMES), null) };
    const memory = new ArrayBuffer(3 * 2048);
    const writer = new ReplayWriter(replay, memory);
    for (let i = 0; i < 10; i++) {
      const at = (i % 3) * 2048 + 256;
      const length = writer.write(at);
      expect(Buffer.from(memory, at, length).equals(FRAMES[i % 4])).toBe(true);
    }
    // Of 60, 300 and 1,514 bytes.
    expect([...writer.written]).toEqual([5, 2, 3]);
  });
});

describe('arguments', () => {
  const refusal = (options: Partial<GenOptions>): string => {
    try {
      readReplayPlan({ ...OPTIONS, ...options });
    } catch (error) {
      return `${(error as SluiceError).code}: ${(error as SluiceError).message}`;
    }
    return 'taken';
  };

  it('say how much and how fast, by the AF_XDP engine', () => {
    expect(readReplayPlan({ ...OPTIONS, rate: '10k', count: '1M', dstMac: '02:00:00:00:00:02' })).toEqual({
      path: 'x.pcap',
      interface: 'va',
      destinationMac: parseMac('02:00:00:00:00:02'),
      packetsPerSecond: 10_000,
      packets: 1_000_000,
      durationMs: 3_600_000,
      cpu: null,
    });
    expect(readEngine({ pcap: 'x.pcap' }).name).toBe('xsk');
    expect(() => readEngine({ pcap: 'x.pcap', engine: 'live' })).toThrow('live frames are made of templates');
    expect(readEngine({}).name).toBe('live');
  });

  it('that make packets are refused', () => {
    expect(refusal({})).toBe('taken');
    expect(refusal({ dst: '10.0.0.1' })).toBe(
      'SLUICE_USAGE: --dst is not for a capture, whose packets are sent as they are',
    );
    expect(refusal({ outerSrc: '10.0.0.1' })).toMatch('--outer-src is not for a capture');
    expect(refusal({ interface: undefined })).toMatch('there is no interface to send by');
  });

  it('name a file from the directory of the command', async () => {
    const { code, error } = await runCommand(genCommand(new FakeEnv()), ['-i', 'lo', '--pcap', 'no/such.pcap']);
    expect([code, error?.message]).toEqual([2, expect.stringContaining(join(process.cwd(), 'no/such.pcap')) as string]);
  });
});
