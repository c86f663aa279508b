import { expect, it } from 'vitest';
import { mitigationLines } from '../../src/cli/status_mitigation.js';
import type { StatusMitigation } from '../../src/control/api/contract_mitigation.js';

const QUIET: StatusMitigation = {
  challenged: 0,
  challenges: 0,
  admitted: 0,
  connections: 0,
  learning: [],
  outOfState: { tcp_not_found: 0 },
  programs: { js: 2, interpreter: 0 },
  codeGeneration: true,
  limits: [],
  limitTableFull: 0,
};

it('says nothing of stages where nothing happens', () => {
  expect(mitigationLines(QUIET)).toEqual([]);
});

it('has a line for each limit, and one for tables that were full', () => {
  const limits = [{ name: 'dns', packets: 12_000, dropped: 10 }];
  expect(mitigationLines({ ...QUIET, limits, limitTableFull: 1 })).toEqual([
    'limit dns: 12,000 packets, 10 above it',
    '1 packet dropped because the table of a limit was full',
  ]);
});
