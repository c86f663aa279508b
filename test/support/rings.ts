/** Slots of a ring by position in the list of backends. */
export function countsOf(ring: Uint16Array, backends: number): number[] {
  const counts = new Array<number>(backends).fill(0);
  for (const position of ring) counts[position]++;
  return counts;
}
