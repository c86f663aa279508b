/** Errors as the command line prints them. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

it('an error names what was given without anything that steers a terminal', () => {
  // An unclosed sequence that sets the window's title, a C1 control, a change of direction.
  const given = 'tcp 192.0.2.1:1 > \u009b1A\u001b]0;x\u202e';
  const { status, stderr } = spawnSync(process.execPath, [main, 'explain', given, '-c', '/dev/null'], {
    encoding: 'utf8',
  });
  expect(status).toBe(2);
  expect(stderr).toMatch(/^sluice: .*is no address/);
  expect(stderr.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\u202e]/u);

  const dns = spawnSync(process.execPath, [main, 'rules', 'compile', '--dns', 'ü\u001b[2J.example'], {
    encoding: 'utf8',
  });
  expect(dns.status).not.toBe(0);
  expect(dns.stderr).toMatch(/no internationalised name/);
  expect(dns.stderr.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
});
