import type { Item } from "./operations";

export const FILTERS = [
  { name: "All", path: "/", shows: () => true },
  { name: "Active", path: "/active", shows: (item: Item) => !item.completed },
  { name: "Completed", path: "/completed", shows: (item: Item) => item.completed },
] as const;

export type Filter = (typeof FILTERS)[number];

export function filterOf(path?: string | null): Filter {
  return FILTERS.find((filter) => filter.path === path) ?? FILTERS[0];
}
