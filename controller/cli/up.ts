export async function up(_options: object): Promise<void> {}
