/**
 * The shapes of `/api/v1`, and nothing else: this file is to be replaced by one generated from the
 * backend's OpenAPI, so no behaviour belongs here.
 */

export interface Todo {
  id: string;
  title: string;
  completed: boolean;
  order: number;
  /** Absolute, as the caller sees it. */
  url: string;
}

export interface TodoCreate {
  title: string;
  order?: number | null;
}

export interface TodoUpdate {
  title?: string;
  completed?: boolean;
  order?: number;
}

/** RFC 9457. */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  instance?: string;
}
