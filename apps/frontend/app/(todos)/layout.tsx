import type { ReactNode } from "react";
import { AccountMenu } from "@/components/account/account-menu";
import { AssistantSlot } from "@/components/assistant/assistant-slot";
import { Header } from "@/components/header";
import { TodoApp } from "@/components/todo-app";
import { FIRST_PAGE, leanPage } from "@/lib/known-todos";
import { address, callersApi, orSignIn, owner, signIn } from "@/lib/session";
import { settings } from "@/lib/settings";

/**
 * The list is here and not in the pages below, which are its three addresses: so it is fetched once
 * and keeps its state while the filter changes.
 */
export default async function TodosLayout({ children }: { children: ReactNode }) {
  const api = (await callersApi()) ?? (await signIn());
  const after = (await address()).searchParams.get("after");
  // Without the list the page still comes, says so and goes on trying.
  const [user, first] = await Promise.all([
    orSignIn("account", owner(api)),
    orSignIn("todos", api.page(FIRST_PAGE, after)),
  ]);
  return (
    <>
      <Header environment={settings().environment}>
        <AccountMenu email={user?.email ?? null} />
      </Header>
      <main>
        <TodoApp
          first={first && leanPage(first)}
          fromMiddle={after !== null}
          user={user === null ? null : { id: user.id, email: user.email }}
          idempotencyKey={crypto.randomUUID()}
        />
        <AssistantSlot />
        {children}
      </main>
    </>
  );
}
