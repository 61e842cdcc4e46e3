import { afterSignIn, check, complaintsOf, type Mode, signInAddress } from "./account-forms";
import { ApiError, type Api } from "@/lib/api/api";
import { formText } from "@/lib/page/form-text";
import type { Returned } from "./returned-form";

export interface Outcome {
  location: string;
  returned?: Returned;
}

export const DELETE_ACCOUNT = "/account/delete";
const ACCOUNT = "/account";

export async function performAccountForm(api: Api, form: FormData): Promise<Outcome> {
  const text = (name: string) => formText(form, name);
  switch (text("do")) {
    case "sign-in":
    case "sign-up":
      return enter(api, text("do") as Mode, text);
    case "sign-out":
      return leave(() => api.signOut(), "signed-out", "/");
    case "delete-account":
      return leave(() => api.deleteAccount(text("password")), "deleted", DELETE_ACCOUNT);
    case "sign-out-everywhere":
      return leave(() => api.signOut(true), "signed-out", ACCOUNT);
    case "change-password":
      return leave(() => api.changePassword({ password: text("password"), new_password: text("new-password") }), null, ACCOUNT);
    default:
      throw new ApiError("This form requests an unknown action.", 400);
  }
}

async function enter(api: Api, mode: Mode, text: (name: string) => string): Promise<Outcome> {
  const [email, password] = [text("email"), text("password")];
  let complaints = check(mode, email, password);
  if (complaints.length === 0) {
    try {
      await (mode === "sign-up" ? api.signUp({ email, password }) : api.signIn({ email, password }));
      return { location: afterSignIn(text("next"), text("title")) };
    } catch (error) {
      complaints = complaintsOf(error);
    }
  }
  const location = signInAddress({ next: text("next"), title: text("title") }).replace("/sign-in", `/${mode}`);
  return { location, returned: { mode, email, complaints } };
}

async function leave(act: () => Promise<unknown>, notice: string | null, failed: string): Promise<Outcome> {
  try {
    await act();
  } catch (error) {
    // Without a session there is nothing to end and no account to delete.
    if (error instanceof ApiError && error.signedOut) return { location: signInAddress({ notice: "ended" }) };
    const { transient, status, problem } = error instanceof ApiError ? error : new ApiError("", 0);
    const known = problem.code === "wrong-password" || problem.code === "too-many-attempts" ? problem.code : null;
    const reason = known ?? (transient ? "unavailable" : status === 422 ? "password-length" : "refused");
    return { location: `${failed}?failed=${reason}` };
  }
  return { location: notice === null ? `${failed}?changed=` : signInAddress({ notice }) };
}
