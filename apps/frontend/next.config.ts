import type { NextConfig } from "next";
import { SECURITY_HEADERS } from "./lib/server/security-headers";

// Must not depend on the environment: one image serves every environment, and this is frozen into the build.
// lib/server/settings.ts reads such settings per request.
const config: NextConfig = {
  output: "standalone",
  // Otherwise a lockfile in a parent folder would become the root and change the standalone layout.
  outputFileTracingRoot: import.meta.dirname,
  turbopack: { root: import.meta.dirname },
  // No page uses the image optimizer, so its 30 MB of native libraries stay out of the image.
  images: { unoptimized: true },
  outputFileTracingExcludes: {
    "*": ["node_modules/sharp/**", "node_modules/@img/**", "node_modules/typescript/**"],
  },
  // The image's `test` target checks types, so the build does not.
  typescript: { ignoreBuildErrors: process.env.SKIP_TYPES === "1" },
  // The content tag, so that pods of one version have the same file addresses.
  generateBuildId: () => process.env.BUILD_ID || null,
  // No image contains the server's source maps, which take an eighth of a one-line build. `next dev` has them.
  experimental: process.env.NODE_ENV === "development" ? {} : { turbopackSourceMaps: false },
  poweredByHeader: false,
  // Each answer has its own nonce, so an ETag is useless.
  generateEtags: false,
  reactStrictMode: true,
  // Not for pages: listen.mjs answers a GET of one without the headers, redirects and rewrites of this file.
  headers() {
    const headers = SECURITY_HEADERS.map(([key, value]) => ({ key, value }));
    return Promise.resolve(["/_next/static/:file*", "/icon.svg"].map((source) => ({ source, headers })));
  },
  // `next dev` has no ingress that routes /api to the backend. In production, /api reaches this server only through a wrong
  // route, and then gets "page not found".
  rewrites() {
    const backend = process.env.API_BASE_URL ?? "http://127.0.0.1:8000";
    const api = { source: "/api/:path*", destination: `${backend}/api/:path*` };
    return Promise.resolve(process.env.NODE_ENV === "development" ? [api] : []);
  },
};

export default config;
