/** Flows in the kernel, as surfaces show them (docs/flow-offload.md). */
export interface FlowOffloadStatus {
  mode: 'auto' | 'off';
  /** Why no flow is in the kernel; '' when they may be. */
  why: string;
  interfaces: StatusFlowInterface[];
}

export interface StatusFlowInterface {
  name: string;
  /** Why no flow that comes in here is in the kernel; '' when they may be. */
  why: string;
  /** Flows in the kernel, with those that have just left. */
  flows: number;
  /** Flows that were put there since its cache is. */
  installed: number;
  /** Offers above the rate. */
  refused: number;
}
