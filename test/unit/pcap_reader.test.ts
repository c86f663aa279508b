import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/errors.js';
import { readCapture } from '../../src/pcap/capture.js';
import { Bytes, classicFile, join, pattern, Section } from '../support/capture_bytes.js';

/** The SluiceError that reading throws; fails when it throws nothing or something else. */
function failure(file: Uint8Array): SluiceError {
  try {
    readCapture(file, { name: 'x.pcap' });
  } catch (error) {
    expect(error).toBeInstanceOf(SluiceError);
    return error as SluiceError;
  }
  throw new Error('expected an error');
}

const orders = [
  ['little-endian', true],
  ['big-endian', false],
] as const;

describe.each(orders)('classic pcap, %s', (_, little) => {
  it.each([
    ['microseconds', false, 1_700_000_001_000_005_000n],
    ['nanoseconds', true, 1_700_000_001_000_000_005n],
  ] as const)('reads packets with timestamps in %s', (_unit, nanoseconds, expected) => {
    const packets = [
      { seconds: 1_700_000_001, fraction: 5, data: pattern(60) },
      { seconds: 0xffff_ffff, fraction: 999, data: pattern(14, 2), original: 1500 },
    ];
    const capture = readCapture(classicFile({ little, nanoseconds, snapLength: 96 }, packets));
    expect(capture.format).toBe('pcap');
    expect(capture.length).toBe(2);
    expect(capture.interfaces[0]).toMatchObject({ id: 0, linkType: 1, snapLength: 96 });
    const [first, second] = [...capture.packets];
    expect(first).toEqual({
      index: 0,
      timestampNs: expected,
      interfaceId: 0,
      originalLength: 60,
      data: pattern(60),
    });
    expect(second).toMatchObject({ index: 1, originalLength: 1500, data: pattern(14, 2) });
    expect(second!.timestampNs).toBe(4_294_967_295_000_000_000n + (nanoseconds ? 999n : 999_000n));
  });

  it('gives views of the file, not copies', () => {
    const file = classicFile({ little, nanoseconds: false }, [{ seconds: 1, fraction: 0, data: pattern(60) }]);
    const { data } = readCapture(file).packet(0);
    expect(data.buffer).toBe(file.buffer);
    expect(data.byteOffset).toBe(40);
  });

  it('refuses another link type, naming file and byte', () => {
    const error = failure(classicFile({ little, nanoseconds: false, linkType: 113 }, []));
    expect(error.code).toBe('SLUICE_FORMAT');
    expect(error.message).toBe('x.pcap, byte 20: link type 113 is not Ethernet (1)');
    expect(error.remedy).toMatch(/tcpdump -i/);
  });

  it('takes a link type with frame check sequence bits as Ethernet', () => {
    expect(readCapture(classicFile({ little, nanoseconds: false, linkType: 0x24000001 }, [])).length).toBe(0);
  });

  it('names the byte where a truncated file breaks, and gives the whole packets before it when lenient', () => {
    const packets = [1, 2, 3].map((seed) => ({ seconds: seed, fraction: 0, data: pattern(60, seed) }));
    const whole = classicFile({ little, nanoseconds: false }, packets);
    const third = 24 + 2 * 76;
    expect(failure(whole.subarray(0, third + 5)).message).toBe(
      `x.pcap, byte ${third}: the file ends within the header of packet 3`,
    );
    const cut = whole.subarray(0, third + 16 + 59);
    expect(failure(cut).message).toBe(
      `x.pcap, byte ${third}: packet 3 says it has 60 bytes, and the file ends after 59`,
    );
    const lenient = readCapture(cut, { strict: false });
    expect(lenient.length).toBe(2);
    expect(lenient.packet(1).data).toEqual(pattern(60, 2));
    const seen: number[] = [];
    expect(() => {
      for (const packet of lenient.packets) seen.push(packet.index);
    }).toThrow(lenient.damage!);
    expect(seen).toEqual([0, 1]);
  });
});

describe.each(orders)('pcapng, %s', (_, little) => {
  const section = new Section(little);
  const start = join(section.header(), section.interface([[2, 'eth7']]));

  it('reads enhanced, simple and obsolete packet blocks and skips all others', () => {
    const file = join(
      section.header(-1n, [[4, 'some tool']]),
      section.interface([
        [2, 'eth7'],
        [3, 'the uplink'],
      ]),
      section.block(4, pattern(20)), // name resolution
      section.enhanced(0, 1_700_000_000_000_001n, pattern(61), [
        [1, 'first'],
        [1, 'second'],
        [2, section.u32(1)],
      ]),
      section.block(0x0bad, pattern(13)), // custom
      section.block(0x40000bad, pattern(8)),
      section.simple(pattern(15, 2)),
      section.block(5, pattern(12)), // interface statistics
      section.block(0x7fff1234, new Uint8Array(0)), // unknown, empty
      section.obsolete(0, 7n, pattern(33, 3)),
    );
    const capture = readCapture(file);
    expect(capture.format).toBe('pcapng');
    expect(capture.interfaces).toHaveLength(1);
    expect(capture.interfaces[0]).toMatchObject({ name: 'eth7', description: 'the uplink', linkType: 1 });
    expect([...capture]).toEqual([
      {
        index: 0,
        timestampNs: 1_700_000_000_000_001_000n,
        interfaceId: 0,
        originalLength: 61,
        data: pattern(61),
        comment: 'first\nsecond',
        flags: 1,
      },
      { index: 1, timestampNs: 0n, interfaceId: 0, originalLength: 15, data: pattern(15, 2) },
      { index: 2, timestampNs: 7_000n, interfaceId: 0, originalLength: 33, data: pattern(33, 3) },
    ]);
  });

  it.each([
    ['none: microseconds', [], 5n, 5_000n],
    ['10^-3', [[9, Uint8Array.of(3)]], 5n, 5_000_000n],
    ['10^-9', [[9, Uint8Array.of(9)]], 0xffff_ffff_ffffn, 0xffff_ffff_ffffn],
    ['10^-12', [[9, Uint8Array.of(12)]], 5_999n, 5n],
    ['2^-10', [[9, Uint8Array.of(0x8a)]], 1024n + 512n, 1_500_000_000n],
    ['2^-127', [[9, Uint8Array.of(0xff)]], (1n << 64n) - 1n, 0n],
    ['10^0', [[9, Uint8Array.of(0)]], 3n, 3_000_000_000n],
    [
      'an offset of two seconds',
      [
        [9, Uint8Array.of(9)],
        [14, section.u64(2n)],
      ],
      1n,
      2_000_000_001n,
    ],
    ['a negative offset', [[14, section.u64(-1n)]], 2_000_000n, 1_000_000_000n],
  ] as [string, [number, Uint8Array][], bigint, bigint][])(
    'reads timestamps with if_tsresol %s',
    (_name, options, ticks, expected) => {
      const file = join(section.header(), section.interface(options), section.enhanced(0, ticks, pattern(14)));
      expect(readCapture(file).packet(0).timestampNs).toBe(expected);
    },
  );

  it('cuts a simple packet at the snap length of interface 0', () => {
    const file = join(section.header(), section.interface([], 1, 20), section.simple(pattern(20), 1500));
    expect(readCapture(file).packet(0)).toMatchObject({ originalLength: 1500, data: pattern(20) });
  });

  it('numbers interfaces anew in each section, whatever its byte order', () => {
    const other = new Section(!little);
    const file = join(
      start,
      section.enhanced(0, 1n, pattern(14, 1)),
      other.header(),
      other.interface([
        [2, 'b0'],
        [9, Uint8Array.of(9)],
      ]),
      other.interface([[2, 'b1']]),
      other.enhanced(1, 2n, pattern(14, 2)),
      other.enhanced(0, 3n, pattern(14, 3)),
      start,
      section.simple(pattern(14, 4)),
    );
    const capture = readCapture(file);
    expect(capture.interfaces.map((iface) => iface.name)).toEqual(['eth7', 'b0', 'b1', 'eth7']);
    expect([...capture].map((packet) => [packet.interfaceId, packet.timestampNs])).toEqual([
      [0, 1_000n],
      [2, 2_000n],
      [1, 3n],
      [3, 0n],
    ]);
    expect([...capture].map((packet) => packet.data)).toEqual([1, 2, 3, 4].map((seed) => pattern(14, seed)));
  });

  it('accepts another link type on an interface without packets, and refuses its first packet', () => {
    const idle = join(start, section.interface([], 113), section.enhanced(0, 1n, pattern(14)));
    expect(readCapture(idle).length).toBe(1);
    const used = join(idle, section.enhanced(1, 1n, pattern(14)));
    expect(failure(used).message).toBe(`x.pcap, byte ${start.length + 8}: link type 113 is not Ethernet (1)`);
  });

  it.each([
    ['a block shorter than a block', new Bytes(little).u32(5).u32(8).u32(8).done(), 4, '8 is not a possible block'],
    ['a length off the grid', new Bytes(little).u32(5).u32(13).u32(13).u32(0).done(), 4, '13 is not a possible block'],
    ['a block beyond the end', new Bytes(little).u32(5).u32(64).u32(64).done(), 0, 'a block of 64 bytes, and the file'],
    ['a huge block', new Bytes(little).u32(5).u32(0xfffffffc).u32(1).done(), 0, 'a block of 4294967292 bytes'],
    ['lengths that disagree', new Bytes(little).u32(5).u32(12).u32(16).done(), 8, 'lengths disagree: 12 before it, 16'],
    ['half a block header', new Bytes(little).u32(5).u32(12).done(), 0, 'the file ends within a block header'],
    ['an unknown interface', section.enhanced(1, 0n, pattern(14)), 8, 'interface 1, and the section has described 1'],
    ['a short packet block', section.block(6, pattern(16)), 0, 'a packet block of 28 bytes is too short'],
    ['an empty simple block', section.block(3, pattern(0)), 0, 'a packet block of 12 bytes is too short'],
    [
      'more data than the block holds',
      section.block(6, new Bytes(little).u32(0).u32(0).u32(0).u32(5).u32(5).u32(0).done()),
      20,
      'a packet of 5 bytes in a block of 36',
    ],
    [
      'an option out of its block',
      section.block(6, new Bytes(little).u32(0).u32(0).u32(0).u32(0).u32(0).u16(1).u16(9).done()),
      28,
      'option 1 of 9 bytes runs out of its block',
    ],
    ['a simple packet longer than its block', section.simple(pattern(16), 17), 8, 'a packet of 17 bytes in a block'],
    ['a short description', section.block(1, pattern(4)), 0, 'an interface description of 16 bytes is too short'],
    ['a bad if_tsresol', section.interface([[9, pattern(2)]]), 20, 'a timestamp option of 2 bytes'],
    [
      'a section of version 2',
      section.block(0x0a0d0d0a, new Bytes(little).u32(0x1a2b3c4d).u32(2).u64(0n).done()),
      12,
      'pcapng version',
    ],
    ['a short section', section.block(0x0a0d0d0a, new Bytes(little).u32(0x1a2b3c4d).u32(1).done()), 0, 'too short'],
    ['a section without its magic', section.block(0x0a0d0d0a, pattern(16)), 8, "not pcapng's byte-order magic"],
  ] as [string, Uint8Array, number, string][])('refuses %s and names the byte', (_name, bad, at, message) => {
    const good = join(start, section.enhanced(0, 1n, pattern(14)));
    const file = join(good, bad);
    const error = failure(file);
    expect(error.code).toBe('SLUICE_FORMAT');
    expect(error.message).toContain(`x.pcap, byte ${good.length + at}: `);
    expect(error.message).toContain(message);
    const lenient = readCapture(file, { strict: false });
    expect(lenient.length).toBe(1);
    expect(lenient.damage).toBeInstanceOf(SluiceError);
  });

  it('gives a lenient reader every whole packet, cut at whatever byte', () => {
    const parts = [start, ...[1, 2, 3].map((seed) => section.enhanced(0, 1n, pattern(13 + seed, seed), [[1, 'x']]))];
    const file = join(...parts);
    for (let end = start.length; end < file.length; end++) {
      const capture = readCapture(file.subarray(0, end), { strict: false });
      let whole = 0;
      for (let at = start.length; whole < 3 && at + parts[whole + 1]!.length <= end; whole++)
        at += parts[whole + 1]!.length;
      expect(capture.length).toBe(whole);
      const onBoundary = parts.slice(0, whole + 1).reduce((sum, part) => sum + part.length, 0) === end;
      expect(capture.damage === null).toBe(onBoundary);
    }
  });
});

describe('files', () => {
  it.each([
    ['nothing', new Uint8Array(0), 'the file is empty', ''],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, 0), 'compressed with gzip', 'gunzip'],
    ['zstd', Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd), 'compressed with zstd', 'zstd -d'],
    ['the modified format', Uint8Array.of(0x34, 0xcd, 0xb2, 0xa1), 'modified pcap', 'editcap'],
    ['a picture', Uint8Array.from(Buffer.from('\x89PNG\r\n')), 'neither the magic of pcap', 'editcap'],
    ['three bytes', Uint8Array.of(1, 2, 3), 'neither the magic of pcap', 'editcap'],
    ['half a header', classicFile({ little: true, nanoseconds: false }, []).subarray(0, 23), 'within its 24-byte', ''],
  ])('refuses %s and says what it is', (_name, file, message, remedy) => {
    const error = failure(file);
    expect(error.code).toBe('SLUICE_FORMAT');
    expect(error.message).toContain(message);
    expect(error.remedy).toContain(remedy);
  });

  it('reads from a path and names it in errors', () => {
    const directory = mkdtempSync(joinPath(tmpdir(), 'sluice-pcap-'));
    try {
      const path = joinPath(directory, 'a.pcap');
      const file = classicFile({ little: true, nanoseconds: true }, [{ seconds: 1, fraction: 2, data: pattern(60) }]);
      writeFileSync(path, file);
      expect(readCapture(path).packet(0).data).toEqual(pattern(60));
      writeFileSync(path, file.subarray(0, 50));
      expect(() => readCapture(path)).toThrow(`${path}, byte 24: `);
      expect(() => readCapture(joinPath(directory, 'none.pcap'))).toThrow(
        /cannot read the capture .*none\.pcap: ENOENT/,
      );
      expect(() => readCapture(directory)).toThrow(/cannot read the capture/);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('throws RangeError for a packet that is not there', () => {
    const capture = readCapture(classicFile({ little: true, nanoseconds: true }, []));
    for (const index of [0, -1, 0.5, NaN]) expect(() => capture.packet(index)).toThrow(RangeError);
  });

  it('takes time in proportion to the number of packets', () => {
    const timed = (count: number): number => {
      const file = Buffer.alloc(24 + count * 76);
      file.set(classicFile({ little: true, nanoseconds: true }, []));
      const record = classicFile({ little: true, nanoseconds: true }, [{ seconds: 1, fraction: 2, data: pattern(60) }]);
      for (let i = 0; i < count; i++) file.set(record.subarray(24), 24 + i * 76);
      const begin = process.cpuUsage().user;
      let bytes = 0;
      for (const packet of readCapture(file).packets) bytes += packet.data.length;
      expect(bytes).toBe(count * 60);
      return process.cpuUsage().user - begin;
    };
    timed(20_000);
    // Ten times the packets: about ten times the time, a hundred times if anything were quadratic.
    expect(timed(200_000)).toBeLessThan(Math.max(timed(20_000), 5_000) * 40);
  });
});
