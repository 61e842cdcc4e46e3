import { Failure } from "@/components/failure";

export default function ServerErrorPage() {
  return <Failure />;
}
