/** BpfObject and BpfMap: libbpf's life cycle, and what is said when it goes wrong. */
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { KernelError } from '../../src/errors.js';
import { bpfObjectPath, native, type BpfMap, type BpfObject } from '../../src/native.js';
import { sumPerCpu } from '../../src/control/bpf_layout.js';
import { Redirect } from '../support/bpf.js';
import { AddonChild, compileBpf } from '../support/bpf_child.js';

const FRAME = new Uint8Array(64);

const SETTINGS = `
const volatile unsigned char small = 1;
const volatile short middle = -2;
const volatile unsigned int big = 3;
const volatile long long huge = -4;
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, int); __type(value, long long); } out SEC(".maps");
static void put(int key, long long value) { bpf_map_update_elem(&out, &key, &value, 0); }
SEC("xdp") int copy(struct xdp_md *ctx) { put(0, small); put(1, middle); put(2, big); put(3, huge); return XDP_PASS; }`;

const MAPS = `
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 3); __type(key, int); __type(value, long long); } table SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_HASH); __uint(max_entries, 2); __type(key, int); __type(value, int); } percpu SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, int); __type(value, int); } array SEC(".maps");
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }`;

const BROKEN = `
SEC("xdp") int fine(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp") int reads_beyond(struct xdp_md *ctx) { return *((char *)(long)ctx->data + 20); }`;

function open(path: string): BpfObject {
  return new (native().BpfObject)(path);
}

function failure(action: () => unknown): KernelError & { verifierLog?: string; program?: string } {
  try {
    action();
  } catch (error) {
    return error as KernelError;
  }
  throw new Error('it did not throw');
}

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const i64 = (value: Uint8Array | null): bigint => new DataView(value!.slice().buffer).getBigInt64(0, true);
const openFds = (): number => readdirSync('/proc/self/fd').length;

describe('setRodata', () => {
  const values = (settings: Record<string, number>): bigint[] => {
    const object = open(compileBpf('settings', SETTINGS));
    object.setRodata(settings);
    object.load();
    object.testRun('copy', { data: FRAME });
    const out = [0, 1, 2, 3].map((key) => i64(object.map('out').lookup(u32(key))));
    object.close();
    return out;
  };

  it('leaves the defaults of the source alone', () => {
    expect(values({})).toEqual([1n, -2n, 3n, -4n]);
  });

  it('writes integers of 1, 2, 4 and 8 bytes, signed and unsigned, to their limits', () => {
    expect(values({ small: 255, middle: -32768, big: 0xffffffff, huge: -(2 ** 53) })).toEqual([
      255n,
      -32768n,
      4294967295n,
      -(2n ** 53n),
    ]);
    expect(values({ huge: 2 ** 53 - 1, small: 0 })).toEqual([0n, -2n, 3n, 2n ** 53n - 1n]);
  });

  it('names the settings there are when one is unknown, and then changes none', () => {
    const object = open(compileBpf('settings', SETTINGS));
    expect(() => object.setRodata({ big: 7, hug: 1 })).toThrow(
      new RangeError('the BPF object has no setting "hug"; it has: small, middle, big, huge'),
    );
    object.load();
    object.testRun('copy', { data: FRAME });
    expect(i64(object.map('out').lookup(u32(2)))).toBe(3n);
    object.close();
  });

  it.each<[string, unknown]>([
    ['small', 256],
    ['small', -1],
    ['middle', 32768],
    ['middle', -32769],
    ['big', 2 ** 32],
    ['huge', 2 ** 53],
    ['big', 1.5],
    ['big', NaN],
    ['big', Infinity],
    ['big', '7'],
    ['big', 7n],
    ['big', undefined],
  ])('refuses %s = %s and names it', (name, value) => {
    const object = open(compileBpf('settings', SETTINGS));
    expect(() => object.setRodata({ [name]: value as number })).toThrow(new RegExp(`setting ${name}`));
    object.close();
  });

  it('lets an exception of a getter through', () => {
    const object = open(compileBpf('settings', SETTINGS));
    const values = {
      get big(): number {
        throw new Error('mine');
      },
    };
    expect(() => object.setRodata(values)).toThrow('mine');
    object.load();
    expect(() =>
      object.testRun('copy', {
        get data(): Uint8Array {
          throw new Error('mine too');
        },
      }),
    ).toThrow('mine too');
    object.close();
  });

  it('says that an object without settings has none, and that a loaded one is fixed', () => {
    const object = open(bpfObjectPath('pass'));
    expect(() => object.setRodata({ a: 1 })).toThrow('it has: none');
    object.load();
    expect(() => object.setRodata({})).toThrow(/loaded/);
    object.close();
  });
});

describe('load', () => {
  it("gives the program, the verifier's reason and its whole log when the kernel refuses", () => {
    const object = open(compileBpf('broken', BROKEN));
    const error = failure(() => object.load());
    expect(error).toMatchObject({ code: 'EACCES', errno: 13, syscall: 'bpf', program: 'reads_beyond' });
    expect(error.message).toMatch(/^bpf load program reads_beyond of .*broken\.bpf\.o: EACCES/);
    expect(error.remedy).toMatch(/verifier refused it: .*packet/);
    expect(error.verifierLog).toMatch(/invalid access to packet[\s\S]*processed \d+ insns/);
    expect(() => object.testRun('fine', { data: FRAME })).toThrow(/not loaded/);
    expect(() => object.load()).toThrow();
    object.close();
  });

  it('writes nothing to stderr, whatever fails', async () => {
    const child = new AddonChild(
      `for (const path of args) try { new addon.BpfObject(path).load(); } catch (error) { say(error.code); }`,
      [compileBpf('broken', BROKEN), '/nonexistent', '/etc/hostname'],
    );
    expect(await child.ended).toEqual({ code: 0, stdout: 'EACCES\nENOENT\nENOEXEC\n', stderr: '' });
  });

  it('tells an ordinary user which capabilities are missing', async () => {
    const child = new AddonChild(
      `const object = new addon.BpfObject(args[0]);
       process.setgroups([]); process.setgid(65534); process.setuid(65534);
       try { object.load(); } catch (error) { say(JSON.stringify({ code: error.code, remedy: error.remedy })); }`,
      [bpfObjectPath('redirect')],
    );
    const { stdout, stderr } = await child.ended;
    expect(JSON.parse(stdout)).toMatchObject({ code: 'EPERM', remedy: expect.stringMatching(/CAP_BPF/) });
    expect(stderr).toBe('');
  });

  it('says what to do when the file is missing or is something else', () => {
    expect(failure(() => open('/nonexistent/x.bpf.o'))).toMatchObject({
      code: 'ENOENT',
      remedy: expect.stringMatching(/npm run build:native/),
    });
    expect(failure(() => open('/etc/hostname'))).toMatchObject({ code: 'ENOEXEC' });
    expect(() => new (native().BpfObject)(7 as unknown as string)).toThrow(TypeError);
  });

  it('refuses a second load, and use before the first', () => {
    const object = open(bpfObjectPath('pass'));
    expect(object.programs()).toEqual(['sluice_pass']);
    expect(() => object.programFd('sluice_pass')).toThrow(/load\(\) first/);
    object.load();
    expect(object.programFd('sluice_pass')).toBeGreaterThan(2);
    expect(() => object.load()).toThrow(/loaded already/);
    expect(() => object.programFd('other')).toThrow(/no program "other"; it has: sluice_pass/);
    object.close();
  });
});

describe('maps', () => {
  function load(): { object: BpfObject; table: BpfMap } {
    const object = open(compileBpf('maps', MAPS));
    object.load();
    return { object, table: object.map('table') };
  }

  it('are listed without those that libbpf makes for itself', () => {
    const object = open(bpfObjectPath('redirect'));
    expect(object.maps().sort()).toEqual(['stats', 'vip_map', 'xsks_map']);
    object.close();
  });

  it('look up, insert, replace and delete', () => {
    const { object, table } = load();
    const value = (n: bigint): Uint8Array => new Uint8Array(new BigInt64Array([n]).buffer);
    expect(table.lookup(u32(1))).toBeNull();
    table.update(u32(1), value(10n), 1);
    expect(failure(() => table.update(u32(1), value(11n), 1))).toMatchObject({ code: 'EEXIST' });
    expect(failure(() => table.update(u32(2), value(11n), 2))).toMatchObject({ code: 'ENOENT' });
    table.update(u32(1), value(12n));
    expect(i64(table.lookup(u32(1)))).toBe(12n);
    expect(table.delete(u32(1))).toBe(true);
    expect(table.delete(u32(1))).toBe(false);
    object.close();
  });

  it('list their keys: hash, array, LPM trie', () => {
    const { object, table } = load();
    const number = (key: Uint8Array): number => new DataView(key.slice().buffer).getUint32(0, true);
    expect(table.keys()).toEqual([]);
    for (const key of [5, 6, 7]) table.update(u32(key), new Uint8Array(8));
    expect(table.keys().map(number).sort()).toEqual([5, 6, 7]);
    expect(object.map('array').keys().map(number)).toEqual([0, 1]);
    object.close();

    using redirect = new Redirect({}, ['203.0.113.0/24', '2001:db8::/32', '0.0.0.0/0']);
    const lengths = redirect.object.map('vip_map').keys().map(number);
    expect(lengths.sort((a, b) => a - b)).toEqual([32, 96, 120]);
  });

  it('say so when they are full', () => {
    const { object, table } = load();
    for (const key of [1, 2, 3]) table.update(u32(key), new Uint8Array(8));
    const error = failure(() => table.update(u32(4), new Uint8Array(8)));
    expect(error.code).toBe('E2BIG');
    expect(error.remedy).toMatch(/table is full \(3 entries\)/);
    object.close();
  });

  it('hold one value a CPU, rounded up to 8 bytes, in per-CPU maps', () => {
    const { object } = load();
    const percpu = object.map('percpu');
    expect(percpu.valueSize).toBe(8);
    const whole = new Uint8Array(failureSize(percpu));
    expect(whole.length % 8).toBe(0);
    whole.forEach((_, i) => (whole[i] = i % 8 === 0 ? i / 8 + 1 : 0));
    percpu.update(u32(9), whole);
    expect(percpu.lookup(u32(9))).toEqual(whole);
    const cpus = whole.length / 8;
    expect(sumPerCpu(percpu.lookup(u32(9))!, 1)).toEqual([(cpus * (cpus + 1)) / 2]);
    object.close();
  });

  /** Bytes of a whole per-CPU value, from what update says about a wrong one. */
  function failureSize(map: BpfMap): number {
    const { message } = failure(() => map.update(u32(0), new Uint8Array(1)));
    return Number(/must have (\d+) bytes, not 1/.exec(message)?.[1]);
  }

  it('check what they are given', () => {
    const { object, table } = load();
    expect(() => table.lookup(new Uint8Array(3))).toThrow(/map table: the key must have 4 bytes, not 3/);
    expect(() => table.update(u32(1), new Uint8Array(9))).toThrow(/value must have 8 bytes, not 9/);
    expect(() => table.lookup(new Uint16Array(2) as unknown as Uint8Array)).toThrow(TypeError);
    expect(() => table.lookup('key' as unknown as Uint8Array)).toThrow(TypeError);
    expect(() => object.map('nope')).toThrow(/no map "nope"; it has: table, percpu, array/);
    object.close();
  });

  it('refuse descriptors of the wrong kind in an XSKMAP', () => {
    using redirect = new Redirect();
    expect(failure(() => redirect.setSocket(0, 1))).toMatchObject({
      syscall: 'bpf',
      remedy: expect.stringMatching(/XSKMAP|sockets/),
    });
    expect(failure(() => redirect.setSocket(256, 1)).code).toBe('E2BIG');
  });
});

describe('testRun', () => {
  it('repeats, and says what it needs', () => {
    using redirect = new Redirect();
    expect(redirect.object.testRun('sluice_redirect', { data: FRAME, repeat: 100 })).toMatchObject({
      retval: 2,
      data: FRAME,
    });
    expect(redirect.stats().seen).toBe(100);
    const error = failure(() => redirect.run(new Uint8Array(13)));
    expect(error.code).toBe('EINVAL');
    expect(error.remedy).toMatch(/at least 14 bytes/);
    expect(() => redirect.object.testRun('sluice_redirect', { data: FRAME, repeat: -1 })).toThrow(/repeat/);
    const run = (options: object): unknown =>
      redirect.object.testRun('sluice_redirect', options as { data: Uint8Array });
    expect(() => run({})).toThrow(/data must be a Uint8Array/);
    expect(() => run({ data: FRAME, repaet: 2 })).toThrow(/no option "repaet"/);
    expect(() => run({ data: FRAME, ifindex: 4_000_000 })).toThrow(/ENODEV/);
  });
});

describe('closing', () => {
  it('is idempotent, and everything after it throws', () => {
    const object = open(bpfObjectPath('redirect'));
    object.load();
    const map = object.map('stats');
    object.close();
    object.close();
    for (const use of [
      () => object.load(),
      () => object.setRodata({}),
      () => object.programs(),
      () => object.maps(),
      () => object.map('stats'),
      () => object.programFd('sluice_redirect'),
      () => object.testRun('sluice_redirect', { data: FRAME }),
      () => object.attachXdp('sluice_redirect', 1, 'native'),
      () => map.lookup(u32(0)),
      () => map.update(u32(0), new Uint8Array(8)),
      () => map.delete(u32(0)),
      () => map.keys(),
    ]) {
      expect(use).toThrow(/closed/);
    }
    expect(map.name).toBe('stats');
    expect(map.fd).toBe(-1);
  });

  it('leaves no descriptor open, loaded or refused', () => {
    const broken = compileBpf('broken', BROKEN);
    const cycle = (): void => {
      const object = open(bpfObjectPath('redirect'));
      object.load();
      object.map('vip_map').keys();
      object.close();
      const bad = open(broken);
      expect(() => bad.load()).toThrow();
      bad.close();
    };
    cycle();
    const before = openFds();
    for (let i = 0; i < 20; i++) cycle();
    expect(openFds()).toBe(before);
  });

  it('does not let methods be borrowed onto other objects', () => {
    using redirect = new Redirect();
    const map = redirect.object.map('stats');
    expect(() => map.lookup.call(redirect.object as unknown as BpfMap, u32(0))).toThrow(TypeError);
    expect(() => redirect.object.load.call({} as BpfObject)).toThrow(TypeError);
    const Constructor = map.constructor as new (...args: unknown[]) => unknown;
    expect(() => new Constructor()).toThrow(TypeError);
    expect(() => new Constructor({})).toThrow(TypeError);
  });
});
