/** The netmask of a prefix length as words in network byte order. IPv4 lengths (0-32) fill word 0 only. */
export function maskWords(length: number): [number, number, number, number] {
  const word = (i: number): number => {
    const bits = Math.min(32, Math.max(0, length - 32 * i));
    return bits === 0 ? 0 : -1 << (32 - bits);
  };
  return [word(0), word(1), word(2), word(3)];
}
