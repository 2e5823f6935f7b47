// The one way to make elements. Text goes in as text and never as markup, with what cannot be seen written out.
import { visible } from './text.ts';

export type Child = Node | string | number | null | undefined | false | readonly Child[];
type Handler = (event: never) => void;
export type Properties = Record<string, string | number | boolean | null | undefined | Handler>;

/** `el('button.quiet', { onclick, title }, 'Play')`: an element with classes, attributes and handlers, and children. */
export function el<Name extends string>(
  name: Name,
  properties: Properties = {},
  ...children: Child[]
): ElementOf<Name> {
  const [tag = 'div', ...classes] = name.split('.');
  const element = document.createElement(tag === '' ? 'div' : tag);
  if (classes.length > 0) element.className = classes.join(' ');
  return fill(element, properties, children) as ElementOf<Name>;
}

type TagOf<Name extends string> = Name extends `${infer Tag}.${string}` ? Tag : Name;
type ElementOf<Name extends string> =
  TagOf<Name> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[TagOf<Name>] : HTMLElement;

/** The same for SVG. */
export function svg(name: string, properties: Properties = {}, ...children: Child[]): SVGElement {
  const [tag = 'g', ...classes] = name.split('.');
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  if (classes.length > 0) element.setAttribute('class', classes.join(' '));
  return fill(element, properties, children);
}

/** Makes these the only children. */
export function put(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

function fill<E extends HTMLElement | SVGElement>(
  element: E,
  properties: Properties,
  children: readonly Child[],
): E {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function')
      element.addEventListener(name.slice(2), value as unknown as EventListener);
    else if (value === true) element.setAttribute(name, '');
    else element.setAttribute(name, visible(String(value)));
  }
  append(element, children);
  return element;
}

function append(parent: Element, children: readonly Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(parent, child);
    else parent.append(child instanceof Node ? child : visible(String(child)));
  }
}
