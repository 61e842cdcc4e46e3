export { TodosPage as default } from "@/components/todos-page";
export { todosProps as getServerSideProps } from "@/lib/server/todos-props";
