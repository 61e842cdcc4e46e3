import type { Metadata, Viewport } from "next";
import { headers } from "next/headers";
import type { ReactNode } from "react";
import { nonceOf } from "@/lib/server/security-headers";
import { recover } from "@/lib/page/stale-assets";
import "./globals.css";

// Every page is made per request: it holds a nonce, and settings that a build must not freeze.
export const dynamic = "force-dynamic";

export const metadata: Metadata = {
  title: "Todos",
  description: "What needs to be done, and what is.",
};

export const viewport: Viewport = {
  colorScheme: "light dark",
  themeColor: [
    { media: "(prefers-color-scheme: light)", color: "#f3f1ec" },
    { media: "(prefers-color-scheme: dark)", color: "#131518" },
  ],
};

export default async function RootLayout({ children }: { children: ReactNode }) {
  const nonce = nonceOf((await headers()).get("content-security-policy"));
  return (
    <html lang="en">
      <head>
        {/* A browser hides the nonce from scripts, so it is never what React expects. */}
        <script nonce={nonce} suppressHydrationWarning dangerouslySetInnerHTML={{ __html: `(${recover.toString()})()` }} />
      </head>
      <body>{children}</body>
    </html>
  );
}
