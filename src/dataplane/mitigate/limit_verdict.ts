/** What a limit says of a packet. */
export const enum LimitVerdict {
  /** The packet is within the limit, and was counted against it. */
  within = 0,
  /** The packet is above the limit. */
  above = 1,
  /** The table is full and the packet's key is not in it: drop it, whatever the rule says (the kernel's hotdrop). */
  hotDrop = 2,
}
