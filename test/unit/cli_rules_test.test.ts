import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { classicFile } from '../support/capture_bytes.js';
import { FakeEnv, runInWords } from '../support/fake_env.js';

let directory: string;
let env: FakeEnv;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-rules-'));
  env = new FakeEnv({}, false, 200);
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

const run = (...args: string[]) => runInWords(env, rulesCommand(env), args);

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

describe('sluice rules test', () => {
  /** An Ethernet frame with a UDP datagram from a port. */
  const udp = (sport: number, length: number): Uint8Array => {
    const frame = new Uint8Array(14 + 20 + 8 + length);
    const view = new DataView(frame.buffer);
    frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45]);
    view.setUint16(16, 28 + length);
    frame.set([64, 17], 22);
    frame.set([192, 0, 2, 1, 198, 51, 100, 1], 26);
    view.setUint16(34, sport);
    view.setUint16(36, 4000);
    view.setUint16(38, 8 + length);
    return frame;
  };

  it('counts for each rule what the data path does', async () => {
    const pcap = join(directory, 'in.pcap');
    const frames = Array.from({ length: 30 }, (_, i) => udp(i % 3 === 0 ? 123 : 53, 100 + i));
    writeFileSync(
      pcap,
      classicFile(
        { little: true, nanoseconds: false },
        frames.map((data, i) => ({ seconds: 1, fraction: i, data })),
      ),
    );
    const config = file(
      'sluice.yaml',
      `interfaces: [eth0]
filters: [rules]
rules:
  - {name: seen, match: {protocol: udp}, action: count}
  - {name: trial, match: {sport: [53, 54]}, action: drop, mode: shadow}
  - {name: ntp, match: udp src port 123 and greater 150, action: drop}
`,
    );
    const result = JSON.parse((await run('test', '-c', config, pcap, '--json')).out) as {
      packets: number;
      verdicts: object;
      rules: object[];
    };
    const long = Array.from({ length: 30 }, (_, i) => i).filter((i) => i % 3 === 0 && 42 + 100 + i >= 150).length;
    expect(result).toMatchObject({
      packets: 30,
      verdicts: { drop: long, pass: 30 - long },
      rules: [
        { name: 'seen', action: 'count', mode: 'enforce', packets: 30 },
        { name: 'trial', action: 'drop', mode: 'shadow', packets: 20, acted: 20 },
        { name: 'ntp', action: 'drop', mode: 'enforce', packets: long, acted: long },
      ],
    });
    const { out, code } = await run('test', '-c', config, pcap);
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^RULE +ACTION +MODE +PACKETS +BYTES +ACTED +ACTED BYTES\n`));
    expect(out).toMatch(new RegExp(`\nntp +drop +enforce +${long} +`));
    expect(out).toMatch(/\n30 packets: /);
    expect(out).not.toContain('in part');
  });

  it('says how many frames the capture has only in part', async () => {
    const pcap = join(directory, 'in.pcap');
    const frame = udp(123, 400);
    const packets = [frame, frame.subarray(0, 96), frame.subarray(0, 60)].map((data) => ({ seconds: 1, fraction: 0, data, original: frame.length })); // prettier-ignore
    writeFileSync(pcap, classicFile({ little: true, nanoseconds: false, snapLength: 96 }, packets));
    const config = file(
      'sluice.yaml',
      'interfaces: [eth0]\nfilters: [rules]\nrules: [{name: ntp, match: udp src port 123 and greater 150, action: drop}]\n',
    );
    const { out } = await run('test', '-c', config, pcap);
    expect(out).toMatch(/\n2 packets captured in part, and judged by that part: /);
    const result = JSON.parse((await run('test', '-c', config, pcap, '--json')).out) as object;
    expect(result).toMatchObject({ packets: 3, cut: 2, rules: [{ packets: 1 }] });
  });
});
