import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/errors.js';
import { readCapture } from '../../src/pcap/capture.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { join, pattern, Section } from '../support/capture_bytes.js';

const directory = mkdtempSync(joinPath(tmpdir(), 'sluice-pcapng-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** UDP 10.0.0.1:1111 → 10.0.0.2:2222 with `length` bytes of payload, checksums 0. */
function udpFrame(length: number): Uint8Array {
  const frame = Buffer.alloc(42 + length);
  frame.write('0200000000020200000000010800', 'hex');
  frame.write('4500', 14, 'hex');
  frame.writeUInt16BE(28 + length, 16);
  frame.write('40110000' + '0a000001' + '0a000002' + '045708ae', 22, 'hex');
  frame.writeUInt16BE(8 + length, 38);
  return new Uint8Array(frame);
}

function has(tool: string): boolean {
  return spawnSync(tool, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** Runs a test where a tool is there; where it is not, the name of the skipped test says why. */
const withTool = (tool: string) =>
  has(tool)
    ? (name: string, body: () => void) => it(name, body)
    : (name: string, body: () => void) => it.skip(`${name} [skipped: ${tool} is not installed]`, body);

describe('PcapngWriter', () => {
  it('writes blocks byte for byte as the format describes them', () => {
    const writer = new PcapngWriter('memory', { hardware: 'veth', os: 'Linux', userAppl: 'sluice 1' });
    expect(writer.addInterface({ name: 'eth0', description: 'up', snapLength: 96 })).toBe(0);
    const data = pattern(61);
    writer.writePacket({
      interfaceId: 0,
      timestampNs: 0x0102030405060708n,
      data,
      originalLength: 1500,
      comment: 'hi',
      direction: 'out',
    });
    const section = new Section(true);
    expect(writer.bytes()).toEqual(
      join(
        section.header(-1n, [
          [2, 'veth'],
          [3, 'Linux'],
          [4, 'sluice 1'],
        ]),
        section.interface(
          [
            [2, 'eth0'],
            [3, 'up'],
            [9, Uint8Array.of(9)],
          ],
          1,
          96,
        ),
        section.enhanced(
          0,
          0x0102030405060708n,
          data,
          [
            [1, 'hi'],
            [2, section.u32(2)],
          ],
          1500,
        ),
      ),
    );
  });

  it('is read back as it was written, over many buffers and odd lengths', () => {
    const path = joinPath(directory, 'many.pcapng');
    const memory = new PcapngWriter('memory');
    for (const writer of [memory, PcapngWriter.open(path)]) {
      const first = writer.addInterface({ name: 'eth0' });
      let second = -1;
      for (let i = 0; i < 3000; i++) {
        if (i === 1500) second = writer.addInterface({ name: 'eth1' });
        writer.writePacket({
          interfaceId: i < 1500 ? first : second,
          timestampNs: 1_700_000_000_000_000_000n + BigInt(i),
          data: pattern(i % 700, i),
          ...(i % 3 === 0 ? { comment: `nr ${i} ü` } : {}),
          ...(i % 5 === 0 ? { direction: 'in' as const } : {}),
        });
      }
      writer.writePacket({ interfaceId: 0, timestampNs: 0n, data: pattern(700_000) });
      expect(writer.packets).toBe(3001);
      writer.close();
    }
    // The file's writer used its buffer again and again: nothing of earlier blocks may show in the padding of later ones.
    expect(Buffer.compare(readFileSync(path), memory.bytes())).toBe(0);
    const capture = readCapture(path);
    expect(capture.length).toBe(3001);
    expect(capture.interfaces.map((iface) => iface.name)).toEqual(['eth0', 'eth1']);
    for (let i = 0; i < 3000; i++) {
      const packet = capture.packet(i);
      if (Buffer.compare(packet.data, pattern(i % 700, i)) !== 0) throw new Error(`packet ${i} differs`);
      expect(packet.timestampNs).toBe(1_700_000_000_000_000_000n + BigInt(i));
      expect(packet.interfaceId).toBe(i < 1500 ? 0 : 1);
      expect(packet.comment).toBe(i % 3 === 0 ? `nr ${i} ü` : undefined);
      expect(packet.flags).toBe(i % 5 === 0 ? 1 : undefined);
    }
    expect(capture.packet(3000).data.length).toBe(700_000);
  });

  it('writes to a descriptor that stays open, the same bytes as into memory', () => {
    const path = joinPath(directory, 'fd.pcapng');
    const fd = openSync(path, 'w');
    const memory = new PcapngWriter('memory');
    for (const writer of [new PcapngWriter(fd), memory]) {
      writer.addInterface({ name: 'eth0' });
      writer.writePacket({ interfaceId: 0, timestampNs: 1n, data: pattern(60), comment: 'x' });
      writer.close();
      writer.close();
    }
    closeSync(fd);
    expect(new Uint8Array(readFileSync(path))).toEqual(memory.bytes());
  });

  it('cuts a comment of more than 65535 bytes between two characters', () => {
    const writer = new PcapngWriter('memory');
    writer.addInterface({ name: 'eth0' });
    writer.writePacket({ interfaceId: 0, timestampNs: 0n, data: pattern(14), comment: 'ü'.repeat(40_000) });
    expect(readCapture(writer.bytes()).packet(0).comment).toBe('ü'.repeat(32_767));
  });

  it('refuses wrong use without writing anything', () => {
    const writer = new PcapngWriter('memory');
    writer.addInterface({ name: 'eth0' });
    const before = writer.bytes().slice();
    const packet = { interfaceId: 0, timestampNs: 0n, data: pattern(14) };
    expect(() => writer.writePacket({ ...packet, interfaceId: 1 })).toThrow(
      'interface 1 of a capture that has described 1',
    );
    expect(() => writer.writePacket({ ...packet, timestampNs: -1n })).toThrow(RangeError);
    expect(() => writer.writePacket({ ...packet, timestampNs: 1n << 64n })).toThrow(RangeError);
    expect(writer.bytes()).toEqual(before);
    writer.close();
    expect(() => writer.writePacket(packet)).toThrow(SluiceError);
    expect(() => PcapngWriter.open(joinPath(directory, 'no', 'such.pcapng'))).toThrow(
      /cannot write the capture .*ENOENT/,
    );
  });
});

describe('other tools', () => {
  const path = joinPath(directory, 'tools.pcapng');
  const writer = PcapngWriter.open(path, { hardware: 'veth', os: 'Linux 6.18' });
  writer.addInterface({ name: 'eth0' });
  writer.addInterface({ name: 'eth1' });
  for (let i = 0; i < 4; i++) {
    writer.writePacket({
      interfaceId: i & 1,
      timestampNs: 1_700_000_000_123_456_000n + BigInt(i),
      data: udpFrame(i),
      comment: `verdict=tx nr ${i}`,
      direction: 'out',
    });
  }
  writer.close();

  withTool('tcpdump')('tcpdump reads what was written', () => {
    const read = spawnSync('tcpdump', ['-nn', '-tt', '--nano', '-r', path], { encoding: 'utf8' });
    expect(read.status).toBe(0);
    expect(read.stdout.trim().split('\n')).toEqual(
      [0, 1, 2, 3].map((i) => `1700000000.12345600${i} IP 10.0.0.1.1111 > 10.0.0.2.2222: UDP, length ${i}`),
    );
  });

  withTool('tcpdump')('what tcpdump writes is read the same', () => {
    const copy = joinPath(directory, 'copy.pcap');
    const run = spawnSync('tcpdump', ['--nano', '-r', path, '-w', copy], { encoding: 'utf8' });
    expect(run.status).toBe(0);
    const theirs = readCapture(copy);
    expect(theirs.format).toBe('pcap');
    expect([...theirs].map((packet) => [packet.timestampNs, packet.data])).toEqual(
      [...readCapture(path)].map((packet) => [packet.timestampNs, packet.data]),
    );
  });

  withTool('tshark')('tshark reads interfaces, comments and direction', () => {
    const fields = ['frame.time_epoch', 'frame.interface_name', 'frame.comment', 'frame.packet_flags_direction'];
    const args = ['-r', path, '-T', 'fields', '-E', 'separator=|', ...fields.flatMap((field) => ['-e', field])];
    const read = spawnSync('tshark', args, { encoding: 'utf8' });
    expect(read.stderr.replace(/^Running as user.*\n/, '')).toBe('');
    const lines = read.stdout
      .trim()
      .split('\n')
      .map((line) => line.split('|'));
    expect(lines.map((line) => line.slice(0, 3))).toEqual(
      [0, 1, 2, 3].map((i) => [`1700000000.12345600${i}`, `eth${i & 1}`, `verdict=tx nr ${i}`]),
    );
    for (const line of lines) expect(Number(line[3])).toBe(2);
  });

  withTool('capinfos')('capinfos finds nothing wrong', () => {
    const info = spawnSync('capinfos', ['-M', path], { encoding: 'utf8' });
    expect(info.status).toBe(0);
    expect(info.stdout).toMatch(/Number of packets:\s+4/);
    expect(info.stdout).toMatch(/Number of interfaces in file:\s+2/);
    expect(info.stdout).toMatch(/Capture application:\s+sluice/);
  });

  withTool('editcap')('a pcapng file rewritten by editcap is read the same', () => {
    const copy = joinPath(directory, 'editcap.pcapng');
    expect(spawnSync('editcap', ['-F', 'pcapng', path, copy], { encoding: 'utf8' }).status).toBe(0);
    expect([...readCapture(copy)]).toEqual([...readCapture(path)]);
  });

  withTool('tcpdump')('a damaged file is refused by tcpdump as well', () => {
    const cut = joinPath(directory, 'cut.pcapng');
    writeFileSync(cut, readFileSync(path).subarray(0, -3));
    expect(() => readCapture(cut)).toThrow(/cut\.pcapng, byte \d+: a block of \d+ bytes, and the file ends after/);
    expect(spawnSync('tcpdump', ['-r', cut]).status).not.toBe(0);
  });
});
