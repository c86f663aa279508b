/** The ECN field, the two low bits of TOS and traffic class (RFC 3168 §5). */
const enum Ecn {
  notEct = 0,
  ect1 = 1,
  ect0 = 2,
  ce = 3,
}

/**
 * The ECN field that a packet leaves a tunnel with (RFC 6040 §4.2, figure 4), or −1 for the one case that is a drop: a congestion mark
 * on a packet whose ends would not understand it.
 */
export function mergedEcn(outer: number, inner: number): number {
  if (inner === Ecn.notEct) return outer === Ecn.ce ? -1 : Ecn.notEct;
  if (outer === Ecn.ce) return Ecn.ce;
  return inner === Ecn.ect0 && outer === Ecn.ect1 ? Ecn.ect1 : inner;
}
