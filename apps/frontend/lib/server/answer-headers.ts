import { hostname } from "node:os";
import { contentSecurityPolicy, SECURITY_HEADERS } from "./security-headers";

/** The pod's name. Not from $HOSTNAME, which is the address on which Next listens. */
const servedBy = `todo-frontend/${hostname()}`;

const development = process.env.NODE_ENV === "development";

export function answerHeaders(): [string, string][] {
  const nonce = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
  return [
    ["content-security-policy", contentSecurityPolicy(nonce, development)],
    ["x-served-by", servedBy],
    ...SECURITY_HEADERS.map(([name, value]): [string, string] => [name, value]),
  ];
}
