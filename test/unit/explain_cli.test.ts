/** `sluice explain` from the command line: forms of a packet, configs of files and of a daemon, errors with their remedy. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { explainCommand } from '../../src/cli/commands/explain.js';
import type { ControlTarget } from '../../src/control/api/contract.js';
import { ControlServer } from '../../src/control/api/server.js';
import { buildStatus } from '../../src/control/api/status.js';
import { parseConfig } from '../../src/control/config/index.js';
import type { Explanation } from '../../src/control/explain/document.js';
import { mergeLive } from '../../src/control/explain/live.js';
import { frameFromWords } from '../../src/control/explain/words.js';
import { ruleDocument } from '../../src/control/rules/document.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { classicFile } from '../support/capture_bytes.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';
import { FakeRuleDaemon } from '../support/fake_rules.js';
import { FakeSetDaemon } from '../support/fake_sets.js';
import { fakeView } from '../support/fake_view.js';
import { place } from '../support/packets.js';
import { PacketBuilder } from '../support/packet_builder.js';

const directory = mkdtempSync(join(tmpdir(), 'sluice-explain-'));
afterAll(() => rmSync(directory, { recursive: true }));

const YAML = `
interfaces: [eth0]
services:
  - { name: web, vip: 198.51.100.1, port: 443, protocol: tcp, backends: [10.0.0.1] }
allow: [192.0.2.77, "set:partners"]
sets:
  - { name: bad, type: hash:net, entries: [203.0.113.0/24], drop: src }
  - { name: partners, type: hash:ip, entries: [203.0.113.5] }
mitigation:
  challenge: { mode: always }
rules:
  - { name: ntp, match: { protocol: udp, sport: 123 }, action: drop }
`;
const config = join(directory, 'c.yaml');
writeFileSync(config, YAML);
const capture = join(directory, 'x.pcap');
const frames = [1, 2, 3].map((sport) => frameFromWords(`tcp 192.0.2.77:${sport} > 198.51.100.1:443 flags A`, ''));
const records = [...frames, frames[0]].map((data, i) => ({ seconds: 1_700_000_000 + i, fraction: 0, data }));
writeFileSync(capture, classicFile({ little: true, nanoseconds: true }, records));

const wifi = join(directory, 'wifi.pcap');
writeFileSync(wifi, classicFile({ little: true, nanoseconds: true, linkType: 105 }, records));
const cut = join(directory, 'cut.pcap');
writeFileSync(cut, classicFile({ little: true, nanoseconds: true }, records).subarray(0, 60));

async function run(...args: string[]): Promise<{ code: number; error: string; out: string; json: () => Explanation }> {
  const env = new FakeEnv({ SLUICE_SOCKET: join(directory, 'no.sock') });
  const { code, error } = await runCommand(explainCommand(env), args);
  const remedy = (error as { remedy?: string } | null)?.remedy ?? '';
  return {
    code,
    error: error ? `${error.message} | ${remedy}` : '',
    out: env.out,
    json: () => JSON.parse(env.out) as Explanation,
  };
}

const stages = ({ steps }: Explanation): string[] => steps.map(({ stage, result }) => `${stage} ${result}`);

describe('sluice explain', () => {
  it('takes a frame of a capture, with those before it, some of them, or none', async () => {
    const all = (await run('-c', config, '--json', `${capture}#3`)).json();
    expect(all.input).toEqual({ text: `${capture}#3`, file: capture, frame: 3, before: 3 });
    expect(stages(all)).toContain('flow-table hit');
    expect(all.frame.clockMs).toBe(3000);
    const some = (await run('-c', config, '--json', '--after', '1', `${capture}#3`)).json();
    expect(some.input.before).toBe(1);
    expect(stages(some)).toContain('flow-table hit');
    const alone = (await run('-c', config, '--json', '--alone', `${capture}#3`)).json();
    expect(stages(alone)).toContain('flow-table miss');
    expect(alone.verdict).toMatchObject({ verdict: 'tx', backend: '10.0.0.1' });
  });

  it('takes a frame of a pcapng file', async () => {
    const writer = new PcapngWriter('memory');
    const interfaceId = writer.addInterface({ name: 'x' });
    frames.forEach((data, i) => writer.writePacket({ timestampNs: BigInt(i) * 1_000_000n, interfaceId, data }));
    const file = join(directory, 'x.pcapng');
    writeFileSync(file, writer.bytes());
    const { input, verdict } = (await run('-c', config, '--json', `${file}#2`)).json();
    expect(input).toMatchObject({ file, frame: 2, before: 2 });
    expect(verdict).toMatchObject({ verdict: 'tx', backend: '10.0.0.1' });
  });

  it('tells of the allow list, of sets, and of a SYN that is challenged', async () => {
    const ask = async (words: string): Promise<Explanation> =>
      (await run('-c', config, '--json', ...words.split(' '))).json();
    const allowed = await ask('tcp 192.0.2.77:5 > 198.51.100.1:443');
    expect(stages(allowed)).toContain('allow allowed');
    expect(stages(allowed).some((text) => text.startsWith('rules'))).toBe(false);
    const partner = await ask('tcp 203.0.113.5:5 > 198.51.100.1:443');
    expect(partner.steps.find(({ stage }) => stage === 'allow')).toMatchObject({
      result: 'allowed',
      because: [expect.stringContaining('203.0.113.5 is on the list'), '203.0.113.5 is in partners'],
    });
    const bad = await ask('tcp 203.0.113.9:5 > 198.51.100.1:443');
    expect(bad.verdict).toMatchObject({ verdict: 'drop', reason: 'set' });
    expect(bad.steps.at(-1)).toMatchObject({ stage: 'sets', because: ['203.0.113.9 > 198.51.100.1 is in bad'] });
    const challenged = await ask('tcp 192.0.2.5:5 > 198.51.100.1:443');
    expect(challenged.verdict).toMatchObject({ verdict: 'tx', backend: null });
    expect(challenged.steps.at(-1)).toMatchObject({ stage: 'tcp', result: 'tx: answered with a challenge' });
    expect(challenged.counters).toContainEqual({ name: 'challenges', change: 1 });
    expect(challenged.output?.headers.at(-1)?.text).toContain('443 > 5 [A]');
  });

  it('tells of filter modules, also of one that throws, and of what is opened first', async () => {
    const module = join(directory, 'filter.mjs');
    writeFileSync(
      module,
      `export default { name: 'mine', create: () => (packet) => {
         if (packet.destinationPort === 1) throw new Error('not one');
         return packet.destinationPort === 2 ? 1 : -1;
       } };`,
    );
    const path = join(directory, 'module.yaml');
    const more = 'decapsulate: { addresses: [192.0.2.200], from: [10.9.0.0/16] }';
    writeFileSync(
      path,
      `${YAML.replace('mode: always', 'mode: "off"')}\nfilters: [{ module: ${module} }, rules]\n${more}\n`,
    );
    const ask = async (packet: string): Promise<Explanation> => (await run('-c', path, '--json', packet)).json();
    const thrown = await ask('tcp 192.0.2.5:5 > 198.51.100.1:1');
    expect(thrown.verdict).toMatchObject({ verdict: 'aborted', reason: 'policy_threw', error: 'not one' });
    expect(stages(thrown).at(-1)).toBe('module aborted: it threw');
    const dropped = await ask('tcp 192.0.2.5:5 > 198.51.100.1:2');
    expect(dropped.verdict).toMatchObject({ verdict: 'drop', reason: 'filter' });
    const inner = new PacketBuilder().ipv4({ src: '192.0.2.5', dst: '198.51.100.1' }).tcp({ dport: 443 }).build();
    const tunnelled = (src: string): string => {
      const outer = { src, dst: '192.0.2.200', protocol: 4 };
      return `hex:${Buffer.from(new PacketBuilder().ethernet().ipv4(outer).payload(inner).build()).toString('hex')}`;
    };
    const opened = await ask(tunnelled('10.9.0.1'));
    expect(stages(opened).slice(0, 3)).toEqual(['parse well-formed', 'decapsulate opened', 'parse well-formed']);
    expect(opened.verdict).toMatchObject({ verdict: 'tx', backend: '10.0.0.1' });
    const stranger = await ask(tunnelled('10.8.0.1'));
    expect(stranger.verdict).toMatchObject({ verdict: 'drop', reason: 'decap_source' });
    expect(stages(stranger)).toEqual(['parse well-formed', 'decapsulate drop decap_source']);
  });

  it('prints lines for people', async () => {
    const { out } = await run('-c', config, 'udp 192.0.2.5:123 > 198.51.100.1:443');
    expect(out).toMatch(/^packet +udp 192\.0\.2\.5:123 > 198\.51\.100\.1:443, nothing before it$/m);
    expect(out).toMatch(/^verdict +drop, rule$/m);
    expect(out).toContain('ntp: matched, drop, ends the rules');
  });

  it.each([
    [['-c', config, `${capture}#4`], /has no frame 4: they are 0 to 3 \| Frames count from 0/],
    [['-c', config, `${capture}#x`], /"x" is no frame number \| .*x\.pcap#0 is its first frame/],
    [['-c', config, capture], /x\.pcap: does not say which frame \| .*x\.pcap#0 is its first frame/],
    [['-c', config, `${directory}/none.pcap#0`], /cannot read the capture .*none\.pcap: ENOENT.* \| Check the path/],
    [['-c', config, `${wifi}#0`], /byte 20: link type 105 is not Ethernet.* \| Capture on the Ethernet interface/],
    [
      ['-c', config, `${cut}#0`],
      /cut\.pcap, byte 24: packet 1 says it has 54 bytes.* \| The packets before the damage can be used: --no-strict/,
    ],
    [['-c', config, 'tcp 192.0.2.1:http > 1.2.3.5'], /"http" is no port/],
    [['-c', config, 'tcp [2001:db8::1]:x > 2001:db8::2'], /"x" is no port/],
    [['-c', config, '--after', '4', `${capture}#3`], /--after 4 is beyond frame 3/],
    [['-c', config, '--after', '1', 'tcp 1.2.3.4 > 1.2.3.5'], /--after needs a capture/],
    [['-c', config, '--after', '1', '--alone', `${capture}#3`], /both --alone and --after/],
    [['-c', config, 'hex:0g'], /"g" in hex: is no hexadecimal digit/],
    [['-c', config, 'hex:012'], /3 digits, which are no whole bytes/],
    [['-c', config, 'nonsense'], /is no packet \| Write FILE.pcap#N/],
    [['-c', config, 'foo 1.2.3.4 > 1.2.3.5'], /"foo" is no protocol/],
    [['-c', config, 'tcp 1.2.3.4 1.2.3.5'], /wants SOURCE > DESTINATION/],
    [['-c', config, 'tcp 1.2.3.4:70000 > 1.2.3.5'], /port 70000 is above 65535/],
    [['-c', config, 'tcp 1.2.3 > 1.2.3.5'], /"1.2.3" is no address/],
    [['-c', config, 'tcp 1.2.3.4 > 2001:db8::1'], /of two families/],
    [['-c', config, 'icmp 1.2.3.4:5 > 1.2.3.5'], /icmp has no ports/],
    [['-c', config, 'udp 1.2.3.4 > 1.2.3.5 flags S'], /udp has no flags/],
    [['-c', config, 'tcp 1.2.3.4 > 1.2.3.5 flags X'], /flags "X" are none of/],
    [['-c', config, 'tcp 1.2.3.4 > 1.2.3.5 ttl 256'], /ttl wants a number from 0 to 255/],
    [['-c', config, 'tcp 1.2.3.4 > 1.2.3.5 speed 9'], /"speed" is none of flags, length/],
    [['-c', config, 'tcp 1.2.3.4 > 1.2.3.5 length 39'], /length 39 is less than its headers, 40 bytes/],
    [['-c', config, '-i', 'eth7', 'tcp 1.2.3.4 > 1.2.3.5'], /no interface eth7/],
    [
      ['tcp 1.2.3.4 > 1.2.3.5'],
      /no --config, and there is no control socket .* \| Give the configuration with --config/,
    ],
  ])('refuses %j with the place and the remedy', async (args, message) => {
    const { code, error } = await run(...args);
    expect(code).not.toBe(0);
    expect(error).toMatch(message);
  });
});

describe('a packet in words', () => {
  it.each([
    [
      'tcp 192.0.2.1:1 > 192.0.2.2:2 flags SA length 60',
      { protocol: 6, family: 4, ports: 65538, tcpFlags: 18, l3Length: 60 },
    ],
    ['udp [2001:db8::1]:1 > [2001:db8::2]:2 ttl 3 tos 7', { protocol: 17, family: 6, ports: 65538, ttl: 3, tos: 7 }],
    ['icmp 192.0.2.1 > 192.0.2.2 vlan 9', { protocol: 1, family: 4, ports: 0, vlanTags: 1 }],
    ['icmp6 2001:db8::1 > 2001:db8::2', { protocol: 58, family: 6 }],
    ['47 192.0.2.1 > 192.0.2.2', { protocol: 47, family: 4, l3Length: 20 }],
    ['udp 192.0.2.1 > 192.0.2.2 fragment', { protocol: 17, isFragment: true, l4: 0 }],
    ['tcp 2001:db8::1 > 2001:db8::2 fragment', { protocol: 6, isFragment: true, l4: 0 }],
  ])('%s is well-formed and has what it says', (text, fields) => {
    const packet = place(frameFromWords(text, ''));
    expect(parse(packet)).toBe(DropReason.none);
    for (const [key, value] of Object.entries(fields)) expect(packet[key as 'ttl'], key).toBe(value);
  });

  it('has the checksums of RFC 1071', () => {
    const words = frameFromWords('tcp 192.0.2.1:1 > 198.51.100.2:2 flags S length 41 ttl 9', '');
    const built = new PacketBuilder()
      .ethernet()
      .ipv4({ src: '192.0.2.1', dst: '198.51.100.2', ttl: 9, dontFragment: true })
      .tcp({ sport: 1, dport: 2, flags: 2 })
      .payload(1)
      .build();
    expect(words).toEqual(built);
  });
});

describe('the config of a running daemon', () => {
  it('is that of its file, with its states of backends and its rules', () => {
    const file = parseConfig(YAML);
    const backend = { address: '10.0.0.1', state: 'draining', weight: 1, reason: 'repair' };
    const services = [{ name: 'web', backends: [backend] }] as unknown as Parameters<typeof mergeLive>[1]['services'];
    const same = file.rules.map((rule) => ({ rule: ruleDocument(rule) })) as unknown as Parameters<
      typeof mergeLive
    >[2]['rules'];
    const merged = mergeLive(file, { services }, { rules: same });
    expect([...merged.overrides]).toEqual([['web/10.0.0.1', { state: 'draining', weight: 1, reason: 'repair' }]]);
    expect(merged.live).toEqual(['backend 10.0.0.1 of web: draining, weight 1 (repair)']);
    const added = [
      ...same,
      { rule: { name: 'new', match: { protocol: 'tcp', dport: 80 }, action: 'drop' } },
    ] as typeof same;
    const changed = mergeLive(file, { services }, { rules: added });
    expect(changed.config.rules.map(({ name }) => name)).toEqual(['ntp', 'new']);
    expect(changed.live.at(-1)).toBe('rules (2), not those of the file: ntp, new');
  });

  it('has the entries that its sets have now', () => {
    const entry = { text: '198.18.0.0/15', timeout: null, nomatch: false, counters: null, comment: null };
    const options = { type: 'hash:net', family: 'both', maxelem: 9, timeout: null, origin: 'config' } as const;
    const made = { ...options, name: 'made', timeout: 0, origin: 'runtime' } as const;
    const merged = mergeLive(parseConfig(YAML), { services: [] }, { rules: [] }, [
      { set: { ...options, name: 'bad' }, entries: [{ ...entry, nomatch: true }] },
      { set: made, entries: [{ ...entry, timeout: 30 }] },
    ]);
    expect(merged.config.sets).toMatchObject([
      { name: 'bad', drop: 'src', maxelem: 9, source: { kind: 'entries', entries: ['198.18.0.0/15 nomatch'] } },
      { name: 'partners', source: { entries: ['203.0.113.5'] } },
      { name: 'made', drop: null, source: { entries: ['198.18.0.0/15 timeout 30'] } },
    ]);
    expect(merged.live).toContain('set bad: 1 entries, as it has them now');
  });

  it('is asked for over the control socket when no --config is given', async () => {
    const rules = `\n  - {name: live, match: {protocol: udp, sport: 123}, action: drop}`;
    const daemon = new FakeRuleDaemon(rules);
    const socket = join(directory, 'run', 'control.sock');
    const target: ControlTarget = {
      version: () => ({ version: '0.1.0', protocol: 1, node: process.version, pid: process.pid }),
      status: () => ({ ...buildStatus(fakeView()), configPath: config, services: [] }),
      reload: () => Promise.reject(new Error('not here')),
      setBackend: () => Promise.reject(new Error('not here')),
      rules: daemon.control,
      sets: new FakeSetDaemon(parseConfig(YAML)).control,
    };
    const server = await ControlServer.listen(socket, target, daemon.log);
    try {
      const { json, error } = await run('--socket', socket, '--json', 'udp 192.0.2.5:123 > 198.51.100.1:443');
      expect(error).toBe('');
      const { live, path } = json().config;
      expect(path).toBe(config);
      expect(live).toContain('rules (1), not those of the file: live');
      expect(json().counters).toContainEqual({ name: 'rule live packets', change: 1 });
    } finally {
      daemon.control.close();
      await server.close();
    }
  });
});
