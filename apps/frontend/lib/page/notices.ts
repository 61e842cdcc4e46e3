/** What the address may ask sign-in to say; anything else in it is not shown. */
const NOTICES = {
  ended: "You have been signed out. Sign in to go on.",
  "signed-out": "You are signed out.",
  deleted: "Your account and its todos have been deleted.",
} as const;

export function noticeText(name: string | null): string | undefined {
  return name !== null && Object.hasOwn(NOTICES, name) ? NOTICES[name as keyof typeof NOTICES] : undefined;
}

export const OTHER_USER = "Another user has signed in. Sign in again to go on.";

export function formFailureText(failed: string | null): string | undefined {
  if (failed === null) return undefined;
  if (failed === "wrong-password") return "The password is wrong, so nothing was changed.";
  if (failed === "too-many-attempts") return "Too many passwords were wrong. Wait a few minutes, then try again.";
  if (failed === "password-length") return "A password has 8 to 128 characters. Nothing was changed.";
  if (failed === "other-user") return "Another user has signed in, so nothing was changed.";
  return failed === "refused"
    ? "The server refused this change. Check what you entered."
    : "The server is not answering, so nothing was changed. Try again.";
}
