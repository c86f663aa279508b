import { Counter, RuleCounter } from '../../shared/layout.js';
import { TCP_REASONS } from '../metrics/mitigation.js';
import type { StatusMitigation } from './contract_mitigation.js';
import type { RuntimeView } from './view.js';

export function mitigationStatus({ counters: book, limits }: RuntimeView): StatusMitigation {
  return {
    challenged: book.total(Counter.challengeActive),
    challenges: book.total(Counter.challenges),
    admitted: book.total(Counter.challengeAdmitted),
    connections: book.total(Counter.connections),
    learning: book.workers().flatMap((worker) => (worker.total(Counter.tcpLearning) > 0 ? [worker.queue] : [])),
    outOfState: Object.fromEntries(TCP_REASONS.map(([reason, counter]) => [reason, book.total(counter)])),
    limits: limits.map(({ name, key }) => ({
      name,
      packets: book.rule(key, RuleCounter.packets),
      dropped: book.rule(key, RuleCounter.acted),
    })),
  };
}
