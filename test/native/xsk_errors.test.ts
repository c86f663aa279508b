/** What goes wrong at set-up: each failure is an Error that names the thing and the next step, and leaves nothing behind. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { isKernelError, type KernelError } from '../../src/errors.js';
import { native, type Umem, type XskOptions } from '../../src/native.js';
import {
  child,
  closeAll,
  descriptors,
  enterNamespace,
  ip,
  lockedMemory,
  mappedRings,
  openSocket,
  veth,
} from './rig.js';

let umem: Umem;

beforeAll(() => {
  enterNamespace();
  veth('ea', 'eb', 2);
  umem = new (native().Umem)({ frameCount: 256, chunkSize: 2048 });
});

afterEach(closeAll);
afterAll(() => umem.close());

function failure(run: () => unknown): KernelError {
  try {
    run();
  } catch (error) {
    if (isKernelError(error)) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

/** Runs something that fails, and checks that descriptors, ring mappings and frames are as before. */
function failureLeavingNothing(run: () => unknown): KernelError {
  const before = [descriptors(), mappedRings()];
  const counts = umem.counts();
  const error = failure(run);
  expect([descriptors(), mappedRings()]).toEqual(before);
  expect(umem.counts()).toEqual(counts);
  return error;
}

test('EBUSY names interface and queue, after trying as long as it was told', () => {
  const first = openSocket(umem, { interface: 'ea', queue: 1 });
  const other = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  const start = performance.now();
  const error = failureLeavingNothing(() => openSocket(other, { interface: 'ea', queue: 1, busyRetryMs: 120 }));
  expect(performance.now() - start).toBeGreaterThan(110);
  expect(performance.now() - start).toBeLessThan(5000);
  expect(error).toMatchObject({ code: 'EBUSY', errno: 16, syscall: 'bind' });
  expect(error.message).toContain('ea queue 1');
  expect(error.remedy).toMatch(/Another AF_XDP socket holds ea queue 1/);
  expect(other.counts()).toMatchObject({ free: 64 });
  // The first one's own UMEM says so at once.
  const own = failureLeavingNothing(() => openSocket(umem, { interface: 'ea', queue: 1, index: 1 }));
  expect(own.code).toBe('EBUSY');
  expect(own.remedy).toMatch(/Socket 0 of the same packet memory/);
  first.close();
  other.close();
});

test('a queue beyond the count says how many there are', () => {
  const error = failureLeavingNothing(() => openSocket(umem, { interface: 'ea', queue: 2 }));
  expect(error).toMatchObject({ code: 'EINVAL', syscall: 'bind' });
  expect(error.message).toContain('ea queue 2');
  expect(error.remedy).toMatch(/ea has 2 queues: choose one below 2/);
});

test('an interface that is not there', () => {
  const error = failureLeavingNothing(() => openSocket(umem, { interface: 'nosuch0' }));
  expect(error).toMatchObject({ code: 'ENODEV', errno: 19 });
  expect(error.message).toContain('nosuch0');
  expect(error.remedy).toContain('ip link');
  expect(failure(() => native().linkInfo('nosuch0'))).toMatchObject({ code: 'ENODEV', errno: 19 });
});

test('zero-copy forced on veth is EOPNOTSUPP, auto falls back to copy', () => {
  const error = failureLeavingNothing(() => openSocket(umem, { interface: 'ea', mode: 'zero-copy' }));
  expect(error).toMatchObject({ code: 'EOPNOTSUPP', syscall: 'bind' });
  expect(error.remedy).toMatch(/mode "copy" or "auto"/);
  const socket = openSocket(umem, { interface: 'ea', mode: 'auto' });
  expect(socket.zeroCopy).toBe(false);
  // The same with a sibling to share with.
  expect(failureLeavingNothing(() => openSocket(umem, { interface: 'eb', index: 1, mode: 'zero-copy' })).code).toBe(
    'EOPNOTSUPP',
  );
  socket.close();
});

const TRY = `
  function attempt(frameCount, options = {}) {
    const umem = new addon.Umem({ frameCount, chunkSize: 4096 });
    try {
      new addon.XskSocket(umem, { interface: 'ea', queue: 0, mode: 'copy', index: 0, ...options });
    } catch (error) {
      return { code: error.code, syscall: error.syscall, remedy: error.remedy };
    } finally { umem.close(); }
    return { code: 'opened' };
  }`;

test('too little locked memory names the bytes needed, at once', () => {
  const code = `${TRY} const start = performance.now(); console.log(JSON.stringify({ ...attempt(1024), ms: performance.now() - start }))`;
  const error = JSON.parse(child(code, [], lockedMemory(65536))) as KernelError & { ms: number };
  expect(error.ms).toBeLessThan(900);
  expect(error).toMatchObject({ code: 'ENOBUFS', syscall: 'setsockopt' });
  expect(error.remedy).toMatch(/needs 4194304 bytes .* limit is 65536.*CAP_IPC_LOCK/);
});

test('pinned memory is given back by close and by each failure', () => {
  // 1 MiB of UMEM under a limit of 2.5 MiB: the third that was not given back would be ENOBUFS.
  const script = `${TRY}
    const codes = [];
    for (let i = 0; i < 6; i++) codes.push(attempt(256).code);
    for (let i = 0; i < 6; i++) codes.push(attempt(256, { mode: 'zero-copy' }).code);
    for (let i = 0; i < 6; i++) codes.push(attempt(256, { queue: 7 }).code);
    const umem = new addon.Umem({ frameCount: 256, chunkSize: 4096 });
    const holder = new addon.XskSocket(umem, { interface: 'ea', queue: 0, mode: 'copy', index: 0 });
    for (let i = 0; i < 6; i++) codes.push(attempt(256, { busyRetryMs: 200, queue: 0 }).code);
    console.log(codes.join(' '));`;
  const codes = child(script, [], lockedMemory(2.5 * 2 ** 20)).split(' ');
  const six = (code: string) => Array<string>(6).fill(code);
  expect(codes).toEqual([...six('opened'), ...six('EOPNOTSUPP'), ...six('EINVAL'), ...six('EBUSY')]);
});

test('without CAP_NET_RAW the error says which capability', () => {
  const out = child(`${TRY} console.log(JSON.stringify(attempt(4)))`, [], ['setpriv', '--bounding-set=-net_raw']);
  expect(JSON.parse(out)).toMatchObject({ code: 'EPERM', syscall: 'socket' });
  expect((JSON.parse(out) as KernelError).remedy).toContain('CAP_NET_RAW');
});

test.each<[string, Partial<XskOptions> | Record<string, unknown>, RegExp]>([
  ['a name that is too long', { interface: 'averyveryverylongname' }, /interface must be an interface name.*averyvery/],
  ['a name with a slash', { interface: '../x' }, /interface must be/],
  ['a missing queue', { queue: undefined }, /queue must be a number, got undefined/],
  ['a fraction', { queue: 0.5 }, /queue must be a whole number.*0\.5/],
  ['NaN', { queue: NaN }, /queue must be a whole number.*NaN/],
  ['a mode that there is not', { mode: 'fast' }, /mode must be auto, zero-copy or copy, got "fast"/],
  ['an index of 16', { index: 16 }, /index must be a whole number from 0 to 15, got 16/],
  ['a ring of 100', { rxSize: 100 }, /rxSize must be a power of two, got 100/],
  ['a ring of 0', { txSize: 0 }, /txSize must be/],
  ['a burst of 2000', { burst: 2000 }, /burst must be.*1024, got 2000/],
  ['a misspelt option', { ringSize: 64 }, /options has no option "ringSize"/],
  ['half a busyPoll', { busyPoll: { timeoutUs: 20 } }, /busyPoll\.budget must be a number/],
])('refuses %s', (_, options, message) => {
  const before = descriptors();
  expect(() =>
    openSocket(umem, { interface: 'ea', ...options } as Partial<XskOptions> & { interface: string }),
  ).toThrow(message);
  expect(descriptors()).toBe(before);
});

test('refuses a UMEM that is too big, too small or of odd chunks', () => {
  const { Umem } = native();
  expect(() => new Umem({ frameCount: 1 << 20, chunkSize: 2048 })).toThrow(/frameCount must be .* 1048575/);
  expect(() => new Umem({ frameCount: 0, chunkSize: 2048 })).toThrow(RangeError);
  expect(() => new Umem({ frameCount: 16, chunkSize: 3000 as 2048 })).toThrow(
    /chunkSize must be 2048 or 4096, got 3000/,
  );
  expect(() => new Umem(undefined as never)).toThrow(/options must be an object/);
  expect(() => (Umem as unknown as () => void)()).toThrow(/new/);
});

test('an index in use is refused, and free again after close', () => {
  const first = openSocket(umem, { interface: 'ea', index: 4 });
  expect(() => openSocket(umem, { interface: 'eb', index: 4 })).toThrow(/index 4 is taken/);
  first.close();
  openSocket(umem, { interface: 'eb', index: 4 }).close();
});

test('use after close throws, close again does not', () => {
  const { Umem } = native();
  const own = new Umem({ frameCount: 64, chunkSize: 2048 });
  const view = new Uint8Array(own.buffer);
  const socket = openSocket(own, { interface: 'ea' });
  socket.close();
  socket.close();
  for (const use of [
    () => socket.exchange(),
    () => socket.statistics(),
    () => socket.rings(),
    () => socket.error(),
    () => socket.setTap(null),
  ]) {
    expect(use).toThrow(/the socket is closed/);
  }
  // The arrays are harmless.
  socket.verdict.fill(3);
  socket.offset.fill(-1);
  expect(socket.header.length).toBe(4);

  const second = openSocket(own, { interface: 'ea' });
  own.close();
  own.close();
  expect(() => second.exchange()).toThrow(/closed/);
  second.close();
  expect(() => own.counts()).toThrow(/the UMEM is closed/);
  expect(() => own.wait(1)).toThrow(/closed/);
  expect(() => openSocket(own, { interface: 'ea' })).toThrow(/closed/);
  expect([own.buffer.byteLength, view.length]).toEqual([0, 0]);
});

test('a UMEM closed by a getter of the options is noticed', () => {
  const own = new (native().Umem)({ frameCount: 64, chunkSize: 2048 });
  const options = {
    interface: 'ea',
    get queue() {
      own.close();
      return 0;
    },
  };
  expect(
    () => new (native().XskSocket)(own, { mode: 'copy', index: 0, interface: 'ea', queue: options.queue }),
  ).toThrow(/closed/);
  const thrower = { mode: 'copy' as const, index: 0, interface: 'ea', get queue(): number { throw new Error('mine'); } }; // prettier-ignore
  expect(() => new (native().XskSocket)(umem, thrower)).toThrow('mine');
});

test('a method borrowed onto a foreign object throws', () => {
  const { Umem, XskSocket, Tap, BpfObject } = native();
  const socket = openSocket(umem, { interface: 'ea' });
  const tap = new Tap({ name: 'tborrow' });
  const strangers: unknown[] = [
    {},
    umem,
    tap,
    Object.create(socket),
    new Proxy(socket, {}),
    null,
    undefined,
    1,
    native(),
  ];
  for (const stranger of strangers) {
    expect(() => socket.exchange.call(stranger as never)).toThrow(TypeError);
    expect(() => socket.close.call(stranger as never)).toThrow(TypeError);
  }
  const { exchangeSocket } = native();
  expect(exchangeSocket(socket.id)).toBe(0);
  for (const stranger of [{}, socket, null, undefined, 'x', socket.id + 1000, -1]) {
    expect(() => exchangeSocket(stranger as number)).toThrow(TypeError);
  }
  for (const stranger of [{}, socket, tap]) expect(() => umem.counts.call(stranger as never)).toThrow(TypeError);
  for (const stranger of [{}, socket, umem]) expect(() => tap.read.call(stranger as never)).toThrow(TypeError);
  expect(() => new XskSocket(tap as never, {} as never)).toThrow(/umem must be a Umem/);
  expect(() => socket.setTap(socket as never)).toThrow(/tap must be a Tap or null/);
  expect(() => BpfObject.prototype.load.call(socket as never)).toThrow(TypeError);
  expect(() => Umem.prototype.counts.call(Umem.prototype)).toThrow(TypeError);
  socket.close();
  expect(() => exchangeSocket(socket.id)).toThrow(/the socket is closed/);
  tap.close();
});

test('busy polling is set up, and the socket works', () => {
  const socket = openSocket(umem, { interface: 'ea', busyPoll: { timeoutUs: 20, budget: 64 } });
  for (let i = 0; i < 10; i++) expect(socket.exchange()).toBe(0);
  socket.close();
});

test('linkInfo tells what the interface is', () => {
  const info = native().linkInfo('ea');
  const [line] = JSON.parse(ip('-j', 'link', 'show', 'ea')) as { ifindex: number; address: string; mtu: number }[];
  expect(info).toMatchObject({ ifindex: line.ifindex, mtu: line.mtu, driver: 'veth', up: true, running: true });
  expect(Buffer.from(info.address).toString('hex')).toBe(line.address.replaceAll(':', ''));
  expect([info.rxQueues, info.txQueues]).toEqual([2, 2]);
  expect(native().linkInfo('lo')).toMatchObject({ driver: '', up: false });
});
