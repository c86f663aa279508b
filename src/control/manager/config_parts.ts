/** What the manager reads out of a configuration, or out of what is wrong with one. */
import { SluiceError } from '../../errors.js';
import { addressBits } from '../../shared/addr.js';
import type { Config, Prefix } from '../../shared/config.js';
import { ConfigError, type ConfigProblem } from '../config/index.js';

/** The destinations that come to user space. */
export function vipsOf(config: Config): Prefix[] {
  const outer = config.decapsulate.addresses.map((address) => ({ ...address, length: addressBits(address.family) }));
  // Errors about our own packets come back to their sources. Those of a prefix are nobody's but ours; an address is the host's.
  const sources = config.services.flatMap(({ encapsulation: { source4, source6 } }) =>
    [source4, source6].filter((prefix) => prefix !== null && prefix.length < addressBits(prefix.family)),
  ) as Prefix[];
  return [...config.services.map((service) => service.vip), ...outer, ...sources];
}

/** An error as problems of a file. */
export function problemsOf(error: unknown, file: string): ConfigProblem[] {
  if (error instanceof ConfigError) return [...error.problems];
  const remedy = error instanceof SluiceError ? error.remedy : '';
  const message = error instanceof Error ? error.message : String(error);
  return [{ file, line: 0, column: 0, path: '', message, remedy }];
}
