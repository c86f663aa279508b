/** Things that are due at a time: a binary heap, earliest first. */
export interface Due {
  dueMs: number;
  /** Where it stands in the queue; -1 outside. Written by the queue alone. */
  position: number;
}

export class DueQueue<T extends Due> {
  private readonly heap: T[] = [];

  get size(): number {
    return this.heap.length;
  }

  /** The one that is due first; undefined when there is none. */
  get first(): T | undefined {
    return this.heap[0];
  }

  add(item: T): void {
    item.position = this.heap.length;
    this.heap.push(item);
    this.up(item);
  }

  /** Does nothing when it is not there. */
  remove(item: T): void {
    const at = item.position;
    if (at < 0) return;
    item.position = -1;
    const last = this.heap.pop()!;
    if (last === item) return;
    this.put(last, at);
    this.up(last);
    this.down(last);
  }

  private put(item: T, at: number): void {
    this.heap[at] = item;
    item.position = at;
  }

  private up(item: T): void {
    let at = item.position;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.heap[parent].dueMs <= item.dueMs) break;
      this.put(this.heap[parent], at);
      at = parent;
    }
    this.put(item, at);
  }

  private down(item: T): void {
    let at = item.position;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.heap.length) break;
      if (child + 1 < this.heap.length && this.heap[child + 1].dueMs < this.heap[child].dueMs) child++;
      if (this.heap[child].dueMs >= item.dueMs) break;
      this.put(this.heap[child], at);
      at = child;
    }
    this.put(item, at);
  }
}
