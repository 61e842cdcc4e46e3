import type { ReactNode } from "react";
import { Header } from "@/components/header";
import { TodoApp } from "@/components/todo-app";
import { createApi } from "@/lib/api";
import type { Todo } from "@/lib/api-types";
import { settings } from "@/lib/settings";

/**
 * The list is here and not in the pages below, which are its three addresses: so it is fetched once
 * and keeps its state while the filter changes.
 */
export default async function TodosLayout({ children }: { children: ReactNode }) {
  const { environment, apiBaseUrl } = settings();
  const todos = await firstList(apiBaseUrl);
  return (
    <>
      <Header environment={environment} />
      <main>
        <TodoApp todos={todos} idempotencyKey={crypto.randomUUID()} />
        {children}
      </main>
    </>
  );
}

/** Null when the backend is away: the page still comes, says so and goes on trying. */
async function firstList(baseUrl: string): Promise<Todo[] | null> {
  try {
    // The backend itself waits up to two seconds for a database that wakes up.
    return await createApi({ baseUrl, timeout: 3_000 }).list();
  } catch (error) {
    console.error(`todos from ${baseUrl}:`, error instanceof Error ? error.message : error);
    return null;
  }
}
