/**
 * The inside of the playground's helper programs: options as JSON in argv, messages as JSON lines on stdout, requests as
 * JSON lines on stdin. A helper ends with its parent, whose end of stdin closes even when the parent is killed.
 */
import { splitLines } from './process.js';

/** A request from the parent; `op` says what it wants. */
export interface Request {
  op: string;
}

/** The options that the parent passed. */
export function childOptions<T>(): T {
  const text = process.argv[2];
  if (text === undefined) {
    process.stderr.write(
      'a helper of the playground, started by it with options as JSON; not meant to be run by hand\n',
    );
    process.exit(2);
  }
  return JSON.parse(text) as T;
}

/** Sends one message to the parent. */
export function emit(message: object): void {
  process.stdout.write(JSON.stringify(message) + '\n');
}

/**
 * Calls `onRequest` for each request, `onParentGone` (default: exit) when the parent is gone. `beforeExit`: what has to be done
 * first when it is asked to end.
 */
export function serve(
  onRequest: (request: Request) => void,
  onParentGone?: () => void,
  beforeExit: () => Promise<void> = () => Promise.resolve(),
): void {
  const exit = (): void => void beforeExit().finally(() => process.exit(0));
  // The parent may stop reading at any time; what is unread then is of no use to anybody.
  process.stdout.on('error', () => undefined);
  splitLines(process.stdin, (line) => onRequest(JSON.parse(line) as Request));
  process.stdin.on('end', onParentGone ?? exit);
  process.once('SIGTERM', exit);
}
