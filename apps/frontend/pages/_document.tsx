import Document, { type DocumentContext, type DocumentInitialProps, Head, Html, Main, NextScript } from "next/document";
import { nonceOf } from "@/lib/server/security-headers";
import { recover } from "@/lib/page/stale-assets";

interface Props extends DocumentInitialProps {
  /** The nonce of the answer's policy; empty during a build. */
  nonce: string;
}

type Params = Record<string, { otherChunks: string[] }>;

/**
 * Makes a page also wait for the files of `_app`, which contain its first module. Next lists them only for `_app` and relies
 * on the order of scripts, which a repeated request does not keep.
 */
class PageHead extends Head {
  override render() {
    const { buildManifest, __NEXT_DATA__ } = this.context;
    const { "/_app": app, [__NEXT_DATA__.page]: own, ...rest } = (buildManifest.pagesChunkGroupBootstrapParams ?? {}) as Params;
    if (app && own) {
      const both = { ...own, otherChunks: [...new Set([...app.otherChunks, ...own.otherChunks])] };
      const params = { ...rest, "/_app": app, [__NEXT_DATA__.page]: both };
      this.context.buildManifest = { ...buildManifest, pagesChunkGroupBootstrapParams: params };
    }
    return super.render();
  }
}

export default class Page extends Document<Props> {
  static override async getInitialProps(context: DocumentContext): Promise<Props> {
    const policy = context.res?.getHeader("content-security-policy");
    return { ...(await Document.getInitialProps(context)), nonce: nonceOf(policy) ?? "" };
  }

  override render() {
    const { nonce } = this.props;
    return (
      <Html lang="en">
        <PageHead nonce={nonce}>
          <meta name="color-scheme" content="light dark" />
          <meta name="theme-color" content="#f3f1ec" media="(prefers-color-scheme: light)" />
          <meta name="theme-color" content="#131518" media="(prefers-color-scheme: dark)" />
          <meta name="description" content="What needs to be done, and what is." />
          <link rel="icon" href="/icon.svg" sizes="any" type="image/svg+xml" />
          <script nonce={nonce} dangerouslySetInnerHTML={{ __html: `(${recover.toString()})()` }} />
        </PageHead>
        <body>
          <Main />
          <NextScript nonce={nonce} />
        </body>
      </Html>
    );
  }
}
