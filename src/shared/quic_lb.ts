/** Configuration of IETF QUIC-LB, as draft-ietf-quic-load-balancers-21 section 5 has it. */
import { MAX_SERVER_ID_BYTES } from './server_ids.js';

/** One of up to seven configurations that a service's servers may use at a time. Plain data: it can be posted to a worker. */
export interface QuicLbConfig {
  /** 0-6: the three highest bits of the connection ids that it applies to. 7 marks ids that name no server. */
  readonly rotation: number;
  /** Bytes, 1-15. */
  readonly serverIdLength: number;
  /** Bytes, 4-18. */
  readonly nonceLength: number;
  /** 16 bytes, or null: the server id is readable by anyone. */
  readonly key: ArrayLike<number> | null;
}

export const QuicLbLimit = {
  rotations: 7,
  nonceLeast: 4,
  nonceMost: 18,
  /** Server id and nonce together: a QUIC version 1 connection id has 20 bytes, the first of which is taken. */
  bytesMost: 19,
  keyBytes: 16,
} as const;

/** What is wrong with the configurations of a service, one sentence each; empty when nothing is. */
export function quicLbProblems(configs: readonly QuicLbConfig[]): string[] {
  const problems: string[] = [];
  const taken = new Set<number>();
  for (const { rotation, serverIdLength, nonceLength, key } of configs) {
    const check = (ok: boolean, problem: string): void => void (ok || problems.push(problem));
    check(within(rotation, 0, 6), `rotation ${rotation} is not 0 to 6`);
    check(!taken.has(rotation), `rotation ${rotation} is there twice`);
    taken.add(rotation);
    check(
      within(serverIdLength, 1, MAX_SERVER_ID_BYTES),
      `server id length ${serverIdLength} is not 1 to ${MAX_SERVER_ID_BYTES}`,
    );
    check(
      within(nonceLength, QuicLbLimit.nonceLeast, QuicLbLimit.nonceMost),
      `nonce length ${nonceLength} is not ${QuicLbLimit.nonceLeast} to ${QuicLbLimit.nonceMost}`,
    );
    const sum = serverIdLength + nonceLength;
    check(
      sum <= QuicLbLimit.bytesMost,
      `server id and nonce have ${sum} bytes together, more than ${QuicLbLimit.bytesMost}`,
    );
    check(
      key === null || key.length === QuicLbLimit.keyBytes,
      `the key has ${key?.length} bytes, not ${QuicLbLimit.keyBytes}`,
    );
  }
  return problems;
}

function within(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}
