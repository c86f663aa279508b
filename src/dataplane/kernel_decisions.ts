import { DecisionWord } from '../shared/kernel_decisions.js';
import { LITTLE_ENDIAN } from './packet/encap.js';
import type { Packet } from './packet/packet.js';
import type { Burst } from './port.js';

/**
 * What the kernel has decided about the packets of a burst: see shared/kernel_decisions.ts. The words lie in front of a packet, where frames that are
 * used again may have those of a packet before: so they are believed only with the nonce of the rules in force, and the nonce is taken away with the
 * first look, which every packet gets.
 */
export class KernelDecisions {
  /** Tables.kernelNonce; 0: nothing is looked at. */
  nonce = 0;
  private readonly rules: Int32Array;

  /** `slots`: of the largest burst. */
  constructor(
    private readonly view: DataView,
    private readonly chunkSize: number,
    slots: number,
  ) {
    this.rules = new Int32Array(slots);
  }

  /** Takes the words of all packets in hand. */
  take({ offset }: Burst, count: number): void {
    const { view, nonce, rules } = this;
    const inChunk = (this.chunkSize - 1) | 0;
    for (let i = 0; i < count; i++) {
      const data = offset[i];
      rules[i] = 0;
      if ((data & inChunk) < DecisionWord.BYTES || view.getInt32(data + DecisionWord.nonce, LITTLE_ENDIAN) !== nonce) {
        continue;
      }
      rules[i] = view.getInt32(data + DecisionWord.rules, LITTLE_ENDIAN);
      view.setInt32(data + DecisionWord.nonce, 0);
    }
  }

  /** Gives packet i what was found for the one at `positions[i]` of the burst. */
  give(packets: readonly Packet[], positions: Int32Array, count: number): void {
    const rules = this.rules;
    for (let i = 0; i < count; i++) packets[i].decided = rules[positions[i]];
  }
}
