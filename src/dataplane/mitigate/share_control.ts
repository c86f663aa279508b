import { SHARE_CELLS, SHARE_ROWS, ShareWord, WINDOW_MS, type FairShareShared } from '../../shared/limits/fair_share.js';
import { since } from './ewma.js';

/** Float64 a cell, of this worker alone. */
const enum Account {
  SIZE = 8,
  /** When the window began, ms; `begun` says whether it did. */
  startMs = 0,
  begun = 1,
  offered = 2,
  passed = 3,
  heavy = 4,
  /** What a key may have, units a second; 0: not yet known. */
  share = 5,
  /** This worker's part of what passes, 0 to 1. */
  part = 6,
}

/** Units a second: what one key may have, and what this worker may let through of all that comes for a destination. */
export const enum May {
  share = 0,
  whole = 1,
}

/** A share changes by no more than this factor a window. */
const STEP_MOST = 8;

/** Within this part of it, it goes only that part of the way. */
const NEAR = 0.25;
const CALM = 0.25;

/** A worker that said nothing for so many windows has no traffic. */
const SILENT_WINDOWS = 3;

/** The least share: what a rate estimate cannot tell from a few packets at once, units by packet times this over the window. */
const LEAST_PACKETS = 4;
const PACKET_BYTES = 1500;

/**
 * Finds the share: the rate to which the heaviest keys of a destination are cut so that all together come to its limit. After core-stateless fair
 * queueing (Stoica, Shenker and Zhang, SIGCOMM 1998), with what keys above the share got counted apart: of what passed, P, the heavy part G grows
 * with the share and the rest does not, so limit = P - G + G · (new share / share).
 *
 * Each worker counts by destination and window, says what it counted in shared memory, and takes the sums of all.
 */
export class ShareControl {
  /** What the destination that was looked at may have, by May. */
  readonly may: Float64Array;
  private readonly accounts = new Float64Array(SHARE_ROWS * SHARE_CELLS * Account.SIZE);
  private readonly shares: Float64Array;
  /** The whole limit, and an even part of it for this worker. */
  private readonly settings: Float64Array;
  private readonly limit: number;
  private readonly least: number;

  constructor(
    spec: FairShareShared,
    private readonly worker: number,
    private readonly workers: number,
  ) {
    this.shares = new Float64Array(spec.shares);
    this.limit = spec.limit;
    this.settings = new Float64Array([spec.limit / workers, spec.limit]);
    this.may = new Float64Array([spec.limit, spec.limit]);
    const least = (LEAST_PACKETS * (spec.bytes ? PACKET_BYTES : 1) * 1000) / WINDOW_MS;
    this.least = Math.min(Math.max(least, spec.limit / 1024), spec.limit);
  }

  /** Counts what came for the destination with that hash, and ends its window when it is time. */
  offer(hash: number, weight: number, nowMs: number): void {
    this.offerCell(hash & (SHARE_CELLS - 1), weight, nowMs);
    this.offerCell(SHARE_CELLS + ((hash >>> 16) & (SHARE_CELLS - 1)), weight, nowMs);
  }

  /** Counts what the share let through. */
  pass(hash: number, weight: number, heavy: boolean): void {
    this.passCell(hash & (SHARE_CELLS - 1), weight, heavy);
    this.passCell(SHARE_CELLS + ((hash >>> 16) & (SHARE_CELLS - 1)), weight, heavy);
  }

  /** Sets `may` for the destination with that hash. */
  look(hash: number): void {
    const { accounts, may, settings } = this;
    const a = (hash & (SHARE_CELLS - 1)) * Account.SIZE;
    const b = (SHARE_CELLS + ((hash >>> 16) & (SHARE_CELLS - 1))) * Account.SIZE;
    const limit = settings[May.whole];
    const shareA = accounts[a + Account.share];
    const shareB = accounts[b + Account.share];
    // Not yet known in one of them: nothing stands against the limit.
    may[May.share] = shareA === 0 || shareB === 0 ? limit : shareA > shareB ? shareA : shareB;
    if (this.workers === 1) return;
    const partA = accounts[a + Account.part];
    const partB = accounts[b + Account.part];
    // Never less than an even part: else a worker with little could have little more of it in each window, whatever the others leave. What that is too much in
    // one window, the parts of the next take back.
    const even = settings[May.share];
    const mine = partA === 0 || partB === 0 ? 0 : limit * (partA > partB ? partA : partB);
    may[May.whole] = mine > even ? mine : even;
  }

  private offerCell(cell: number, weight: number, nowMs: number): void {
    const { accounts } = this;
    const at = cell * Account.SIZE;
    if (accounts[at + Account.begun] === 0) {
      accounts[at + Account.begun] = 1;
      accounts[at + Account.startMs] = nowMs;
    }
    const elapsed = since(nowMs, accounts[at + Account.startMs]);
    if (elapsed >= WINDOW_MS || elapsed < -WINDOW_MS) this.endWindow(cell, Math.abs(elapsed), nowMs);
    accounts[at + Account.offered] += weight;
  }

  private passCell(cell: number, weight: number, heavy: boolean): void {
    const at = cell * Account.SIZE;
    this.accounts[at + Account.passed] += weight;
    if (heavy) this.accounts[at + Account.heavy] += weight;
  }

  /** Says what this worker counted, sums what all said, and moves the share. Once a window and cell. */
  private endWindow(cell: number, elapsed: number, nowMs: number): void {
    const { accounts, shares, workers } = this;
    const at = cell * Account.SIZE;
    const first = cell * workers * ShareWord.SIZE;
    const mine = first + this.worker * ShareWord.SIZE;
    const perSecond = 1000 / elapsed;
    shares[mine + ShareWord.offered] = accounts[at + Account.offered] * perSecond;
    shares[mine + ShareWord.passed] = accounts[at + Account.passed] * perSecond;
    shares[mine + ShareWord.heavy] = accounts[at + Account.heavy] * perSecond;
    shares[mine + ShareWord.atMs] = nowMs;
    let offered = 0;
    let passed = 0;
    let heavy = 0;
    for (let i = 0; i < workers; i++) {
      const words = first + i * ShareWord.SIZE;
      if (Math.abs(since(nowMs, shares[words + ShareWord.atMs])) > SILENT_WINDOWS * WINDOW_MS) continue;
      offered += shares[words + ShareWord.offered];
      passed += shares[words + ShareWord.passed];
      heavy += shares[words + ShareWord.heavy];
    }
    accounts[at + Account.share] = this.next(accounts[at + Account.share], offered, passed, heavy);
    accounts[at + Account.part] = passed > 0 ? shares[mine + ShareWord.passed] / passed : 0;
    accounts[at + Account.startMs] = nowMs;
    accounts[at + Account.offered] = 0;
    accounts[at + Account.passed] = 0;
    accounts[at + Account.heavy] = 0;
  }

  private next(share: number, offered: number, passed: number, heavy: number): number {
    const { limit, least } = this;
    if (offered <= limit || passed === 0) return limit;
    const now = share === 0 ? limit : share;
    // Without a key above the share nothing says where it should be: lower, until there is one.
    const wanted = heavy === 0 ? (now * limit) / passed : (now * (limit - passed + heavy)) / heavy;
    // Near the mark what moves it is mostly noise.
    if (Math.abs(wanted - now) < NEAR * now) return Math.min(Math.max(now + (wanted - now) * CALM, least), limit);
    const low = now / STEP_MOST > least ? now / STEP_MOST : least;
    const high = now * STEP_MOST < limit ? now * STEP_MOST : limit;
    return wanted < low ? low : wanted > high ? high : wanted;
  }
}
