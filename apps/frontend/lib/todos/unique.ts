/** Returns 32 hexadecimal digits. `crypto.randomUUID` needs a secure context, but the page may use plain HTTP. */
export function unique(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
