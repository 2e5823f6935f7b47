// GRUB's scripts: what is run, with which words; and scripts that run for ever, or say nothing.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CatalogueError } from '../../../controller/images/error.ts';
import { type GrubMachine, grubEvents, noMachine } from '../../../controller/images/grub.ts';

const commands = (script: string, machine?: GrubMachine) =>
  grubEvents(script, 'grub.cfg', machine).map(({ kind, text }) => (kind === 'command' ? text : `= ${text}`));

const runs: [what: string, script: string, commands: string[]][] = [
  ['nothing', '# nothing\n\n;;\n', []],
  ['words', 'echo  a\t\'b  c\' "d  e" f\\ g h\\\ni # j\necho #k', ['echo a b  c d  e f g hi', 'echo']],
  ['a sign that begins no comment', 'echo a#b', ['echo a#b']],
  ['empty words', 'echo "" \'\' $none "$none" x', ['echo    x']],
  ['variables', 'set a="1 2"\necho $a "$a" \u0024{a}b \'$a\' \\$a', ['set a=1 2', 'echo 1 2 1 2 1 2b $a $a']],
  ['a variable that is the command', 'set c="echo hi"\n$c there\n$none', ['set c=echo hi', 'echo hi there']],
  ['assignment without set', 'a=1\nunset a\necho .$a.', ['a=1', 'unset a', 'echo ..']],
  ['functions and parameters', 'function f { echo $1 "$2" $# ; }\nf a "b c"', ['f a b c', 'echo a b c 2']],
  ['all parameters', 'function f { "$@"; }\nf echo "a  b"\nf', ['f echo a  b', 'echo a  b', 'f']],
  [
    'parameters after a call',
    'function g { true; }\nfunction f { g x; echo $1; }\nf a',
    ['f a', 'g x', 'true', 'echo a'],
  ],
  ['if', 'if [ a = a ]; then echo yes; else echo no; fi', ['[ a = a ]', 'echo yes']],
  [
    'elif and else',
    'if false; then echo 1\nelif [ "" ]; then echo 2\nelse echo 3\nfi',
    ['false', '[  ]', 'echo 3'],
  ],
  ['the last of a condition decides', 'if true; false; then echo 1; fi', ['true', 'false']],
  [
    'tests',
    'if [ 10 -gt 9 -a -n x -o a = b ]; then echo 1; fi\nif [ ! -z "" ]; then echo 2; fi',
    ['[ 10 -gt 9 -a -n x -o a = b ]', 'echo 1', '[ ! -z  ]'],
  ],
  ['a bracket that stands too close', 'if [ a == a]; then echo 1; else echo 2; fi', ['[ a == a]', 'echo 2']],
  [
    'regexp',
    'regexp --set d "^(hd[0-9]+)," hd1,gpt2\nregexp --set 2:e "(a)(b)" ab\necho $d $e',
    ['regexp --set d ^(hd[0-9]+), hd1,gpt2', 'regexp --set 2:e (a)(b) ab', 'echo hd1 b'],
  ],
  ['command lines', 'linux /k "a b" c\\"d', ['linux /k a b c"d', '= /k "a b" c\\"d']],
  [
    'the first entry of a menu',
    "menuentry 'A b' --class x {\n echo $1\n}\nmenuentry C { echo c; }",
    ['menuentry A b --class x {\n echo $1\n}', 'menuentry C { echo c; }', 'setparams A b', 'echo A b'],
  ],
  [
    'the default entry',
    'set default=1\nmenuentry A { echo a; }\nmenuentry C { echo c; }',
    ['set default=1', 'menuentry A { echo a; }', 'menuentry C { echo c; }', 'setparams C', 'echo c'],
  ],
];

for (const [what, script, expected] of runs)
  test(`runs: ${what}`, () => {
    assert.equal(commands(script), expected);
  });

test('another script is run where the machine has it, and passed over where it has not', () => {
  const files = new Map([
    ['/a.cfg', 'set x=1\n'],
    ['/b.cfg', null],
  ]);
  const machine = { ...noMachine, files };
  assert.equal(commands('source /a.cfg\nif source /b.cfg; then echo b; fi\necho $x', machine), [
    'source /a.cfg',
    'set x=1',
    'source /b.cfg',
    'echo 1',
  ]);
});

const refusals: [what: string, script: string, line: number, says: RegExp][] = [
  ['a loop', 'true\nfor i in 1 2; do echo $i; done', 2, /“for”/],
  ['while', 'while true; do true; done', 1, /“while”/],
  ['a branch without its end', 'if true; then\necho\n', 3, /“fi” is missing/],
  ['then without if', 'then', 1, /“then” begins nothing/],
  ['a brace too many', 'echo\n}\n', 2, /“}” begins nothing/],
  ['a quote that nothing closes', "echo\necho 'a", 2, /nothing closes “'”/],
  ['a double quote that nothing closes', 'echo "a\n\n', 1, /nothing closes “"”/],
  ['a function without a name', 'function { }', 1, /needs a name/],
  ['a function without a body', 'function f\necho', 2, /“{” is missing/],
  ['a pipe', 'echo a | b', 1, /“\|” is no part/],
  ['an entry without a block', 'menuentry x', 1, /without a block/],
  ['a test that nobody knows', 'if [ a -nt b ]; then true; fi', 1, /test a -nt b/],
  ['a broken expression', 'regexp "(" a', 1, /regular expression/],
  ['a file that only the machine knows', '\nif [ -f /x ]; then true; fi', 2, /whether there is a file \/x/],
  ['the root that only the machine knows', 'echo $root', 1, /only the machine knows \$root/],
  ['what a command found', 'probe --set u --fs-uuid x\nsearch --set=r x\necho "$r"', 3, /\$r/],
  ['the status of a command', 'echo $?', 1, /\$\?/],
  ['a backslash at the end', 'echo \\', 1, /backslash/],
];

for (const [what, script, line, says] of refusals)
  test(`refused: ${what}`, () => {
    assert.throws(
      () => commands(script),
      (error: unknown) =>
        error instanceof CatalogueError &&
        error.code === 'image.grub' &&
        error.message.startsWith(`grub.cfg, line ${line}: `) &&
        says.test(error.message),
    );
  });

test('scripts that never end, and such as make much out of little', () => {
  const bombs = [
    'function f { f; }\nf',
    'function f { g; }\nfunction g { f; }\nf',
    `${'if true; then '.repeat(60)}true${'; fi'.repeat(60)}`,
    `function f { true; true; }\n${Array.from({ length: 20 }, (_, i) => `function g${i} { ${i === 0 ? 'f' : `g${i - 1}`}; ${i === 0 ? 'f' : `g${i - 1}`}; }`).join('\n')}\ng19`,
    `set a=aaaaaaaaaaaaaaaa\n${'set a=$a$a\n'.repeat(30)}`,
  ];
  for (const bomb of bombs)
    assert.throws(
      () => commands(bomb),
      (error: unknown) => error instanceof CatalogueError && error.code === 'image.grub',
    );
});

test('whatever a script is, there is an answer or a clear refusal', () => {
  const pieces = [
    'if',
    'then',
    'fi',
    'else',
    ' ',
    '\n',
    ';',
    '{',
    '}',
    '"',
    "'",
    '\\',
    '$a',
    '\u0024{a}',
    '$',
    '[',
    ']',
    'f',
    'function',
    'menuentry',
    'x=1',
    '#',
    '-n',
    '|',
  ];
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 3 })), { maxLength: 40 }),
      (parts) => {
        try {
          commands(parts.join(''));
        } catch (error) {
          assert.instance(error, CatalogueError);
        }
      },
    ),
    { numRuns: 3000 },
  );
});

test.run();
