/** What is wrong with a configuration, as text to compare. */
import { expect } from 'vitest';
import { ConfigError, type ConfigProblem, parseConfig } from '../../src/control/config/index.js';

export function errorOf(run: () => unknown): ConfigError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error as ConfigError;
  }
  throw new Error('the configuration was accepted');
}

/** The problems of a configuration with one interface and `more`, each as "line:column path: message | remedy". */
export function problems(more: string): string[] {
  return errorOf(() => parseConfig(`interfaces: [eth0]\n${more}`, 'sluice.yaml')).problems.map(short);
}

export function short(problem: ConfigProblem): string {
  return `${problem.line}:${problem.column} ${problem.path}: ${problem.message} | ${problem.remedy}`;
}

export function serviceProblems(fields: string): string[] {
  return problems(`services: [{name: web, vip: 198.51.100.10, ${fields}}]`);
}

export function ruleProblems(match: string): string[] {
  return problems(`rules: [{name: r, match: {${match}}, action: drop}]`);
}
