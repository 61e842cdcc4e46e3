import { handle } from "@/lib/server/handle";
import { health } from "@/lib/server/health";

export { nothing as default } from "@/lib/server/handle";
export const getServerSideProps = handle("GET", health);
