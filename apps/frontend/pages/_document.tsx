import Document, { type DocumentContext, type DocumentInitialProps, Head, Html, Main, NextScript } from "next/document";
import { nonceOf } from "@/lib/security-headers";
import { recover } from "@/lib/stale-assets";

interface Props extends DocumentInitialProps {
  /** Of the answer's policy; empty where a build makes the page. */
  nonce: string;
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
        <Head nonce={nonce}>
          <meta name="color-scheme" content="light dark" />
          <meta name="theme-color" content="#f3f1ec" media="(prefers-color-scheme: light)" />
          <meta name="theme-color" content="#131518" media="(prefers-color-scheme: dark)" />
          <meta name="description" content="What needs to be done, and what is." />
          <link rel="icon" href="/icon.svg" sizes="any" type="image/svg+xml" />
          <script nonce={nonce} dangerouslySetInnerHTML={{ __html: `(${recover.toString()})()` }} />
        </Head>
        <body>
          <Main />
          <NextScript nonce={nonce} />
        </body>
      </Html>
    );
  }
}
