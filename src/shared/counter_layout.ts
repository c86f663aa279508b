/**
 * Counters: one Float64Array a worker. Exact up to 2^53. Single writer, plain stores; anyone may read at any time.
 */

/** Totals of a worker. Packets unless the name says otherwise. */
export const enum Counter {
  /** rx = drop + pass + tx + redirect + aborted, at any moment between two bursts. */
  rx = 0,
  rxBytes = 1,
  drop = 2,
  pass = 3,
  tx = 4,
  redirect = 5,
  aborted = 6,
  txBytes = 7,
  /** Bursts that had at least one packet. */
  bursts = 8,
  /** CPU time from taking a burst to having judged it, ns, sampled in bursts of 16 and more: sum over `sampledPackets` packets. */
  sampledNs = 9,
  sampledPackets = 10,
  flowHit = 11,
  flowMiss = 12,
  flowInsert = 13,
  /** New flows balanced without being remembered: above maxNewFlowsPerSecond. */
  flowBypass = 14,
  /** Live flows that gave way to new ones because their part of the table was full. */
  flowEvict = 15,
  flowExpire = 16,
  /** Gauge: flows in the table. */
  flows = 17,
  checksumRepaired = 18,
  /** Packets to no service. */
  noService = 19,
  generation = 20,
  sleeps = 21,
  /** Flows whose backend went away or became inactive, given to another. */
  flowMoved = 22,
  /** Packets whose backend was named in them: a QUIC connection id, a TCP server id, a stable UDP id. */
  idRouted = 23,
  /** Packets that named a backend which is not there, and went by flow table and ring. */
  idUnknown = 24,
  /** New flows whose backend came from the source address. */
  sourceRouted = 25,
  /** ICMP errors that followed the flow they are about. */
  icmpErrors = 26,
  /** Echo requests answered here. */
  echoAnswered = 27,
  /** Messages to senders that their packet was too big. */
  tooBigReplies = 28,
  /** ICMP messages that were due and not made: above the rate. */
  icmpLimited = 29,
  /** SYNs whose MSS was lowered. */
  mssClamped = 30,
  /** Later fragments that followed their first. */
  fragmentsFollowed = 31,
  /** Fragments that waited for their first. */
  fragmentsHeld = 32,
  /** Outer headers taken off. */
  decapsulated = 33,
  /** Gauge: frames that are held. */
  framesHeld = 34,
  /** SYNs answered by a challenge. Right answers are DropReason.challengeAnswer. */
  challenges = 35,
  /** SYNs that passed because their sender had answered. */
  challengeAdmitted = 36,
  /** RSTs that answered no challenge: those that end connections are among them. */
  challengeFailed = 37,
  /** Gauge: destinations whose SYNs are challenged now; in mode always 1. */
  challengeActive = 38,
  /** TCP packets that no connection accounts for, by reason, whether they were dropped or not. */
  tcpUnexpected = 39,
  tcpNotFound = 40,
  tcpOutOfSequence = 41,
  tcpAlreadyClosed = 42,
  /** Gauge: TCP connections remembered. */
  connections = 43,
  /** Connections that gave way to others while they were alive. */
  connectionEvict = 44,
  /** Gauge: 1 while packets of unknown connections are taken for those of older ones. */
  tcpLearning = 45,
  /** Packets that a limit dropped because its table was full. */
  limitTableFull = 46,
  /** Gauges: match programs of rules, limits and captures that run as JavaScript, and those that the interpreter runs. */
  programsCompiled = 47,
  programsInterpreted = 48,
  SIZE = 64,
}

/** Totals of one socket, written by native code in this order. */
export const enum PortCounter {
  rxPackets = 0,
  rxBytes = 1,
  txPackets = 2,
  txBytes = 3,
  /** Descriptors that came back on the completion ring: the driver took them, which is not yet "delivered". */
  completions = 4,
  /** Dropped because the TX ring had no room. */
  txFull = 5,
  /** Refused before the kernel saw them: outside the packet's chunk, shorter than 14 bytes, no such target. */
  txInvalid = 6,
  /** Completion addresses that named no frame in flight. */
  completionBogus = 7,
  /** Written to the tap. */
  passPackets = 8,
  /** Passed with no tap to take them, or refused by it. */
  passLost = 9,
  /** Times the kernel was woken to transmit. */
  wakeups = 10,
  /** Sends that failed for the whole socket, for example while the interface was down. */
  sendErrors = 11,
  /** Settled as Drop or Aborted. */
  dropped = 12,
  /** From XDP_STATISTICS, copied by the worker about ten times a second. */
  kernelRxDropped = 13,
  kernelRxInvalid = 14,
  kernelTxInvalid = 15,
  kernelRxRingFull = 16,
  kernelFillEmpty = 17,
  kernelTxEmpty = 18,
  /** Gauges: frames by owner. */
  framesFree = 19,
  framesFill = 20,
  framesRx = 21,
  framesTx = 22,
  framesTotal = 23,
  /** Held by the policy over the end of their burst. */
  framesHeld = 24,
  SIZE = 25,
}

/** Two, and the data path relies on it. */
export const enum ServiceCounter {
  packets = 0,
  bytes = 1,
  SIZE = 2,
}

/** Four, and the data path relies on it. */
export const enum BackendCounter {
  packets = 0,
  bytes = 1,
  /** Gauge: flows in the flow table that lead here. */
  flows = 2,
  /** Flows that were given to this backend. */
  newFlows = 3,
  SIZE = 4,
}

/** Where each part starts in a worker's counter block, in Float64 elements. */
export const enum CounterBlock {
  totals = 0,
  /** By DropReason. */
  reasons = 64,
  /** By port number, PortCounter.SIZE each. */
  ports = 64 + 128,
  services = 64 + 128 + 16 * 25,
  backends = 64 + 128 + 16 * 25 + 16384 * 2,
  /** By RuleField.id, RuleCounter.SIZE each (rule_layout.ts). */
  rules = 64 + 128 + 16 * 25 + 16384 * 2 + 131072 * 4,
  /** By position in the filter chain: packets dropped by a module filter. */
  filters = 64 + 128 + 16 * 25 + 16384 * 2 + 131072 * 4 + 4096 * 4,
  SIZE = 64 + 128 + 16 * 25 + 16384 * 2 + 131072 * 4 + 4096 * 4 + 64,
}
