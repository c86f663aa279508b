/**
 * A state that a few results in a row change: `rise` good ones bring it up, `fall` bad ones take it down, and one result of the
 * other kind starts the count again. The first result of all decides at once: nothing is known that it could contradict.
 */
export class RiseFall {
  /** null before the first result. */
  up: boolean | null = null;
  /** Results in a row that contradict the state. */
  private against = 0;

  /** Both at least 1. */
  constructor(
    private rise: number,
    private fall: number,
  ) {}

  /** Takes a result; returns whether the state changed. */
  take(good: boolean): boolean {
    if (good === this.up) {
      this.against = 0;
      return false;
    }
    if (this.up !== null && ++this.against < (good ? this.rise : this.fall)) return false;
    this.against = 0;
    this.up = good;
    return true;
  }

  /** Goes on with other thresholds. The state stays; what was counted against it is forgotten. */
  retune(rise: number, fall: number): void {
    if (rise === this.rise && fall === this.fall) return;
    this.rise = rise;
    this.fall = fall;
    this.against = 0;
  }
}
