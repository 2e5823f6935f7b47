// What a source file imports, in whichever way it says so.
export interface Import {
  /** As written. */
  from: string;
  /** Nothing of it is there at run time. */
  typeOnly: boolean;
}

const clause = String.raw`[\w$*{},\s]+?`;
const statement = new RegExp(
  String.raw`(?:^|[;}\n])\s*(import|export)\s+(type\s+)?(?:${clause}\s*from\s*)?(['"])([^'"\n]+)\3`,
  'g',
);
const dynamic = /(?<![.\w$])import\s*\(\s*(?:(['"])([^'"\n]+)\1\s*[,)])?/g;

/** Throws where a file imports something that only its run time knows. */
export function importsOf(source: string): Import[] {
  const code = withoutComments(source);
  const found: Import[] = [];
  for (const [, , type, , from = ''] of code.matchAll(statement)) {
    found.push({ from, typeOnly: type !== undefined });
  }
  for (const [text, , from] of code.matchAll(dynamic)) {
    if (from === undefined) throw new Error(`nobody can tell what ${text} imports`);
    found.push({ from, typeOnly: false });
  }
  return found;
}

/** Comments become a space; what is in quotes stays, and what is in a template literal goes: no import is written there. */
function withoutComments(source: string): string {
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`|\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*(?=\s*[.,;)\]])/g;
  return source.replace(token, (text) => {
    if (text.startsWith('/') || text.startsWith('`')) return ' ';
    return text;
  });
}
