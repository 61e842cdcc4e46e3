import { type Api, ApiError } from "@/lib/api/api";
import { formText } from "@/lib/page/form-text";
import { filterOf } from "@/lib/todos/filters";

/**
 * The actions of the page's forms if they are sent without JavaScript. With JavaScript, TodoStore
 * does the same without leaving the page.
 */
export async function performForm(api: Api, form: FormData): Promise<void> {
  const text = (name: string) => formText(form, name);
  // The value of the pressed button: a verb, then its object.
  const [verb, ...about] = text("do").split(" ");
  const completed = about.at(-1) === "true";
  const id = about[0] ?? "";
  switch (verb) {
    case "add": {
      const title = text("title").trim();
      if (title) await api.create({ title }, text("idempotency-key") || crypto.randomUUID());
      return;
    }
    case "toggle":
      await api.update(id, { completed });
      return;
    case "remove":
      await api.remove(id);
      return;
    case "toggle-all":
      await api.toggleAll(completed);
      return;
    case "clear-completed":
      await api.removeCompleted();
      return;
    default:
      throw new ApiError("This form requests an unknown action.", 400);
  }
}

export function destination(form: FormData, error?: unknown): string {
  const { path } = filterOf(formText(form, "back"));
  if (error === undefined) return path;
  const title = formText(form, "title");
  const query = new URLSearchParams({
    failed: error instanceof ApiError && !error.transient ? "refused" : "unavailable",
    ...(title && { title: title.slice(0, 500) }),
  });
  return `${path}?${query.toString()}`;
}

/** Rejects forms from other sites. If the browser does not send the site, the backend checks the origin. */
export function sameOrigin(headers: Headers): boolean {
  const site = headers.get("sec-fetch-site");
  return site === null ? headers.has("origin") : site === "same-origin";
}
