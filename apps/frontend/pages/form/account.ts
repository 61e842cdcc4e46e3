import { accountForm } from "@/lib/server/account-form";
import { handle } from "@/lib/server/handle";

export { nothing as default } from "@/lib/server/handle";
export const getServerSideProps = handle("POST", accountForm);
