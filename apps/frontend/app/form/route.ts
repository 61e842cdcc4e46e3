import { createApi } from "@/lib/api";
import { destination, performForm, sameOrigin } from "@/lib/form-actions";
import { settings } from "@/lib/settings";

export async function POST(request: Request): Promise<Response> {
  if (!sameOrigin(request.headers)) {
    return new Response("This form was sent from another site.\n", { status: 403 });
  }
  const form = await request.formData();
  const api = createApi({ baseUrl: settings().apiBaseUrl, timeout: 5_000 });
  let failure: unknown;
  try {
    await performForm(api, form);
  } catch (error) {
    console.error("form:", error instanceof Error ? error.message : error);
    failure = error;
  }
  // 303: reloading the page that follows does not send the form again.
  return new Response(null, { status: 303, headers: { location: destination(form, failure) } });
}
