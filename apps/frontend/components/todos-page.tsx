import { useRouter } from "next/router";
import { useEffect, useState } from "react";
import { createApi } from "@/lib/api/api";
import type { TodosProps } from "@/lib/server/todos-props";
import { TodoStore } from "@/lib/todos/todo-store";
import { AccountMenu } from "./account/account-menu";
import { AssistantSlot } from "./assistant/assistant-slot";
import { Header } from "./header";
import { TodoApp } from "./todo-app";

export function TodosPage({ environment, first, user, ...list }: TodosProps) {
  const [store] = useState(() => new TodoStore(createApi({ user: user?.id }), first, user?.id ?? null));
  const router = useRouter();
  useEffect(() => {
    // The list follows the address without a request (lib/page/address.ts).
    router.beforePopState(() => false);
  }, [router]);
  return (
    <>
      <Header environment={environment}>
        <AccountMenu user={user} settle={() => store.settle()} />
      </Header>
      <main>
        <TodoApp {...list} store={store} next={first?.next ?? null} user={user} />
        <AssistantSlot user={user?.id} todos={store} />
      </main>
    </>
  );
}
