export const AWAY = "The server is not answering.";
export const OFFLINE = "You are offline.";
export const OTHER_USER = "Another user has signed in. Sign in again to continue.";

/** Notices of the sign-in page, by their name in the address; ignores unknown names. */
const NOTICES = {
  ended: "You have been signed out. Sign in to continue.",
  "signed-out": "You are signed out.",
  deleted: "Your account and its todos have been deleted.",
};

/** Why a plain form changed nothing. */
const FAILURES = {
  "wrong-password": "The password is wrong, so nothing was changed.",
  "too-many-attempts": "Too many passwords were wrong. Wait a few minutes, then try again.",
  "password-length": "A password has 8 to 128 characters. Nothing was changed.",
  "other-user": "Another user has signed in, so nothing was changed.",
  refused: "The server refused this change. Check what you entered.",
  unavailable: "The server is not answering, so nothing was changed. Try again.",
};

const textOf = (texts: Record<string, string>, name: string) => (Object.hasOwn(texts, name) ? texts[name] : undefined);

export const noticeText = (name: string | null) => (name === null ? undefined : textOf(NOTICES, name));

/** `failed`: a name from the address; unknown names mean "unavailable". */
export const formFailureText = (failed: string | null) =>
  failed === null ? undefined : (textOf(FAILURES, failed) ?? FAILURES.unavailable);
