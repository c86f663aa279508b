/**
 * The object, with some of its methods seen by somebody else. All else, private state included, stays the object's own.
 * `methods`: by name, called with the original's call in the place of `super`.
 */
export function observed<T extends object>(
  target: T,
  methods: Partial<Record<keyof T, (call: (...args: unknown[]) => unknown, args: unknown[]) => unknown>>,
): T {
  const cache = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get(object, key) {
      const value = Reflect.get(object, key, object) as unknown;
      if (typeof value !== 'function') return value;
      const known = cache.get(key);
      if (known !== undefined) return known;
      const call = (...args: unknown[]): unknown => Reflect.apply(value, object, args);
      const method = methods[key as keyof T];
      const seen = method === undefined ? call : (...args: unknown[]): unknown => method(call, args);
      cache.set(key, seen);
      return seen;
    },
    set: (object, key, value) => Reflect.set(object, key, value, object),
  });
}
