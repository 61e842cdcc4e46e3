import type { NextConfig } from "next";
import { SECURITY_HEADERS } from "./lib/server/security-headers";

// Nothing that depends on the environment here: it is frozen into the build, and one image has to serve
// every environment. Such things are read per request (lib/server/settings.ts).
const config: NextConfig = {
  output: "standalone",
  // A lockfile further up would otherwise be taken for the root and change the standalone layout.
  outputFileTracingRoot: import.meta.dirname,
  turbopack: { root: import.meta.dirname },
  // No picture passes the image optimizer, so its 30 MB of native libraries stay out of the image.
  images: { unoptimized: true },
  outputFileTracingExcludes: {
    "*": ["node_modules/sharp/**", "node_modules/@img/**", "node_modules/typescript/**"],
  },
  // The image's `test` target checks them; its build skips what it would only repeat.
  typescript: { ignoreBuildErrors: process.env.SKIP_TYPES === "1" },
  // The content tag: the pods of one version agree on the addresses of its files.
  generateBuildId: () => process.env.BUILD_ID || null,
  // The server's maps, which no image contains: an eighth of a one-line build. `next dev` has them for debuggers.
  experimental: process.env.NODE_ENV === "development" ? {} : { turbopackSourceMaps: false },
  poweredByHeader: false,
  // No two answers are the same: each has its nonce.
  generateEtags: false,
  reactStrictMode: true,
  headers() {
    const headers = SECURITY_HEADERS.map(([key, value]) => ({ key, value }));
    return Promise.resolve(["/_next/static/:file*", "/icon.svg"].map((source) => ({ source, headers })));
  },
  // `next dev` has no ingress before it that takes /api to the backend. In production an ingress that sends /api here is a
  // mistake, and the page that is not found shows it.
  rewrites() {
    const backend = process.env.API_BASE_URL ?? "http://127.0.0.1:8000";
    const api = { source: "/api/:path*", destination: `${backend}/api/:path*` };
    return Promise.resolve(process.env.NODE_ENV === "development" ? [api] : []);
  },
};

export default config;
