/** What the catalogue cannot take or give; the code says which of its reasons. */
export class CatalogueError extends Error {
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CatalogueError';
    this.code = code;
  }
}
