/** How far a run of benches is, and about how long it will take. */

export interface Planned {
  name: string;
  /** About how long it takes. */
  seconds: number;
}

/**
 * Estimates the time left: of the bench that runs by the part of it that is done, of those after it by what was planned for them. Times are in seconds, from
 * any one clock.
 */
export class Progress {
  private readonly start: number;
  private current = -1;
  private since = 0;
  private done = 0;

  constructor(
    private readonly planned: readonly Planned[],
    private readonly now: () => number = () => performance.now() / 1000,
  ) {
    this.start = now();
  }

  get elapsed(): number {
    return this.now() - this.start;
  }

  /** The next bench begins; returns its title. */
  next(): string {
    this.current++;
    this.since = this.now();
    this.done = 0;
    const { name, seconds } = this.planned[this.current];
    const place = this.planned.length > 1 ? ` (${this.current + 1} of ${this.planned.length})` : '';
    return `${name}${place}: about ${duration(seconds)}`;
  }

  /** So much of the bench that runs is done, 0 to 1. */
  reach(part: number): void {
    this.done = part;
  }

  /** Seconds, 0 when it takes longer than was thought. */
  get left(): number {
    if (this.current < 0) return sum(this.planned);
    const planned = this.planned[this.current].seconds;
    const spent = this.now() - this.since;
    // What a tenth took says more than the plan, which is of another machine.
    const whole = this.done >= 0.1 ? spent / this.done : planned;
    return Math.max(whole - spent, 0) + sum(this.planned.slice(this.current + 1));
  }

  /** "[ 1:05, 3:20 left]" */
  get stamp(): string {
    return `[${clock(this.elapsed)}, ${clock(this.left)} left]`;
  }
}

function sum(planned: readonly Planned[]): number {
  return planned.reduce((total, { seconds }) => total + seconds, 0);
}

/** "12:05", minutes and seconds. */
function clock(seconds: number): string {
  const whole = Math.round(seconds);
  return `${String(Math.floor(whole / 60)).padStart(2)}:${String(whole % 60).padStart(2, '0')}`;
}

/** "45 s", "3 min": no more digits than an estimate has. */
export function duration(seconds: number): string {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
