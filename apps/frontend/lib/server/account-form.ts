import { performAccountForm } from "@/lib/account/account-actions";
import { ApiError } from "@/lib/api/api";
import { apiFor, readForm, refusal, seeOther } from "./form-request";
import { returnedCookie } from "@/lib/account/returned-form";

/** Plain forms for sign-up, sign-in, sign-out and deleting the account. */
export async function accountForm(request: Request): Promise<Response> {
  const form = await readForm(request);
  if (form instanceof Response) return form;
  const cookies: string[] = [];
  try {
    const api = apiFor((name) => request.headers.get(name), 10_000, (cookie) => cookies.push(cookie), { form });
    const { location, returned } = await performAccountForm(api, form);
    const secure = request.headers.get("x-forwarded-proto") === "https";
    if (returned) cookies.push(returnedCookie(returned, secure));
    return seeOther(location, cookies);
  } catch (error) {
    if (error instanceof ApiError) return refusal(error.status, error.message);
    throw error;
  }
}
