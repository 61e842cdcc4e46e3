import { handle } from "@/lib/server/handle";
import { todoForm } from "@/lib/server/todo-form";

export { nothing as default } from "@/lib/server/handle";
export const getServerSideProps = handle("POST", todoForm);
