/** The library's declarations, as somebody else's project sees them. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { installConsumer, type Consumer } from '../types/consumer_program.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const IS_ANY = 'type IsAny<T> = 0 extends 1 & T ? true : false;\n';

/** Declarations are made once for all tests of the library. */
let shared: Consumer | undefined;
const library = (): Consumer => (shared ??= installConsumer(root, join(root, 'src/index.ts')));
afterAll(() => shared?.dispose());

describe('the library, for a consumer with strict, isolatedModules and no skipLibCheck', { timeout: 90_000 }, () => {
  const entry = join(root, 'src/index.ts');
  let consumer: Consumer;

  beforeAll(() => {
    expect(existsSync(entry), 'src/index.ts is the library').toBe(true);
    consumer = library();
  }, 90_000);

  it('has declarations without errors, and no export of type any', () => {
    expect(consumer.values.length).toBeGreaterThan(0);
    const checks = consumer.values.map((name, i) => `export const check${i}: IsAny<typeof sluice.${name}> = false;\n`);
    expect(consumer.compile(`import * as sluice from 'sluice';\n${IS_ANY}${checks.join('')}`)).toEqual([]);
  });

  it('opens a port with its documented options, and gives something with a type', () => {
    expect(consumer.exports).toContain('openPort');
    const source = `import * as sluice from 'sluice';\n${IS_ANY}
      type Options = Parameters<typeof sluice.openPort>[0];
      export const open = (options: Options) => sluice.openPort(options);
      export const typed: IsAny<ReturnType<typeof sluice.openPort>> = false;
      export const optionsTyped: IsAny<Options> = false;
    `;
    expect(consumer.compile(source)).toEqual([]);
  });

  it('gives verdicts that a consumer can write', () => {
    expect(consumer.values).toContain('Verdict');
    expect(
      consumer.compile(
        "import { Verdict } from 'sluice';\nexport const verdicts: number[] = [Verdict.Drop, Verdict.Tx, Verdict.Pass];\n",
      ),
    ).toEqual([]);
  });
});

describe('a consumer of the library', { timeout: 90_000 }, () => {
  let consumer: Consumer;
  beforeAll(() => void (consumer = library()), 90_000);

  const programs = readdirSync(join(root, 'examples')).filter((name) => name.endsWith('.ts'));

  it('may write all of examples/', () => {
    expect(programs.length).toBeGreaterThan(5);
    expect(consumer.compile(...programs.map((name) => readFileSync(join(root, 'examples', name), 'utf8')))).toEqual([]);
  });

  it('may write every block of docs/library.md', () => {
    const text = readFileSync(join(root, 'docs/library.md'), 'utf8');
    const blocks = [...text.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, block]) => block);
    expect(blocks.length).toBeGreaterThan(10);
    expect(consumer.compile(...blocks)).toEqual([]);
  });

  it('uses every part of a port and of a packet', () => {
    const source = `
      import { attach, openPort, turnAround, repairChecksum, isKernelError, SluiceError, DropReason, DROP_REASONS, PacketFlag } from 'sluice';
      import { EtherType, IpProtocol, TcpFlag, Verdict } from 'sluice';
      import type { Attachment, AttachmentHandle, FrameCounts, OpenPortOptions, Packet, PacketPort, Policy, PortTotals, QueueInfo } from 'sluice';

      const options: OpenPortOptions = {
        interface: ['a', 'b'], queues: [0, 1], mode: 'auto', destinations: ['198.51.100.0/24'], hostPath: false, fallback: 'drop',
        checksum: 'repair', frames: 4096, frameSize: 4096, hugepages: true, ring: 1024, burst: 32,
        onAbort: (error: unknown, packet: Packet) => console.log(error, packet.length),
      };
      const policy: Policy = (packet) => {
        if (packet.malformed !== DropReason.none) return Verdict.Drop;
        if (packet.etherType !== EtherType.ipv4 || packet.flags & PacketFlag.fragment) return Verdict.Pass;
        if (packet.protocol === IpProtocol.tcp && packet.tcpFlags & TcpFlag.syn) return Verdict.Aborted;
        const moved: boolean = packet.adjustHead(-20) && packet.adjustTail(4) && packet.adjustMeta(-8);
        packet.view.setUint8(packet.data, packet.dataEnd - packet.dataMeta);
        packet.target = moved ? 1 - packet.port : packet.port;
        return turnAround(packet) && repairChecksum(packet) ? Verdict.Tx : Verdict.Redirect;
      };
      export async function main(signal: AbortSignal): Promise<PortTotals> {
        const nic: Attachment = await attach({ interface: 'eth0', mode: 'generic' });
        const handle: AttachmentHandle = nic.handle;
        const port: PacketPort = await openPort({ ...options, interface: ['eth1', handle] });
        try {
          const packets: number = port.poll(policy) + port.poll(policy, 100);
          await port.run(policy, { signal });
          const queues: readonly QueueInfo[] = port.queues;
          const frames: FrameCounts = port.frames();
          const missed: number[] = port.kernelStatistics().map((one) => one.rxRingFull);
          console.log(packets, queues, frames, missed, port.nowMs, port.closed, DROP_REASONS[DropReason.ipv4Truncated]);
        } catch (error) {
          if (isKernelError(error)) console.log(error.syscall, error.remedy);
          if (error instanceof SluiceError) console.log(error.code === 'SLUICE_DEVICE', error.remedy);
        } finally {
          port[Symbol.dispose]();
          nic.close();
        }
        return port.totals();
      }
    `;
    expect(consumer.compile(source)).toEqual([]);
  });

  const mistakes: [what: string, expression: string, code: string][] = [
    ['a misspelt option', "openPort({ interface: 'a', queue: 0 })", 'TS2561'],
    ['no interface', 'openPort({ queues: [0] })', 'TS2345'],
    ['a port made by hand', 'new PacketPort()', 'TS1361'],
    ['a policy without a verdict', "openPort({ interface: 'a' }).then((port) => port.poll(() => undefined))", 'TS2322'],
    [
      'a policy that takes its time',
      "openPort({ interface: 'a' }).then((port) => port.poll(async () => Verdict.Drop))",
      'TS2322',
    ],
    ['a verdict for a filter', "defineFilter({ name: 'f', create: () => () => Verdict.Redirect })", 'TS2322'],
    ['a filter without a name', 'defineFilter({ create: () => () => FilterVerdict.Drop })', 'TS2345'],
    [
      'options of a filter without a look',
      "defineFilter({ name: 'f', create: ({ options }) => options.limit })",
      'TS18046',
    ],
  ];

  it('is told of each mistake', () => {
    const sources = mistakes.map(
      ([, expression]) =>
        `import { defineFilter, FilterVerdict, openPort, Verdict } from 'sluice';\nimport type { PacketPort } from 'sluice';
         export const used = [defineFilter, FilterVerdict, openPort, Verdict];\nexport const wrong = ${expression};\n`,
    );
    const messages = consumer.compile(...sources);
    mistakes.forEach(([what, , code], i) => {
      const own = messages.filter((text) => text.includes(`consumer${i}.ts`)).join('\n');
      expect(own, what).toContain(code);
    });
  });
});

describe('the consumer program itself', { timeout: 90_000 }, () => {
  let directory: string;
  let consumer: Consumer;

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-types-sample-'));
    const source =
      'export const enum Bad { x = 1 }\nexport enum Good { x = 1 }\nexport interface Shape { a: number }\nexport const loose: any = 1;\n';
    writeFileSync(join(directory, 'index.ts'), source);
    writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
    consumer = installConsumer(root, join(directory, 'index.ts'));
  }, 90_000);
  afterAll(() => {
    consumer?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  it('sees exports, and which of them are values', () => {
    expect(consumer.exports).toEqual(['Bad', 'Good', 'Shape', 'loose']);
    expect(consumer.values).toEqual(['Bad', 'Good', 'loose']);
  });

  it('accepts what is right and refuses a const enum, a wrong type and an any', () => {
    expect(
      consumer.compile("import { Good, type Shape } from 'sluice';\nexport const s: Shape = { a: Good.x };\n"),
    ).toEqual([]);
    expect(consumer.compile("import { Bad } from 'sluice';\nexport const b: number = Bad.x;\n").join()).toContain(
      'TS2748',
    );
    expect(
      consumer.compile("import type { Shape } from 'sluice';\nexport const s: Shape = { a: '1' };\n").join(),
    ).toContain('TS2322');
    expect(
      consumer
        .compile(`import * as s from 'sluice';\n${IS_ANY}export const c: IsAny<typeof s.loose> = false;\n`)
        .join(),
    ).toContain('TS2322');
  });
});
