import { enterProps } from "@/lib/account/enter-props";

export { EnterPage as default } from "@/components/account/enter-page";
export const getServerSideProps = enterProps("sign-up");
