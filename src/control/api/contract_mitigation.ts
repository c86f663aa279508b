/** What the status says of the stages of mitigation. */

export interface StatusMitigation {
  /** Destinations whose SYNs are challenged now, over all workers. */
  challenged: number;
  challenges: number;
  /** SYNs that passed because their sender had answered. */
  admitted: number;
  /** TCP connections that are remembered. */
  connections: number;
  /** Queues of workers that still take packets of unknown connections for those of older ones. */
  learning: number[];
  /** TCP packets that no connection accounts for, by reason, dropped or not. */
  outOfState: Record<string, number>;
  /** Match programs of rules, limits and captures, by what runs them, in the worker that interprets most. */
  programs: { js: number; interpreter: number };
  /** False with --disallow-code-generation-from-strings: all programs are interpreted. */
  codeGeneration: boolean;
  /** Limits on rates. */
  limits: { name: string; packets: number; dropped: number }[];
  /** Packets that a limit dropped because its table was full and did not have their key, in workers and in the kernel. */
  limitTableFull: number;
}
