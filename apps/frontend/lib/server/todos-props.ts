import type { GetServerSideProps } from "next";
import type { PageUser } from "@/components/todo-app";
import { FIRST_PAGE, type FirstPage, leanPage } from "@/lib/todos/known-todos";
import { answer, callersApi, orSignIn, owner, queried, signIn } from "./session";
import { settings } from "./settings";

export interface TodosProps {
  environment: string;
  address: string;
  first: FirstPage | null;
  fromMiddle: boolean;
  user: PageUser | null;
  idempotencyKey: string;
}

export const todosProps: GetServerSideProps<TodosProps> = (context) =>
  answer(context, async () => {
    const api = callersApi(context) ?? signIn(context);
    const after = queried(context, "after");
    // Without the list the page still renders, reports it and retries.
    const [user, first] = await Promise.all([
      orSignIn(context, "account", owner(context, api)),
      orSignIn(context, "todos", api.page(FIRST_PAGE, after)),
    ]);
    return {
      environment: settings().environment,
      address: context.resolvedUrl,
      first: first && leanPage(first),
      fromMiddle: after !== null,
      user: user && { id: user.id, email: user.email },
      idempotencyKey: crypto.randomUUID(),
    };
  });
