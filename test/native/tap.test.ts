/** TAP devices: frames to and from the host. */
import { afterEach, beforeAll, expect, test } from 'vitest';
import { native, type Tap } from '../../src/native.js';
import { descriptors, enterNamespace, frame, ip, packets, until } from './rig.js';

const open: Tap[] = [];
function tap(name: string): Tap {
  const made = new (native().Tap)({ name });
  open.push(made);
  return made;
}

beforeAll(enterNamespace);
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

test('a written frame is received by the host, and its answer can be read', () => {
  const device = tap('tap0');
  ip('addr', 'add', '192.0.2.1/24', 'dev', 'tap0');
  ip('link', 'set', 'tap0', 'up');
  expect(device.ifindex).toBe(native().linkInfo('tap0').ifindex);
  const mac = native().linkInfo('tap0').address;
  // Who has 192.0.2.1? Tell 192.0.2.9.
  const request = new Uint8Array(60);
  request.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
  request.set([2, 0, 0, 0, 0, 9, 192, 0, 2, 9, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1], 22);
  expect(device.write(request)).toBe(60);
  let reply: Uint8Array | null = null;
  until('the host to answer', () => {
    for (let got = device.read(); got; got = device.read())
      if (got[12] === 8 && got[13] === 6 && got[21] === 2) reply = got;
    return reply !== null;
  });
  expect([...reply!.slice(0, 6)]).toEqual([2, 0, 0, 0, 0, 9]);
  expect([...reply!.slice(22, 28)]).toEqual([...mac]);
  expect(packets('tap0').rx).toBe(1);
});

test('read is null when there is nothing', () => {
  const device = tap('tap1');
  ip('link', 'set', 'tap1', 'up');
  expect(device.read()).toBeNull();
});

test('each Tap of a name is a further queue of one device, which goes with the last', () => {
  const first = tap('tap2');
  const second = tap('tap2');
  ip('link', 'set', 'tap2', 'up');
  expect(second.ifindex).toBe(first.ifindex);
  first.write(frame());
  second.write(frame());
  expect(packets('tap2').rx).toBe(2);
  first.close();
  second.write(frame());
  second.close();
  expect(() => native().linkInfo('tap2')).toThrow(/ENODEV/);
});

test('a device that is down refuses frames and says so', () => {
  const device = tap('tap3');
  expect(() => device.write(frame())).toThrow(/EIO/);
  try {
    device.write(frame());
  } catch (error) {
    expect(error).toMatchObject({
      code: 'EIO',
      syscall: 'write',
      remedy: 'The TAP device tap3 is down: ip link set it up.',
    });
  }
});

test('the kernel fills in a pattern, wrong names and arguments throw', () => {
  expect(tap('tq%d').name).toBe('tq0');
  const before = descriptors();
  expect(() => tap('a name')).toThrow(/name must be an interface name/);
  expect(() => tap('')).toThrow(RangeError);
  expect(() => new (native().Tap)({} as never)).toThrow(/name must be a string, got undefined/);
  expect(() => tap('lo')).toThrow(/TUNSETIFF lo: E/); // a device of another kind
  expect(descriptors()).toBe(before);
  const device = tap('tap4');
  expect(() => device.write('text' as never)).toThrow(/frame must be a Uint8Array, got "text"/);
  expect(() => device.write(new Uint8Array(13))).toThrow(/at least 14 bytes, got 13/);
});

test('use after close throws, close again does not', () => {
  const device = tap('tap5');
  device.close();
  device.close();
  expect(() => device.read()).toThrow(/the tap is closed/);
  expect(() => device.write(frame())).toThrow(/the tap is closed/);
});
