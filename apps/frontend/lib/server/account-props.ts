import type { GetServerSideProps } from "next";
import type { PageUser } from "@/components/todo-app";
import { answer, callersApi, orSignIn, queried, signIn } from "./session";
import { settings } from "./settings";

export interface AccountProps {
  environment: string;
  user: PageUser | null;
  failed: string | null;
  changed: boolean;
}

export const accountProps: GetServerSideProps<AccountProps> = (context) =>
  answer(context, async () => {
    const api = callersApi(context) ?? signIn(context);
    const user = await orSignIn(context, "account", api.me());
    return {
      environment: settings().environment,
      user: user && { id: user.id, email: user.email },
      failed: queried(context, "failed"),
      changed: queried(context, "changed") !== null,
    };
  });
