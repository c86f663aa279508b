/** Benches whose trials are children that another revision has as well: what `--compare` can take in turn. The first is taken where none is named. */
export const COMPARED: readonly string[] = ['path', 'ways', 'filters', 'micro'];
