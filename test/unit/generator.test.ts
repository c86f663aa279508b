/** `sluice gen`: what its arguments mean, and what its templates are before a flow is put in. */
import { describe, expect, it } from 'vitest';
import { genCommand } from '../../src/cli/commands/gen.js';
import { readLoad, type GenOptions, type LoadPlan } from '../../src/cli/commands/gen_options.js';
import type { SluiceError } from '../../src/errors.js';
import { frameTemplate, headerBytes } from '../../src/generator/frame.js';
import { checkLoad, sourceAddresses, TEMPLATES, type Load } from '../../src/generator/load.js';
import { parsePrefix } from '../../src/shared/addr.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';
import { internetChecksum } from '../support/packet_builder.js';

const DEFAULTS = { sport: '1024', template: 'udp', flows: '1', size: '64', engine: 'live' };
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

function read(options: Partial<GenOptions>): LoadPlan {
  return readLoad({ ...DEFAULTS, interface: 'g0', dst: '198.51.100.10', duration: '1s', ...options });
}

/** "message | remedy" of what it throws. */
function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    const { code, message, remedy } = error as SluiceError;
    expect(code).toMatch(/^SLUICE_(USAGE|FORMAT)$/);
    return `${message} | ${remedy}`;
  }
  throw new Error('it was taken');
}

function load(options: Partial<GenOptions>): Load {
  return { ...read(options), sourceMac: MAC, destinationMac: MAC };
}

describe('arguments', () => {
  it('have defaults that are for measurements, by family and template', () => {
    expect(read({})).toMatchObject({
      template: 'udp',
      source: { text: '198.18.0.0', length: 15 },
      destinationPort: 9,
      flows: 1,
      pick: 'cycle',
      sizes: [{ bytes: 64, weight: 1 }],
      packetsPerSecond: 0,
      packets: 0,
      durationMs: 1000,
      cpu: null,
      destinationMac: null,
    });
    expect(read({ dst: '2001:db8::1', template: 'tcp-syn' })).toMatchObject({
      source: { text: '2001:2::', length: 48 },
      destinationPort: 80,
      sizes: [{ bytes: 78, weight: 1 }],
    });
  });

  it('take numbers with units', () => {
    expect(read({ rate: '1.5M', count: '10k', flows: '2k' })).toMatchObject({
      packetsPerSecond: 1_500_000,
      packets: 10_000,
      flows: 2000,
    });
    const times = ['500ms', '10', '10s', '1.5m'].map((duration) => read({ duration }).durationMs);
    expect(times).toEqual([500, 10_000, 10_000, 90_000]);
  });

  it('bound the time of a count by its rate', () => {
    expect(read({ duration: undefined, count: '1k', rate: '100' }).durationMs).toBe(22_000);
    expect(read({ duration: undefined, count: '1k' }).durationMs).toBe(3_600_000);
    expect(read({ duration: '5s', count: '1k', rate: '100' }).durationMs).toBe(5000);
  });

  it.each<[Partial<GenOptions>, RegExp]>([
    [{ duration: undefined }, /not said when to stop \| Give --duration \(10s\), --count/],
    [{ interface: undefined }, /no interface to send by \| Give --interface/],
    [{ dst: undefined }, /no destination \| Give --dst/],
    [{ dst: 'example.com' }, /"example.com" is not an IP address/],
    [{ template: 'sctp' }, /no template "sctp" \| There are udp, tcp-syn/],
    [{ rate: '0' }, /--rate "0" is not understood \| It takes a whole number from 1/],
    [{ rate: '1e6' }, /--rate "1e6"/],
    [{ count: '1.5' }, /--count "1.5"/],
    [{ count: '-1' }, /--count "-1"/],
    [{ duration: '2h' }, /--duration "2h" is not understood \| It takes up to an hour/],
    [{ duration: '61m' }, /--duration "61m"/],
    [{ duration: '0' }, /--duration "0"/],
    [{ dport: '65536' }, /--dport "65536"/],
    [{ flows: '0' }, /--flows "0"/],
    [{ cpu: '4096' }, /--cpu "4096"/],
    [{ size: '41' }, /"41" is no size .*\| Give --size bytes from 42 .* to 3000, or imix/],
    [{ size: '3001' }, /"3001" is no size/],
    [{ size: 'IMIX' }, /"IMIX" is no size/],
    [{ outerSrc: '192.0.2.1' }, /needs both outer addresses/],
    [{ src: '198.18.0.1/15' }, /has bits set beyond its length/],
    [{ dstMac: '02:00' }, /is not a hardware address/],
  ])('refuse %j, with what to do', (options, said) => {
    expect(refusal(() => read(options))).toMatch(said);
  });

  it.each<[Partial<GenOptions>, RegExp]>([
    [{ src: '2001:db8::/64' }, /of two families \| Give --src a prefix of the family of --dst/],
    [{ outerSrc: '192.0.2.1', outerDst: '2001:db8::1' }, /outer source 192.0.2.1 .* of two families/],
    [{ src: '198.18.0.0/31', sport: '65534', flows: '5' }, /5 flows are more than the 4 that 198.18.0.0\/31 has/],
  ])('refuse the load of %j', (options, said) => {
    expect(refusal(() => checkLoad(load(options)))).toMatch(said);
    expect(() => checkLoad(load({ src: '198.18.0.0/31', sport: '65534', flows: '4' }))).not.toThrow();
  });

  it('end with the exit code of usage when there is no end to the load, and nothing is begun', async () => {
    const engine = () => {
      throw new Error('begun');
    };
    const ran = await runCommand(genCommand(new FakeEnv(), engine), ['-i', 'lo', '--dst', '127.0.0.1']);
    expect(ran).toMatchObject({ code: 2, error: { message: 'it is not said when to stop' } });
  });
});

describe('sizes', () => {
  it('are a mix of three, none smaller than its headers', () => {
    const small = [64, 590, 1514];
    expect(read({ size: 'imix' }).sizes.map(({ bytes }) => bytes)).toEqual(small);
    expect(read({ size: 'imix' }).sizes.map(({ weight }) => weight)).toEqual([7, 4, 1]);
    const tunnelled = read({ size: 'imix', dst: '2001:db8::1', outerSrc: '2001:db8::2', outerDst: '2001:db8::3' });
    expect(tunnelled.sizes.map(({ bytes }) => bytes)).toEqual([102, 590, 1514]);
    expect(read({ size: '1514' }).sizes).toEqual([{ bytes: 1514, weight: 1 }]);
  });
});

describe('flows', () => {
  it('take addresses first, as many as the prefix has', () => {
    const addresses = (prefix: string, flows: number): number =>
      sourceAddresses({ source: parsePrefix(prefix), flows });
    expect(addresses('198.18.0.0/15', 10)).toBe(10);
    expect(addresses('198.18.0.0/30', 10)).toBe(4);
    expect(addresses('198.18.0.7', 10)).toBe(1);
    expect(addresses('2001:db8::/32', 2 ** 31)).toBe(2 ** 31);
    expect(addresses('2001:db8::/126', 10)).toBe(4);
  });
});

describe('templates', () => {
  const shapes = TEMPLATES.flatMap((template) =>
    ['198.51.100.10', '2001:db8::10'].map((dst) => ({ template, dst, size: '151' })),
  );

  it.each(shapes)('with the sums of $template to $dst have right checksums for any flow', (options) => {
    const frame = frameTemplate(load(options), 151);
    const v6 = options.dst.includes(':');
    expect(frame.headerBytes).toBe(headerBytes(load(options)));
    for (const [address, port] of [
      [0, 0],
      [0xc6120001 | 0, 1024],
      [-1, 65535],
      [0x0000ffff, 0xfffe],
    ]) {
      const bytes = frame.bytes.slice();
      const view = new DataView(bytes.buffer);
      view.setInt32(frame.addressAt, address);
      view.setUint16(frame.portAt, port);
      for (const each of frame.checksums) {
        const halves = (address >>> 16) + (address & 0xffff);
        const sum = each.sum + (each.address ? halves : 0) + (each.port ? port : 0);
        // Twice: what the program does.
        const folded = (sum & 0xffff) + (sum >>> 16);
        view.setUint16(each.at, ~((folded & 0xffff) + (folded >>> 16)) & 0xffff);
      }
      if (!v6) expect(internetChecksum(bytes.subarray(14, 34))).toBe(0);
      const l4 = v6 ? 54 : 34;
      const pseudo = options.template === 'icmp' && !v6 ? [] : [...bytes.subarray(v6 ? 22 : 26, l4)];
      const protocol = bytes[v6 ? 20 : 23];
      const rest = pseudo.length > 0 ? [0, protocol, 0, bytes.length - l4] : [];
      expect(internetChecksum(Uint8Array.from([...pseudo, ...rest, ...bytes.subarray(l4)]))).toBe(0);
    }
  });

  it('have no room for less than their headers', () => {
    const said = refusal(() => frameTemplate(load({ template: 'tcp-syn' }), 57));
    expect(said).toMatch(/57 bytes has no room for its 58 bytes of headers \| Ask for a larger --size/);
  });
});
