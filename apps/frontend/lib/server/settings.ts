
export interface Settings {
  /** Where this server reaches the API; the browser never sees it. */
  apiBaseUrl: string;
  environment: string;
}

/** Read per call, never at module level: a build must not freeze what the ConfigMap says. */
export function settings(env: NodeJS.ProcessEnv = process.env): Settings {
  return {
    apiBaseUrl: (env.API_BASE_URL?.trim() || "http://127.0.0.1:8000").replace(/\/+$/, ""),
    environment: env.ENVIRONMENT?.trim() || "dev",
  };
}
