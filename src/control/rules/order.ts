/** Where rules stand that somebody put somewhere at run time, also after the configuration around them has changed. */
import { SluiceError } from '../../errors.js';

/** Where a rule is put among the others. */
export type RulePlace = 'first' | 'last' | { readonly before: string } | { readonly after: string };

/** Rules with a place of their own: 'last' stays behind all rules of the configuration, also new ones. */
export type PlacedRules = ReadonlyMap<string, 'last' | 'here'>;

/**
 * The order of all rules. Those of the configuration stand as it has them. A placed one stands behind the one that it stood behind
 * before, or the nearest before that which is still there.
 *
 * @param configured names of the rules of the configuration that are in force, in its order
 * @param former all names, in the order until now
 */
export function mergeOrder(configured: readonly string[], former: readonly string[], placed: PlacedRules): string[] {
  const order = configured.filter((name) => !placed.has(name));
  const there = new Set(order);
  former.forEach((name, i) => {
    const place = placed.get(name);
    if (place === undefined) return;
    if (place === 'last') order.push(name);
    else {
      let at = i - 1;
      while (at >= 0 && !there.has(former[at])) at--;
      order.splice(at < 0 ? 0 : order.indexOf(former[at]) + 1, 0, name);
    }
    there.add(name);
  });
  return order;
}

/** The order with these names, which are not in it, at a place. Throws SLUICE_USAGE when the place names a rule that is not there. */
export function putAt(order: readonly string[], names: readonly string[], place: RulePlace): string[] {
  const at = place === 'first' ? 0 : place === 'last' ? order.length : positionOf(order, place);
  return order.toSpliced(at, 0, ...names);
}

function positionOf(order: readonly string[], place: Exclude<RulePlace, string>): number {
  const [anchor, behind] = 'before' in place ? [place.before, 0] : [place.after, 1];
  const at = order.indexOf(anchor);
  if (at < 0) throw new SluiceError('SLUICE_USAGE', `there is no rule "${anchor}" to be put next to`);
  return at + behind;
}
