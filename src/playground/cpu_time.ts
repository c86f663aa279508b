/** CPU time that a process has used, from /proc (proc(5)). */
import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** Linux tells user space of ticks of 10 ms (USER_HZ), whatever the kernel's own tick is. */
export const TICK_NS = 1e7;

/**
 * Nanoseconds on a CPU, over all threads that run now; what ended threads have used is not in it. Interrupts are the thread's that
 * they came upon, as the kernel counts. Without CONFIG_SCHED_INFO: to 10 ms, ended threads included. Throws ENOENT when there is no such process.
 */
export function cpuTimeNs(pid: number): number {
  if (!existsSync(`/proc/${pid}/schedstat`)) return ticks(pid) * TICK_NS;
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.reduce((sum, thread) => sum + onCpuNs(pid, thread), 0);
}

function onCpuNs(pid: number, thread: string): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0]);
  } catch {
    // Ended since the directory was read.
    return 0;
  }
}

/** All threads, ended ones too. */
export function ticks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The name, in parentheses, may have spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // utime and stime.
  return Number(fields[11]) + Number(fields[12]);
}
