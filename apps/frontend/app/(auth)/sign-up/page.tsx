import type { Metadata } from "next";
import { EnterPage, type Query } from "@/components/account/enter-page";

export const metadata: Metadata = { title: "Create your account · Todos" };

export default function SignUpPage({ searchParams }: { searchParams: Query }) {
  return <EnterPage mode="sign-up" query={searchParams} />;
}
