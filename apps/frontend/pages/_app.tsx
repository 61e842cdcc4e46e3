import type { AppProps } from "next/app";
import Head from "next/head";
import { ErrorBoundary } from "@/components/error-boundary";
import "@/components/globals.css";

export default function App({ Component, pageProps }: AppProps) {
  return (
    <ErrorBoundary>
      <Head>
        <meta name="viewport" content="width=device-width, initial-scale=1" />
      </Head>
      <Component {...pageProps} />
    </ErrorBoundary>
  );
}
