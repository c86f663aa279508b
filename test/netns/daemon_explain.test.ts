/** `sluice explain` of a running daemon: it knows what was changed since the file was read, and says what the daemon then does to the packet. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import type { Explanation, RuleStep, Step } from '../../src/control/explain/document.js';
import { compiledProgram } from '../../src/playground/process.js';
import { sendFrames } from '../support/capture_wire.js';
import { classicFile } from '../support/capture_bytes.js';
import { BACKEND, CLIENT, daemonConfig, TestDaemon, UDP_PORT, VIP, Wire } from '../support/daemon.js';
import { PacketBuilder } from '../support/packet_builder.js';

const GOOD = `udp ${CLIENT}:1000 > ${VIP}:${UDP_PORT}`;
const NTP = `udp ${CLIENT}:123 > ${VIP}:${UDP_PORT}`;

const RULES = [
  { name: 'no-ntp', match: { protocol: 'udp', sport: 123 }, action: 'drop' },
  { name: 'listed', match: { set: 'listed' }, action: 'drop' },
];
const SETS = [
  { name: 'blocked', type: 'hash:net', entries: ['203.0.113.0/24'], drop: 'src' },
  { name: 'listed', type: 'hash:ip', timeout: 0 },
];

let wire: Wire;
let daemon: TestDaemon;
afterEach(() => wire.playground.close());

async function start(): Promise<void> {
  wire = new Wire({ backend: true });
  const parts = { rules: RULES, sets: SETS, filters: ['sanity', 'rules'] };
  daemon = await TestDaemon.start(wire, daemonConfig(wire, parts));
}

/** An operator's command that has to work. */
function sluice(...args: string[]): string {
  const { code, stdout, stderr } = daemon.cli(...args);
  expect([code, stderr]).toEqual([0, '']);
  return stdout;
}

const explained = (...args: string[]): Explanation => JSON.parse(sluice('explain', '--json', ...args)) as Explanation;
const step = ({ steps }: Explanation, stage: Step['stage']): Step | undefined =>
  steps.find((one) => one.stage === stage);
const matched = (explanation: Explanation): string[] =>
  ((step(explanation, 'rules')?.detail.rules ?? []) as RuleStep[])
    .filter(({ result }) => result === 'matched')
    .map(({ name, mode }) => `${name} ${mode}`);

/** Sends the packet that the explanation is about, and says what became of it. */
async function sent({ frame }: Explanation): Promise<Record<string, number>> {
  const before = await daemon.status();
  const bytes = Buffer.from(frame.hex, 'hex');
  // To the node, whatever the words made up.
  bytes.set([0x02, 0, 0, 0, 0x90, 0x02]);
  await sendFrames(wire.client, 'eth0', [bytes]);
  const after = await daemon.until(({ totals }) => totals.rx > before.totals.rx, 'it is counted', 5000);
  const { drop, pass, redirect } = after.totals;
  const reasons = Object.entries(after.drops).map(([reason, count]) => [reason, count - (before.drops[reason] ?? 0)] as const); // prettier-ignore
  return Object.fromEntries(
    [
      ['drop', drop - before.totals.drop] as const,
      ['pass', pass - before.totals.pass] as const,
      ['redirect', redirect - before.totals.redirect] as const,
      ...reasons,
    ].filter(([, count]) => count > 0),
  );
}

it('knows rules, sets and backends as they are now, and agrees with what the daemon does', async () => {
  await start();
  const asFile = explained(GOOD);
  expect(asFile.config).toEqual({ path: daemon.configPath, live: ['set listed: 0 entries, as it has them now'] });
  expect(asFile.verdict).toMatchObject({ service: 'udp', backend: BACKEND });
  expect(await sent(asFile)).toEqual({ redirect: 1 });
  const ntp = explained(NTP);
  expect([ntp.verdict.reason, matched(ntp)]).toEqual(['rule', ['no-ntp enforce']]);
  expect(await sent(ntp)).toEqual({ drop: 1, rule: 1 });

  // Rules: one more, one that only counts now.
  sluice('rules', 'add', 'thousand', '--sport', '1000', '--action', 'drop', '--first');
  sluice('rules', 'shadow', 'no-ntp');
  const thousand = explained(GOOD);
  expect([thousand.verdict.reason, matched(thousand)]).toEqual(['rule', ['thousand enforce']]);
  expect(thousand.config.live).toContain('rules (3), not those of the file: thousand, no-ntp, listed');
  expect(await sent(thousand)).toEqual({ drop: 1, rule: 1 });
  const shadow = explained(NTP);
  expect([shadow.verdict.backend, matched(shadow)]).toEqual([BACKEND, ['no-ntp shadow']]);
  expect(await sent(shadow)).toEqual({ redirect: 1 });
  expect(sluice('explain', GOOD)).toMatch(
    /^ +at run time: rules \(3\), not those of the file: thousand, no-ntp, listed$/m,
  );
  sluice('rules', 'reset');
  expect(explained(GOOD).verdict.backend).toBe(BACKEND);

  // Sets: in the stage, in a rule, an entry that ends by itself.
  sluice('set', 'add', 'blocked', '10.90.0.0/30');
  const blocked = explained(GOOD);
  expect(blocked.config.live).toContain('set blocked: 2 entries, as it has them now');
  expect([blocked.verdict.reason, step(blocked, 'sets')?.because]).toEqual([
    'set',
    [`${CLIENT} > ${VIP} is in blocked`],
  ]);
  expect(await sent(blocked)).toEqual({ drop: 1, set: 1 });
  sluice('set', 'del', 'blocked', '10.90.0.0/30');
  sluice('set', 'add', 'listed', CLIENT, '--timeout', '2');
  const listed = explained(GOOD);
  expect([listed.verdict.reason, matched(listed)]).toEqual(['rule', ['listed enforce']]);
  expect(await sent(listed)).toEqual({ drop: 1, rule: 1 });
  await expect.poll(() => explained(GOOD).verdict.backend).toBe(BACKEND);
  expect(await sent(explained(GOOD))).toEqual({ redirect: 1 });

  // The only backend of the service drains: nobody is there for new flows.
  sluice('backend', 'drain', 'udp', BACKEND, '--reason', 'repair');
  const drained = explained(`udp ${CLIENT}:2000 > ${VIP}:${UDP_PORT}`);
  expect(drained.verdict).toMatchObject({ verdict: 'drop', reason: 'no_backend', service: 'udp' });
  expect(drained.config.live).toContain(`backend ${BACKEND} of udp: draining, weight 1 (repair)`);
  expect(step(drained, 'ring')?.result).toBe('empty');
  expect(await sent(drained)).toEqual({ drop: 1, no_backend: 1 });
  // The file by itself knows nothing of it.
  expect(explained('-c', daemon.configPath, `udp ${CLIENT}:2000 > ${VIP}:${UDP_PORT}`).verdict.backend).toBe(BACKEND);
});

it('takes frames of captures of either kind, and refuses in words, with exit codes', async () => {
  await start();
  const frame = (sport: number): Uint8Array =>
    new PacketBuilder().ethernet().ipv4({ src: CLIENT, dst: VIP }).udp({ sport, dport: UDP_PORT }).payload(10).build();
  const [pcap, wifi, cut] = ['a.pcap', 'wifi.pcap', 'cut.pcap'].map((name) => wire.playground.path(name));
  const packets = [123, 1000].map((sport, i) => ({ seconds: i, fraction: 0, data: frame(sport) }));
  const options = { little: true, nanoseconds: false };
  writeFileSync(pcap, classicFile(options, packets));
  writeFileSync(wifi, classicFile({ ...options, linkType: 105 }, packets));
  writeFileSync(cut, readFileSync(pcap).subarray(0, 60));
  expect(explained(`${pcap}#0`).verdict).toMatchObject({ verdict: 'drop', reason: 'rule' });

  // What a capture of the daemon wrote is what it explains.
  const pcapng = wire.playground.path('b.pcapng');
  const capturing = wire.playground.start(wire.node, process.execPath, [
    compiledProgram('cli/main'),
    ...['capture', '--socket', daemon.socket, '--point', 'both', '-c', '3', '-w', pcapng],
  ]);
  await expect.poll(() => daemon.logged('capture begins').length).toBe(1);
  for (const sport of [123, 1000]) {
    const bytes = Buffer.from(frame(sport));
    bytes.set([0x02, 0, 0, 0, 0x90, 0x02]);
    await sendFrames(wire.client, 'eth0', [bytes]);
  }
  expect((await capturing.ended).code).toBe(0);
  expect(explained(`${pcapng}#0`).verdict).toMatchObject({ verdict: 'drop', reason: 'rule' });
  const second = explained('--alone', `${pcapng}#1`);
  expect(second.verdict.backend).toBe(BACKEND);
  expect(second.input).toMatchObject({ file: pcapng, frame: 1, before: 0 });

  for (const [args, code, message] of [
    [[`${pcap}#2`], 2, /a\.pcap has no frame 2: they are 0 to 1\n {2}Frames count from 0/],
    [[`${pcap}#two`], 2, /"two" is no frame number\n {2}\S+a\.pcap#0 is its first frame/],
    [[pcap], 2, /does not say which frame\n/],
    [[`${pcap}x#0`], 2, /cannot read the capture \S+a\.pcapx: ENOENT/],
    [
      [`${wifi}#0`],
      1,
      /wifi\.pcap, byte 20: link type 105 is not Ethernet \(1\)\n {2}Capture on the Ethernet interface/,
    ],
    [[`${cut}#0`], 1, /cut\.pcap, byte 24: packet 1 says it has \d+ bytes/],
    [['tcp 10.0.0.1:http > 10.0.0.2:80'], 2, /"http" is no port\n/],
    [['tcp 10.0.0.1 > 2001:db8::1'], 2, /of two families\n/],
    [['gopher 10.0.0.1 > 10.0.0.2'], 2, /"gopher" is no protocol\n/],
    [['-c', '/nowhere.yaml', GOOD], 78, /nowhere\.yaml/],
  ] as const) {
    const result = daemon.cli('explain', ...args);
    expect([args, result.code, result.stdout]).toEqual([args, code, '']);
    expect(result.stderr).toMatch(message);
  }
  await daemon.stop();
  const gone = daemon.cli('explain', GOOD);
  expect(gone.code).not.toBe(0);
  expect(gone.stderr).toMatch(/no --config, and .*\n {2}Give the configuration with --config/);
});
