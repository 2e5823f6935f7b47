// What a mutant is made of: one small change of a source file, as somebody makes it by mistake. What is only said to people, and
// types, are left alone.
import {
  isArrayLiteralExpression,
  isBinaryExpression,
  isCallExpression,
  isConditionalExpression,
  isDoStatement,
  isExpressionStatement,
  isForStatement,
  isIfStatement,
  isImportDeclaration,
  isInterfaceDeclaration,
  isLiteralTypeNode,
  isNewExpression,
  isNumericLiteral,
  isPrefixUnaryExpression,
  isPropertyAccessExpression,
  isPropertyAssignment,
  isRegularExpressionLiteral,
  isStringLiteral,
  isTypeAliasDeclaration,
  isTypeNode,
  isVariableDeclaration,
  isWhileStatement,
  type Node,
  type SourceFile,
  SyntaxKind,
} from 'typescript/unstable/ast';

export interface Change {
  /** Where in the text, as offsets. */
  start: number;
  end: number;
  /** What stands there instead. */
  text: string;
  /** A statement that is left out; everything else is an expression. */
  statement: boolean;
}

const { AmpersandToken, BarToken, CaretToken, AmpersandAmpersandToken, BarBarToken, QuestionQuestionToken } =
  SyntaxKind;

/** Of each operator, what it is mistaken for: the bound, and the opposite. */
const operators = new Map<SyntaxKind, readonly string[]>([
  [SyntaxKind.LessThanToken, ['<=', '>=']],
  [SyntaxKind.LessThanEqualsToken, ['<', '>']],
  [SyntaxKind.GreaterThanToken, ['>=', '<=']],
  [SyntaxKind.GreaterThanEqualsToken, ['>', '<']],
  [SyntaxKind.EqualsEqualsEqualsToken, ['!==']],
  [SyntaxKind.ExclamationEqualsEqualsToken, ['===']],
  [SyntaxKind.PlusToken, ['-']],
  [SyntaxKind.MinusToken, ['+']],
  [SyntaxKind.AsteriskToken, ['/']],
  [SyntaxKind.SlashToken, ['*']],
  [SyntaxKind.PercentToken, ['*']],
  [AmpersandToken, ['|']],
  [BarToken, ['&']],
  [CaretToken, ['&']],
  [SyntaxKind.LessThanLessThanToken, ['>>']],
  [SyntaxKind.GreaterThanGreaterThanToken, ['<<']],
]);
const logical: ReadonlySet<SyntaxKind> = new Set([
  AmpersandAmpersandToken,
  BarBarToken,
  QuestionQuestionToken,
]);
const methods = new Map([
  ['every', 'some'],
  ['some', 'every'],
  ['min', 'max'],
  ['max', 'min'],
]);
const jumps: ReadonlySet<SyntaxKind> = new Set([
  SyntaxKind.ReturnStatement,
  SyntaxKind.ThrowStatement,
  SyntaxKind.ContinueStatement,
  SyntaxKind.BreakStatement,
]);
/** Properties that hold words for people. */
const words: ReadonlySet<string> = new Set(['text', 'remedy', 'hint']);

export function changesOf(source: SourceFile): Change[] {
  const changes: Change[] = [];
  const textOf = (node: Node) => source.text.slice(node.getStart(source), node.end);
  const add = (node: Node, text: string, statement = false) => {
    changes.push({ start: node.getStart(source), end: node.end, text, statement });
  };

  const condition = (node: Node) => {
    // Already what it would become.
    const { kind } = node;
    if (kind !== SyntaxKind.TrueKeyword) add(node, 'true');
    if (kind !== SyntaxKind.FalseKeyword) add(node, 'false');
  };

  const look = (node: Node): void => {
    if (isTypeNode(node) || isInterfaceDeclaration(node) || isTypeAliasDeclaration(node)) return;
    if (isImportDeclaration(node) || isLiteralTypeNode(node)) return;
    if (isPropertyAssignment(node)) {
      // Its name is no expression.
      if (!words.has(textOf(node.name))) look(node.initializer);
      return;
    }
    if (isNewExpression(node) && /Error$/.test(textOf(node.expression))) return;
    if (isIfStatement(node) || isDoStatement(node)) condition(node.expression);
    if (isWhileStatement(node)) add(node.expression, 'false');
    if (isForStatement(node) && node.condition) add(node.condition, 'false');
    if (isConditionalExpression(node)) condition(node.condition);
    if (isBinaryExpression(node)) {
      const { left, right, operatorToken } = node;
      const said = isStringLiteral(left) || isStringLiteral(right) || /^[`']/.test(textOf(left));
      for (const operator of operators.get(operatorToken.kind) ?? [])
        if (operator !== '-' || !said) add(node, `${textOf(left)} ${operator} ${textOf(right)}`);
      if (logical.has(operatorToken.kind)) for (const side of [left, right]) add(node, textOf(side));
    }
    if (isPrefixUnaryExpression(node)) {
      const { operator, operand } = node;
      if (operator === SyntaxKind.ExclamationToken || operator === SyntaxKind.MinusToken)
        add(node, textOf(operand));
    }
    if (node.kind === SyntaxKind.TrueKeyword) add(node, 'false');
    if (node.kind === SyntaxKind.FalseKeyword) add(node, 'true');
    if (isNumericLiteral(node)) add(node, `${Number(node.text.replaceAll('_', '')) + 1}`);
    if (isRegularExpressionLiteral(node)) add(node, '/(?:)/');
    if (isArrayLiteralExpression(node) && isListed(node))
      for (const left of node.elements)
        add(
          node,
          `[${[...node.elements]
            .filter((one) => one !== left)
            .map(textOf)
            .join(', ')}]`,
        );
    if (isCallExpression(node) && isPropertyAccessExpression(node.expression)) {
      const { expression, name } = node.expression;
      const other = methods.get(textOf(name));
      const dot = source.text.slice(expression.end, name.getStart(source));
      const given = source.text.slice(name.end, node.end);
      if (other !== undefined) add(node, `${textOf(expression)}${dot}${other}${given}`);
      if (textOf(name) === 'filter') add(node, textOf(expression));
    }
    if (isExpressionStatement(node) || jumps.has(node.kind)) add(node, '', true);
    node.forEachChild(look);
  };
  look(source);
  return changes;
}

/** A list that something is looked up in: of a set, or a constant of the file. */
function isListed(node: Node): boolean {
  const { parent } = node;
  if (isNewExpression(parent)) return true;
  const declared = parent.kind === SyntaxKind.AsExpression ? parent.parent : parent;
  return isVariableDeclaration(declared) && declared.parent?.parent?.parent?.kind === SyntaxKind.SourceFile;
}
