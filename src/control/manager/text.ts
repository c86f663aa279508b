/** One line for a log or a status field. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const remedy = (error as Error & { remedy?: string }).remedy;
  return remedy ? `${error.message}. ${remedy}` : error.message;
}
