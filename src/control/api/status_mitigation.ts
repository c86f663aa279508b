import { mayLink } from '../../shared/cbpf/link.js';
import { Counter, RuleCounter } from '../../shared/layout.js';
import { TCP_REASONS } from '../metrics/mitigation.js';
import type { StatusMitigation } from './contract_mitigation.js';
import type { RuntimeView } from './view.js';

/** Does not change while the process runs. */
const CODE_GENERATION = mayLink();

export function mitigationStatus({ counters: book, limits }: RuntimeView): StatusMitigation {
  return {
    challenged: book.total(Counter.challengeActive),
    challenges: book.total(Counter.challenges),
    admitted: book.total(Counter.challengeAdmitted),
    connections: book.total(Counter.connections),
    learning: book.workers().flatMap((worker) => (worker.total(Counter.tcpLearning) > 0 ? [worker.queue] : [])),
    outOfState: Object.fromEntries(TCP_REASONS.map(([reason, counter]) => [reason, book.total(counter)])),
    programs: programCounts(book),
    codeGeneration: CODE_GENERATION,
    limits: limits.map(({ name, key }) => ({
      name,
      packets: book.rule(key, RuleCounter.packets),
      dropped: book.rule(key, RuleCounter.acted),
    })),
    limitTableFull: book.total(Counter.limitTableFull) + book.limitTableFullInKernel(),
  };
}

/** All workers have the same programs; some may not have compiled all of them yet. */
function programCounts(book: RuntimeView['counters']): StatusMitigation['programs'] {
  const counts = book.workers().map((worker) => ({
    js: worker.total(Counter.programsCompiled),
    interpreter: worker.total(Counter.programsInterpreted),
  }));
  return (
    counts.sort((one, two) => two.interpreter - one.interpreter || two.js - one.js)[0] ?? { js: 0, interpreter: 0 }
  );
}
