/** A daemon that may not make functions of text: it filters right, and says that it interprets. */
import { afterEach, expect, it } from 'vitest';
import { daemonConfig, interfaceOf, lost, metric, TestDaemon, Wire, type ConfigDocument } from '../support/daemon.js';

const NODE_OPTIONS = ['--disallow-code-generation-from-strings'];
/** Nobody serves these ports of the VIP. */
const [BAD_PORT, OTHER_PORT] = [7777, 7778];

const RULES = [
  { name: 'seen', match: `udp dst portrange ${BAD_PORT}-${OTHER_PORT}`, action: 'count' },
  // protochain compiles to a loop, which is interpreted in either mode.
  { name: 'looping', match: 'ip protochain 17 and greater 5000', action: 'drop' },
  { name: 'named', match: { dns: '*.example.com' }, action: 'drop' },
  { name: 'signed', match: { p0f: '4:64:0:*:*,*:mss:df:0' }, action: 'drop' },
  // IPv4 with a UDP destination port of 7777, from the IP header on.
  {
    name: 'bad',
    match: { bytecode: `6,48 0 0 9,21 0 3 17,40 0 0 22,21 0 1 ${BAD_PORT},6 0 0 1,6 0 0 0` },
    action: 'drop',
  },
];
const LIMIT = { name: 'others', match: `udp dst port ${OTHER_PORT}`, rate: '1/s', burst: 3 };

let wire: Wire;
afterEach(() => wire.playground.close());

function start(nodeOptions: string[], parts: ConfigDocument): Promise<TestDaemon> {
  return TestDaemon.start(wire, daemonConfig(wire, { offload: 'off', rules: RULES, ...parts }), { nodeOptions });
}

it.each([
  { nodeOptions: NODE_OPTIONS, js: 0, interpreter: 6, codeGeneration: false },
  { nodeOptions: [], js: 5, interpreter: 1, codeGeneration: true },
])('filters the same, and counts what runs its programs: $nodeOptions', async ({ nodeOptions, ...expected }) => {
  wire = new Wire({ backend: true });
  const receiver = await wire.receive();
  const daemon = await start(nodeOptions, { mitigation: { limits: [LIMIT] } });
  const good = await wire.send({ ratePerSecond: 1000 });
  const bad = await wire.send({ port: BAD_PORT, packets: 500, flows: 4 });
  expect(await bad.sent()).toBe(500);
  const other = await wire.send({ port: OTHER_PORT, packets: 100, flows: 1, ratePerSecond: 10_000 });
  expect(await other.sent()).toBe(100);

  const counts = async (): Promise<number[]> => {
    const { rules, mitigation } = await daemon.status();
    return [...rules.map(({ packets }) => packets), mitigation.limits[0].packets];
  };
  await expect.poll(counts).toEqual([600, 0, 0, 0, 500, 100]);
  const { drops, mitigation } = await daemon.status();
  expect(drops.rule).toBe(500);
  expect(drops.limited).toBeGreaterThanOrEqual(95);
  const { js, interpreter, codeGeneration } = expected;
  expect(mitigation).toMatchObject({ programs: { js, interpreter }, codeGeneration });
  const { body } = daemon.metrics();
  expect(metric(body, 'sluice_programs{engine="js",queue="0"}')).toBe(js);
  expect(metric(body, 'sluice_programs{engine="interpreter",queue="0"}')).toBe(interpreter);
  const page = daemon.cli('status');
  const line = codeGeneration
    ? '1 match program interpreted, 5 as JavaScript\n'
    : '6 match programs interpreted, 0 as JavaScript: no code generation\n';
  expect([page.code, page.stdout]).toEqual([0, expect.stringContaining(line)]);

  // What is added while it runs takes the same way.
  const added = daemon.cli('rules', 'add', 'more', '--expr', 'udp dst port 7779', '--action', 'drop', '--first');
  expect([added.code, added.stderr]).toEqual([0, '']);
  const more = await wire.send({ port: 7779, packets: 200 });
  expect(await more.sent()).toBe(200);
  await expect.poll(async () => (await daemon.status()).drops.rule).toBe(700);
  const { programs } = (await daemon.status()).mitigation;
  expect(programs).toEqual(codeGeneration ? { js: js + 1, interpreter } : { js, interpreter: interpreter + 1 });

  const sent = await good.stop();
  await expect.poll(async () => (await receiver.stats()).received).toBe(sent);
  const status = await daemon.status();
  expect([status.totals.redirect, status.violations, lost(status)]).toEqual([sent, [], 0]);
  expect(interfaceOf(status).up).toBe(true);
  expect(daemon.log.filter(({ level }) => level === 'error')).toEqual([]);
  expect((await daemon.stop()).code).toBe(0);
});

it('captures by an expression', async () => {
  wire = new Wire({ backend: true });
  const daemon = await start(NODE_OPTIONS, {});
  const sender = await wire.send({ port: BAD_PORT, ratePerSecond: 200 });
  const args = ['capture', '--expr', `udp dst port ${BAD_PORT}`, '--count', '20', '--duration', '10'];
  const { code, stdout, stderr } = daemon.cli(...args);
  expect([code, stdout.match(/\.7777: /g)?.length], stderr).toEqual([0, 20]);
  expect(await sender.stop()).toBeGreaterThan(19);
  await daemon.stop();
});
