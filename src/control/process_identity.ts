/** Which process a number stands for, so that a recycled pid is not taken for its former owner. */
import { readFileSync } from 'node:fs';

/** Field 22 of /proc/PID/stat: start time in clock ticks since boot. undefined when the process is gone or a zombie. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name stands in parentheses and may hold anything, so the fields are counted from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
