import type { GetServerSideProps } from "next";
import { afterSignIn, type Mode } from "./account-forms";
import { readReturned, RETURNED_COOKIE, type Returned } from "./returned-form";
import { answer, callerIfAny, queried, redirect } from "@/lib/server/session";
import { settings } from "@/lib/server/settings";

export interface EnterProps {
  environment: string;
  mode: Mode;
  next: string | null;
  title: string | null;
  notice: string | null;
  returned: Returned | null;
}

export const enterProps =
  (mode: Mode): GetServerSideProps<EnterProps> =>
  (context) =>
    answer(context, async () => {
      const [next, title] = [queried(context, "next"), queried(context, "title")];
      if (await callerIfAny(context)) redirect(afterSignIn(next, title));
      const cookie = context.req.cookies[RETURNED_COOKIE];
      // Only this page shows it, not the next one.
      if (cookie !== undefined && context.req.method === "GET") {
        context.res.appendHeader("set-cookie", `${RETURNED_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax`);
      }
      const returned = readReturned(cookie, mode);
      return { environment: settings().environment, mode, next, title, notice: queried(context, "notice"), returned };
    });
