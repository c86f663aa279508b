/**
 * What the kernel says of a packet that it leaves to a worker: XDP metadata right in front of the frame. Rules that draw or meter may be asked once a
 * packet only, so a worker has to know which of them the kernel has asked already (src/control/ebpf/offload/decided.ts writes it).
 */

/** Byte offsets from the frame's first byte, of words in the machine's byte order. */
export const enum DecisionWord {
  /** Bytes that both take, a multiple of 4 as XDP wants it. */
  BYTES = 8,
  /** Tables.kernelNonce of the rules that decided; any other number, and nobody decided. */
  nonce = -8,
  /** RuleField.decided bits of the rules that the packet got past: drawn and not hit, or metered and within the limit. */
  rules = -4,
}

/** Rules that the second word has bits for. */
export const DECIDED_MOST = 32;
