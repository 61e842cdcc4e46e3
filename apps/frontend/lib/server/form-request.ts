import { type Api, type ApiOptions, createApi } from "@/lib/api/api";
import { formText } from "@/lib/page/form-text";
import { fetchAgain } from "./fetch-again";
import { sameOrigin } from "./form-actions";
import { forwarded, type ReadHeader } from "./forwarded";
import { settings } from "./settings";

/** Enough for all forms: a title has 500 characters, an email 254. */
const LONGEST_FORM = 64 * 1024;

/**
 * Returns the API for the caller. `header` reads the caller's headers; `keep` receives each cookie that
 * the API sets. `form` names the page's user. `send` sends the requests.
 */
export function apiFor(
  header: ReadHeader,
  timeout: number,
  keep: (cookie: string) => unknown = () => undefined,
  { form, send = fetchAgain }: { form?: FormData; send?: ApiOptions["fetch"] } = {},
): Api {
  return createApi({
    user: form && formText(form, "user"),
    baseUrl: settings().apiBaseUrl,
    timeout,
    headers: forwarded(header),
    fetch: send,
    onAnswer: (response) => {
      for (const cookie of response.headers.getSetCookie()) keep(cookie);
    },
  });
}

export async function readForm(request: Request): Promise<FormData | Response> {
  if (!sameOrigin(request.headers)) return refusal(403, "This form was sent from another site.");
  const length = Number(request.headers.get("content-length") ?? Number.NaN);
  if (!(length <= LONGEST_FORM)) return refusal(413, "This form is too long.");
  try {
    return await request.formData();
  } catch {
    return refusal(400, "This is not a form.");
  }
}

/** 303, so that reloading the next page does not send the form again. */
export function seeOther(location: string, cookies: string[]): Response {
  const headers = new Headers({ location, "cache-control": "no-store" });
  for (const cookie of cookies) headers.append("set-cookie", cookie);
  return new Response(null, { status: 303, headers });
}

export function refusal(status: number, text: string): Response {
  return new Response(`${text}\n`, { status, headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" } });
}
