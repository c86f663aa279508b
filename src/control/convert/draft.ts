/** What the readers of other load balancers' configurations make: sluice's keys, as far as they are known, and notes about the rest. */

/** Text to convert, and what to call it in notes. */
export interface ConvertInput {
  name: string;
  text: string;
}

export interface Place {
  file: string;
  /** From 1; 0: the file as a whole. */
  line: number;
}

export interface ConvertNote extends Place {
  /** `lost`: it is not in what was made. `changed`: it is, and works differently. */
  kind: 'lost' | 'changed';
  message: string;
  /** What to do about it, one sentence or two; '' when the message says it all. */
  remedy: string;
}

/** The keys of docs/configuration.md that are ever made; what is left out has its default. */
export interface DraftBackend {
  address: string;
  weight?: number;
  state?: 'draining' | 'inactive';
  server_ids?: number[];
}

export interface DraftEncapsulation {
  kind?: 'ipip' | 'gue' | 'l2';
  source?: string[];
  gue?: { port: number; variant: 0 | 1; checksum?: 'computed' };
}

export interface DraftHealth {
  type: 'tcp' | 'http';
  port: number;
  path?: string;
  interval?: string;
  timeout?: string;
  rise?: number;
  fall?: number;
  through?: 'tunnel';
}

export interface DraftService {
  name: string;
  vip: string;
  port: 'any' | (number | string)[];
  protocol: 'tcp' | 'udp' | 'sctp';
  encapsulation?: DraftEncapsulation;
  hash?: 'katran' | 'katran-v2' | 'glb';
  hash_fields?: string[];
  glb?: { hash_key: string; seed: string };
  hops?: number;
  flow_table?: false;
  quic?: 'katran';
  stable_udp?: true;
  drain?: { udp: 'move' };
  health?: DraftHealth;
  /** Services that share the array share it in the file too, by an alias. */
  backends: DraftBackend[];
}

export interface Draft {
  flows?: { timeouts: { tcp_established?: string; tcp_closing?: string; udp?: string } };
  encapsulation?: DraftEncapsulation;
  icmp?: { echo: 'forward' | 'pass' };
  services: DraftService[];
}

/** Collects notes. Never more than `MAX_NOTES` of them: beyond that the input is something else. */
export class Notes {
  readonly list: ConvertNote[] = [];
  /** Counted, not kept. */
  more = 0;
  readonly #seen = new Set<string>();

  lost(place: Place, message: string, remedy = ''): void {
    this.#add({ file: place.file, line: place.line, kind: 'lost', message, remedy });
  }

  changed(place: Place, message: string, remedy = ''): void {
    this.#add({ file: place.file, line: place.line, kind: 'changed', message, remedy });
  }

  #add(whole: ConvertNote): void {
    const { message } = whole;
    const note =
      message.length > MESSAGE_MOST ? { ...whole, message: `${message.slice(0, MESSAGE_MOST - 1)}…` } : whole;
    // Several commands on one line may have the same to say, and several services of one table.
    const key = [note.file, note.line, note.kind, note.message].join('\n');
    if (this.#seen.has(key)) return;
    if (this.list.length < MAX_NOTES) {
      this.#seen.add(key);
      this.list.push(note);
    } else this.more++;
  }
}

const MAX_NOTES = 10_000;
/** Characters of a note: it may name what has no end in the file. */
const MESSAGE_MOST = 1000;
