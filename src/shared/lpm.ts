/** Longest-prefix match: control builds the table, workers look up. The layout is documented in `lpm_lookup.ts`. */
export { buildLpm, type LpmEntry } from './lpm_build.js';
export { LPM_VALUE_MOST, NO_MATCH, lookupLpm4, lookupLpm6 } from './lpm_lookup.js';
