
export interface Settings {
  /** The API's URL for this server; the browser never sees it. */
  apiBaseUrl: string;
  environment: string;
}

/** Reads the ConfigMap's values per call, because a build would freeze module-level values. */
export function settings(env: NodeJS.ProcessEnv = process.env): Settings {
  return {
    apiBaseUrl: (env.API_BASE_URL?.trim() || "http://127.0.0.1:8000").replace(/\/+$/, ""),
    environment: env.ENVIRONMENT?.trim() || "dev",
  };
}
