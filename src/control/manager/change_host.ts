import type { Config } from '../../shared/config.js';
import type { Log } from '../log.js';

/** What of the daemon those work on that change it at run time. */
export interface ChangeHost {
  log: Log;
  /** One change of the daemon at a time, in order. */
  serialize<T>(change: () => Promise<T>): Promise<T>;
  /** The configuration in force, as its file has it. */
  config(): Config;
  generation(): number;
  /** Builds tables of what is wanted now, and has all workers adopt them; on failure the former ones stand, and it throws. */
  publish(): Promise<void>;
  /** Tables of what is in force, after a failure. */
  goBack(): Promise<void>;
}
