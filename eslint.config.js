/**
 * What the linter holds, beyond the usual:
 *
 * 1. The walls of the house (`walls` below): who may import whom. The same table, checked on resolved paths and together
 *    with import cycles and file sizes, is in test/unit/architecture.test.ts; here it shows in the editor.
 * 2. Only src/native.ts loads native code. Nothing runs through a shell.
 * 3. In files that run for every packet (`hot`), the constructs that allocate or that V8 does not optimise.
 */
import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** Child processes get an argument array, never a string that a shell reads. */
const noShell = [
  {
    name: 'node:child_process',
    importNames: ['exec', 'execSync'],
    message: 'Use execFile or spawn with an argument array.',
  },
  { name: 'child_process', message: "Write 'node:child_process'." },
];

/** A rule entry for files behind one wall: patterns of module specifiers that they may not import. */
function wall(...patterns) {
  return {
    'no-restricted-imports': [
      'error',
      { paths: noShell, patterns: patterns.map(([regex, message]) => ({ regex, message })) },
    ],
  };
}

const SLOW_PLANES = [
  '/(control|cli|playground|bench)/',
  'The data plane imports only itself, shared/, native.ts and errors.ts.',
];
const PCAP = ['/pcap/', 'Only the pcap port (dataplane/ports/pcap.ts) reads capture files.'];
const DATA_PLANE = [
  '/dataplane/(?!verdict\\.js$)',
  'The control plane knows the data plane by shared/layout.ts only (verdict.js has the names).',
];
const ABOVE_CONTROL = ['/(cli|playground|generator|bench)/', 'control/ does not know who uses it.'];
const OUTSIDE_SHARED = [
  '^(\\.\\./)+(dataplane/|control/|cli/|playground/|pcap/|library|native|index|ts\\.js|public_enums)',
  'shared/ imports nothing outside itself but errors.ts.',
];
const ALL_BUT_ERRORS = [
  '^\\.\\.?/(?!(errors|native_live)\\.js$)',
  'native.ts stands at the bottom: it imports errors.ts only.',
];
const PCAP_OUTSIDE = ['/(dataplane|control|cli|playground)/', 'pcap/ reads and writes files; it knows neither plane.'];

const walls = [
  { files: ['src/dataplane/**'], ignores: ['src/dataplane/ports/pcap.ts'], rules: wall(SLOW_PLANES, PCAP) },
  { files: ['src/dataplane/ports/pcap.ts'], rules: wall(SLOW_PLANES) },
  {
    files: ['src/control/**'],
    ignores: ['src/control/replay*.ts', 'src/control/explain/**'],
    rules: wall(DATA_PLANE, ABOVE_CONTROL),
  },
  // Replay and explain run the data plane in the control plane's process over a capture file; that is what they are for.
  { files: ['src/control/replay*.ts', 'src/control/explain/**'], rules: wall(ABOVE_CONTROL) },
  { files: ['src/cli/**', 'src/playground/**', 'src/generator/**'], rules: wall(DATA_PLANE) },
  { files: ['src/pcap/**'], rules: wall(PCAP_OUTSIDE) },
  { files: ['src/shared/**'], rules: wall(OUTSIDE_SHARED) },
  { files: ['src/native.ts', 'src/errors.ts'], rules: wall(ALL_BUT_ERRORS) },
];

const noNativeLoading = [
  { selector: 'Literal[value=/\\.node$/]', message: 'Only src/native.ts loads native code.' },
  {
    selector: "MemberExpression[object.name='process'][property.name='dlopen']",
    message: 'Only src/native.ts loads native code.',
  },
];
const noShellOption = [
  { selector: "Property[key.name='shell'][value.value!=false]", message: 'No shell: pass an argument array.' },
];

/**
 * Runs once a packet or more. Constructors, table builders and error paths of the same files are free to allocate, so what
 * allocates is refused only inside loops; `throw new` stays allowed. Whatever is set up once belongs before the loop.
 */
/** Runs once when a worker starts or adopts a configuration. */
const notHot = ['src/dataplane/filter/{build,load,transpile,trial,typescript_hooks}.ts'];
const hot = [
  'src/dataplane/poll.ts',
  'src/dataplane/plain.ts',
  'src/dataplane/packet/**',
  'src/dataplane/balance/**',
  'src/dataplane/filter/**',
];
const LOOP = ':matches(ForStatement, WhileStatement, DoWhileStatement) > BlockStatement';
const CLOCK = "MemberExpression[object.name=/^(Date|performance)$/][property.name='now']";
const perPacket = [
  ['Literal[bigint]', 'BigInt allocates and is slow: use an int32 pair.'],
  ["CallExpression[callee.name='BigInt']", 'BigInt allocates and is slow: use an int32 pair.'],
  [':function[generator=true]', 'A generator allocates an object for each value.'],
  [':function[async=true]', 'The data path never waits for a Promise.'],
  ['WithStatement, ForInStatement', 'Enumerates properties by name: use an index.'],
  [
    'MemberExpression[property.name=/^(read|write)(U?Int|Float|Double)/]',
    'Buffer.readX costs 20-37 ns; use the DataView (4-5 ns).',
  ],
  [`${LOOP} ForOfStatement`, 'An iterator allocates: use an index.'],
  [`${LOOP} SpreadElement`, 'Spread allocates and iterates.'],
  [`${LOOP} ArrayPattern`, 'Array destructuring goes through an iterator.'],
  [`${LOOP} ArrowFunctionExpression`, 'A closure made for each packet.'],
  [`${LOOP} TemplateLiteral`, 'A string made for each packet.'],
  [`${LOOP} :not(ThrowStatement) > NewExpression`, 'An object made for each packet.'],
  [`${LOOP} ${CLOCK}`, 'Clocks are read once a burst, not in its loop.'],
].map(([selector, message]) => ({
  selector,
  message: `${message} (data path, see CONTRIBUTING.md)`,
}));

/** What plain JavaScript files (setup, runners, examples) may use without importing it. */
const NODE_GLOBALS =
  'process console performance Buffer URL AbortController AbortSignal fetch setTimeout clearTimeout setInterval clearInterval setImmediate'.split(
    ' ',
  );

export default defineConfig(
  { ignores: ['build/', 'dist/', 'dist-bench/', 'coverage/', 'node_modules/'] },
  js.configs.recommended,
  {
    files: ['**/*.mjs', '**/*.js'],
    languageOptions: {
      globals: Object.fromEntries(NODE_GLOBALS.map((name) => [name, 'readonly'])),
    },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommended],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/only-throw-error': 'error',
      // Our const enums are tables of offsets and flags: two names may well have one number.
      '@typescript-eslint/no-duplicate-enum-values': 'off',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'separate-type-imports' }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
    },
  },
  // Tests look for escape sequences in what is printed.
  { files: ['test/**/*.ts'], rules: { 'no-control-regex': 'off' } },
  {
    rules: {
      eqeqeq: 'error',
      'no-eval': 'error',
      'no-restricted-imports': ['error', { paths: noShell }],
      'no-restricted-syntax': ['error', ...noNativeLoading, ...noShellOption],
    },
  },
  ...walls,
  // setup.mjs names the addon as a file that it builds, tests may look whether it is there.
  { files: ['src/native.ts', 'setup.mjs', 'test/**'], rules: { 'no-restricted-syntax': ['error', ...noShellOption] } },
  {
    files: hot,
    ignores: notHot,
    rules: { 'no-restricted-syntax': ['error', ...noNativeLoading, ...noShellOption, ...perPacket] },
  },
);
