import type { StatusMitigation } from '../control/api/contract_mitigation.js';
import { count, plural } from './output.js';

/** What is going on in the stages of mitigation, a line each; [] when nothing is and nothing was. */
export function mitigationLines(status: StatusMitigation): string[] {
  const {
    challenged,
    challenges,
    admitted,
    connections,
    learning,
    outOfState,
    programs,
    codeGeneration,
    limits,
    limitTableFull,
  } = status;
  const lines: string[] = [];
  if (challenged > 0 || challenges > 0) {
    const now = challenged > 0 ? `on for ${plural(challenged, 'destination')}` : 'not needed now';
    lines.push(`SYN challenge ${now}: ${count(challenges)} asked, ${count(admitted)} SYNs let through`);
  }
  const strays = Object.entries(outOfState).filter(([, packets]) => packets > 0);
  if (connections > 0 || learning.length > 0 || strays.length > 0) {
    const state = learning.length > 0 ? `, learning on ${plural(learning.length, 'queue')}` : '';
    const reasons = strays.map(([reason, packets]) => `${reason} ${count(packets)}`).join('  ');
    lines.push(`${plural(connections, 'TCP connection')}${state}${reasons === '' ? '' : `: ${reasons}`}`);
  }
  if (programs.interpreter > 0) {
    const why = codeGeneration ? '' : ': no code generation';
    lines.push(`${plural(programs.interpreter, 'match program')} interpreted, ${programs.js} as JavaScript${why}`);
  }
  for (const { name, packets, dropped } of limits) {
    lines.push(`limit ${name}: ${count(packets)} packets, ${count(dropped)} above it`);
  }
  if (limitTableFull > 0) {
    lines.push(`${plural(limitTableFull, 'packet')} dropped because the table of a limit was full`);
  }
  return lines;
}
