/**
 * Errors that a person is meant to read: what went wrong, where, and what to do about it.
 *
 * `code` is stable and may be matched in programs; `message` may change. Errors from the kernel come from the native
 * addon as plain Errors with `code` ("EBUSY"), `errno`, `syscall` and `remedy`; see `native.ts`.
 */
export type SluiceErrorCode =
  | 'SLUICE_USAGE'
  | 'SLUICE_CONFIG'
  | 'SLUICE_DEVICE'
  | 'SLUICE_PERMISSION'
  | 'SLUICE_CONTROL'
  | 'SLUICE_FORMAT'
  | 'SLUICE_NATIVE'
  | 'SLUICE_STATE';

export class SluiceError extends Error {
  override readonly name = 'SluiceError';
  constructor(
    readonly code: SluiceErrorCode,
    message: string,
    /** What the reader can do next, one sentence, or "" when the message says it all. */
    readonly remedy = '',
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** An error that the kernel answered, as the addon throws it. */
export interface KernelError extends Error {
  /** Symbolic errno, for example "EBUSY". */
  code: string;
  errno: number;
  syscall: string;
  /** What to do next, one sentence. */
  remedy: string;
}

export function isKernelError(error: unknown): error is KernelError {
  return error instanceof Error && typeof (error as Partial<KernelError>).syscall === 'string';
}

/** Exit codes of the command line, after BSD's sysexits(3) where it has a name for the case. */
export const ExitCode = { ok: 0, failure: 1, usage: 2, device: 69, permission: 77, config: 78 } as const;

/** The exit code that an error deserves. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof SluiceError) {
    switch (error.code) {
      case 'SLUICE_USAGE':
        return ExitCode.usage;
      case 'SLUICE_CONFIG':
        return ExitCode.config;
      case 'SLUICE_DEVICE':
        return ExitCode.device;
      case 'SLUICE_PERMISSION':
        return ExitCode.permission;
      default:
        return ExitCode.failure;
    }
  }
  if (isKernelError(error)) {
    if (error.code === 'EPERM' || error.code === 'EACCES') return ExitCode.permission;
    return ['ENODEV', 'EBUSY', 'ENETDOWN', 'EOPNOTSUPP', 'ENXIO', 'EEXIST'].includes(error.code)
      ? ExitCode.device
      : ExitCode.failure;
  }
  return ExitCode.failure;
}
