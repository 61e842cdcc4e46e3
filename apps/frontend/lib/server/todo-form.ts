import { signInAddress } from "@/lib/account/account-forms";
import { ApiError } from "@/lib/api/api";
import { formText } from "@/lib/page/form-text";
import { destination, performForm } from "./form-actions";
import { apiFor, readForm, seeOther } from "./form-request";

/** Plain forms of the list. */
export async function todoForm(request: Request): Promise<Response> {
  const form = await readForm(request);
  if (form instanceof Response) return form;
  const cookies: string[] = [];
  try {
    await performForm(apiFor((name) => request.headers.get(name), 5_000, (cookie) => cookies.push(cookie), { form }), form);
  } catch (error) {
    // Typed text must not reach another user's page.
    if (error instanceof ApiError && error.problem.code === "other-user") return seeOther("/?failed=other-user", cookies);
    if (error instanceof ApiError && error.signedOut) {
      const [next, title] = [formText(form, "back"), formText(form, "title")];
      return seeOther(signInAddress({ notice: "ended", next, title }), cookies);
    }
    console.error("form:", error instanceof Error ? error.message : error);
    return seeOther(destination(form, error), cookies);
  }
  return seeOther(destination(form), cookies);
}
