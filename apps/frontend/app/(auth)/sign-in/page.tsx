import type { Metadata } from "next";
import { EnterPage, type Query } from "@/components/account/enter-page";

export const metadata: Metadata = { title: "Sign in · Todos" };

export default function SignInPage({ searchParams }: { searchParams: Query }) {
  return <EnterPage mode="sign-in" query={searchParams} />;
}
