/** What `sluice explain` says of one packet: `--json` prints this. docs/explain.md lists the keys. */

/** Stages in the order in which a packet meets them. A packet that is decided early has only the first of them. */
export type StageName =
  | 'parse'
  | 'decapsulate'
  | 'allow'
  | 'sanity'
  | 'sets'
  | 'rules'
  | 'tcp'
  | 'fair-share'
  | 'limits'
  | 'module'
  | 'fragment'
  | 'flow-table'
  | 'icmp'
  | 'service'
  | 'steering'
  | 'source-route'
  | 'ring'
  | 'backend'
  | 'encapsulation';

export interface Step {
  stage: StageName;
  /** One word or a few: "well-formed", "miss", "drop". */
  result: string;
  /** Why, a line each. */
  because: string[];
  /** By stage. */
  detail: Record<string, unknown>;
}

/** One header of a frame, from its bytes. */
export interface HeaderText {
  name: string;
  /** Offset in the frame, and size. */
  at: number;
  bytes: number;
  text: string;
}

export interface ConditionResult {
  /** The key of the rule's `match`; `ip`: a condition on IP, and the packet is none. */
  field: string;
  holds: boolean;
  packet: string;
  rule: string;
}

export type RuleResult =
  /** The index has left it out: a look at the packet's protocol, ports and addresses is enough. */
  | 'skipped'
  /** Compared, and a condition does not hold. */
  | 'no match'
  /** All conditions hold, and the draw of its probability went against it. */
  | 'not drawn'
  | 'matched'
  /** A rule before it decided. */
  | 'not reached';

export interface RuleStep {
  name: string;
  action: string;
  mode: 'enforce' | 'shadow';
  probability: number;
  result: RuleResult;
  /** Whether the action was carried out on the packet, or in shadow mode would have been. */
  acted: boolean;
  /** Whether it ended the search. */
  decided: boolean;
  /** Up to the first that does not hold; of a rule that is several records, of the one that comes nearest. */
  conditions: ConditionResult[];
}

export interface Explanation {
  input: {
    /** As it was given. */
    text: string;
    /** null: packet in words or bytes. */
    file: string | null;
    /** 0-based position in the file. */
    frame: number;
    /** Frames that went through the path before it. */
    before: number;
  };
  config: {
    /** '' when it came from no file. */
    path: string;
    /** What a running daemon has that its file does not, a line each. */
    live: string[];
  };
  frame: {
    bytes: number;
    /** On the wire; more than `bytes` when the capture cut the packet. */
    wireBytes: number;
    port: { index: number; name: string };
    /** ms of capture time. */
    clockMs: number;
    hex: string;
    headers: HeaderText[];
  };
  steps: Step[];
  verdict: {
    verdict: 'aborted' | 'drop' | 'pass' | 'tx' | 'redirect' | 'hold' | 'lost';
    /** Name of the drop reason; null when it was not dropped. */
    reason: string | null;
    /** Interface that it leaves by; null when it does not. */
    interface: string | null;
    service: string | null;
    backend: string | null;
    /** What a filter module threw. */
    error: string | null;
  };
  /** What leaves, or is passed; null when nothing is. */
  output: { bytes: number; hex: string; headers: HeaderText[]; changed: boolean } | null;
  /** Counters that this packet changed. */
  counters: { name: string; change: number }[];
}
