/** What EVC signs of an image: its version, the SHA-256 of its file in hex, and its size in bytes. */
export function imageManifest(image: { version: string; sha256: string; size: number }): Uint8Array {
  return new TextEncoder().encode(`eve-attest image 1\n${image.version}\n${image.sha256}\n${image.size}\n`);
}
