import { useRouter } from "next/router";
import { useEffect } from "react";
import type { TodosProps } from "@/lib/server/todos-props";
import { AccountMenu } from "./account/account-menu";
import { AssistantSlot } from "./assistant/assistant-slot";
import { Header } from "./header";
import { TodoApp } from "./todo-app";

/** The list, under the address of each filter. */
export function TodosPage({ environment, ...list }: TodosProps) {
  const router = useRouter();
  useEffect(() => {
    // The list follows the address by itself (lib/page/address.ts); Next would ask the server for it.
    router.beforePopState(() => false);
  }, [router]);
  return (
    <>
      <Header environment={environment}>
        <AccountMenu user={list.user} />
      </Header>
      <main>
        <TodoApp {...list} />
        <AssistantSlot user={list.user?.id} />
      </main>
    </>
  );
}
