export { Directory as default } from "@/members/Directory";
