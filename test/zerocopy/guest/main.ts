/** The program that the guest runs. Argument: a part of the names of the tests to run. */
import { runTests } from './harness.js';
import { nameInterfaces, release } from './pairs.js';
import './sockets.js';
import './faults.js';
import './daemon.js';

nameInterfaces();
await runTests(process.argv[2] ?? '', release);
// Whatever a test has left running does not keep the machine up.
process.exit(0);
