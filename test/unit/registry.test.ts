import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/errors.js';
import { Registry, backendKey, type RegistryNames } from '../../src/control/registry.js';

function registryAt(limits = { services: 100, backends: 100, rules: 100 }) {
  const clock = { ms: 5_000 };
  const registry = new Registry({ now: () => clock.ms, reuseAfterMs: 1000, limits });
  const services = (...names: string[]) => registry.assign({ services: names, backends: [], rules: [] }).services;
  return { clock, registry, services };
}

describe('registry', () => {
  it('numbers from 0 in the order asked for, with incarnation 1', () => {
    const { services } = registryAt();
    expect([...services('web', 'dns')]).toEqual([
      ['web', { number: 0, incarnation: 1 }],
      ['dns', { number: 1, incarnation: 1 }],
    ]);
  });

  it('keeps numbers over reloads, reordering and neighbours that come and go', () => {
    const { services } = registryAt();
    services('a', 'b', 'c');
    const after = services('new', 'c', 'b');
    expect(after.get('b')).toEqual({ number: 1, incarnation: 1 });
    expect(after.get('c')).toEqual({ number: 2, incarnation: 1 });
    expect(after.get('new')).toEqual({ number: 3, incarnation: 1 });
    expect(after.has('a')).toBe(false);
  });

  it('gives a freed number to another owner only after the rest, under a higher incarnation', () => {
    const { clock, services } = registryAt();
    services('a');
    services();
    clock.ms += 999;
    expect(services('b').get('b')).toEqual({ number: 1, incarnation: 1 });
    clock.ms += 1;
    expect(services('b', 'c').get('c')).toEqual({ number: 0, incarnation: 2 });
    services('b');
    clock.ms += 1000;
    expect(services('b', 'd').get('d')).toEqual({ number: 0, incarnation: 3 });
  });

  it('gives an owner that comes back its old number and incarnation', () => {
    const { clock, services } = registryAt();
    services('a', 'b');
    services('b');
    clock.ms += 500;
    expect(services('a', 'b').get('a')).toEqual({ number: 0, incarnation: 1 });
    services('b');
    clock.ms += 5000;
    // Its rest is over, but nobody else came: still its own. A newcomer in the same call must not snatch it.
    const both = services('newcomer', 'b', 'a');
    expect(both.get('a')).toEqual({ number: 0, incarnation: 1 });
    expect(both.get('newcomer')).toEqual({ number: 2, incarnation: 1 });
  });

  it('hands out the number that has rested longest first', () => {
    const { clock, services } = registryAt();
    services('a', 'b', 'c');
    services('a', 'c');
    clock.ms += 10;
    services('c');
    clock.ms += 2000;
    const after = services('c', 'x', 'y', 'z');
    expect(['x', 'y', 'z'].map((name) => after.get(name)!.number)).toEqual([1, 0, 3]);
  });

  it('gives numbers of rules on sooner when all were used, and those of services not', () => {
    const clock = { ms: 0 };
    const limits = { services: 2, backends: 2, rules: 2 };
    const registry = new Registry({ now: () => clock.ms, limits });
    const assign = (services: string[], rules: string[]) => registry.assign({ services, backends: [], rules });
    assign(['a', 'b'], ['a', 'b']);
    assign(['b'], ['b']);
    clock.ms += 1999;
    expect(() => assign(['b'], ['b', 'c'])).toThrow(/too many rules: .* rest for 2 seconds/);
    clock.ms += 1;
    expect(assign(['b'], ['b', 'c']).rules.get('c')).toEqual({ number: 0, incarnation: 2 });
    expect(() => assign(['b', 'c'], ['b', 'c'])).toThrow(/too many services: .* rest for 10 minutes/);
  });

  it.each(['services', 'backends', 'rules'] as const)('names the limit of %s and changes nothing beyond it', (kind) => {
    const limits = { services: 3, backends: 3, rules: 3 };
    const { registry } = registryAt(limits);
    const names = (list: string[]): RegistryNames => ({ services: [], backends: [], rules: [], [kind]: list });
    registry.assign(names(['a', 'b', 'c']));
    const before = registry.numbers();
    let error: unknown;
    try {
      registry.assign({ ...names(['b', 'c', 'd', 'e']) });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(SluiceError);
    expect((error as SluiceError).code).toBe('SLUICE_CONFIG');
    expect((error as SluiceError).message).toContain(`too many ${kind}: the limit is 3`);
    expect(registry.numbers()).toEqual(before);
  });

  it('changes no kind when another kind is over its limit', () => {
    const { registry } = registryAt({ services: 10, backends: 10, rules: 1 });
    expect(() => registry.assign({ services: ['a'], backends: ['a/1'], rules: ['r', 's'] })).toThrow(/rules/);
    expect(registry.numbers().services.size).toBe(0);
    expect(registry.numbers().backends.size).toBe(0);
  });

  it('never has two owners of one number, nor one number twice in a row without a higher incarnation (random run)', () => {
    const { clock, services } = registryAt({ services: 40, backends: 1, rules: 1 });
    let state = 12345;
    const next = (n: number) => (state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff) % n;
    const lastOwner = new Map<number, { name: string; incarnation: number }>();
    for (let step = 0; step < 2000; step++) {
      clock.ms += next(400);
      const names = Array.from({ length: next(12) }, () => `s${next(25)}`);
      let given;
      try {
        given = services(...names);
      } catch {
        continue;
      }
      expect(given.size).toBe(new Set(names).size);
      expect(new Set([...given.values()].map(({ number }) => number)).size).toBe(given.size);
      for (const [name, { number, incarnation }] of given) {
        const last = lastOwner.get(number);
        if (last && last.name !== name) expect(incarnation).toBe(last.incarnation + 1);
        else if (last) expect(incarnation).toBe(last.incarnation);
        lastOwner.set(number, { name, incarnation });
      }
    }
    expect(lastOwner.size).toBeGreaterThan(10);
  });

  it('tells backends of two services apart', () => {
    expect(backendKey('a', '10.0.0.1')).not.toBe(backendKey('a/10.0.0.1', ''));
    expect(backendKey('web', '10.0.0.1')).toBe('web/10.0.0.1');
  });
});
