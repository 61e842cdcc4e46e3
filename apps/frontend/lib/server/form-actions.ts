import { type Api, ApiError } from "@/lib/api/api";
import { formText } from "@/lib/page/form-text";
import { filterOf } from "@/lib/todos/filters";

/**
 * What the page's forms do when they are sent as plain forms: before its JavaScript has arrived, or
 * without any. With it, TodoStore does the same in place.
 */
export async function performForm(api: Api, form: FormData): Promise<void> {
  const text = (name: string) => formText(form, name);
  // What the pressed button carries: a verb, then what it is about.
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
      throw new ApiError("This form asks for an unknown action.", 400);
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

/** A form from another site must not act here. Where a browser does not say, the backend decides by the origin. */
export function sameOrigin(headers: Headers): boolean {
  const site = headers.get("sec-fetch-site");
  return site === null ? headers.has("origin") : site === "same-origin";
}
